"""Where a benchmark's figures go: results/<name>.json, with the machine and the versions."""

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path

import kit

RESULTS = Path(__file__).parent / "results"


def keep(name, **figures):
    """Write the figures (estimates as their dicts) and print them."""
    told = {
        key: value.to_dict() if isinstance(value, kit.Estimate) else value
        for key, value in figures.items()
    }
    record = {"date": date.today().isoformat(), "machine": asdict(kit.machine()), **told}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for key, value in figures.items():
        print(f"{key}: {value}")
