"""Where a benchmark's figures go: results/<name>.json, with the machine and the versions.

keep             the figures of this machine
keep_of_gpu      those of its GPU, whose name is part of the file's
sizes_asked      the command line of the scripts that measure GPTs of several sizes on a GPU
"""

import argparse
import json
import re
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

import kit

RESULTS = Path(__file__).parent / "results"


def keep(name, **figures):
    """Write the figures (estimates as their dicts) and print them."""
    told = {
        key: value.to_dict() if isinstance(value, kit.statistics.Estimate) else value
        for key, value in figures.items()
    }
    record = {"date": date.today().isoformat(), "machine": asdict(kit.machine()), **told}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    for key, value in figures.items():
        print(f"{key}: {value}")


def keep_of_gpu(stem, **figures):
    """Write and print the figures of the GPU that is here."""
    name = torch.cuda.get_device_name()
    told = {"gpu": name, "cuda": torch.version.cuda, **figures}
    keep(f"{stem}_" + re.sub(r"[^a-z0-9]+", "-", name.lower()), **told)


def sizes_asked(about, sizes):
    """(names of the sizes to measure, whether only to try it small), from the command line."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--size", choices=sizes, action="append", help="may be given again")
    parser.add_argument("--small", action="store_true", help="tiny, on the CPU; keeps nothing")
    asked = parser.parse_args()
    return asked.size or list(sizes), asked.small
