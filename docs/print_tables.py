"""Print the tables of results.md again, from what the benchmarks have kept.

    python docs/print_tables.py           # all; measures nothing
    python docs/print_tables.py serving   # those of some scripts

A table stands below the paragraph that names its command, and ends with the comment END. Run this
after each new result: *All figures, before and now* changes with each.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("results.md")
END = "<!-- end of the table -->"
TABLES = (  # what prints each table of the page
    "eight_workloads.py",
    "inference_ladder.py table",
    "time_to_loss.py table",
    "kv_cache.py table",
    "generation.py table",
    "serving.py table",
    "serving_flood.py table",
    "serving.py table --into serving_steady",
    "edge.py table",
    "drift_quality.py --table",
    "continuous_batching.py table",
    "traffic_quality.py table",
    "measurement_quality.py table",
    "predict_overhead.py table",
    "import_time.py table",
    "run_overhead.py table",
    "interval_quality.py short",
    "lifetime_quality.py table",
    "longer_runs.py",
    "torture.py table",
    "before_and_after.py",  # reads the history of the repository
    "keeping.py",
)


def replaced(page: str, command: str, printed: str) -> str:
    """The page with this below the paragraph of the command, in place of what was there."""
    before, named, after = page.partition(f"`python benchmarks/{command}`")
    says, _, more = after.partition("\n\n")
    _, end, rest = more.partition(END)
    if not named or not end:
        raise SystemExit(f"{PAGE.name} needs `python benchmarks/{command}` and, below it, {END}.")
    return f"{before}{named}{says}\n\n{printed.strip()}\n\n{END}{rest}"


def main(names: list[str]) -> None:
    """Renew the tables of these scripts; without names, all."""
    if unknown := set(names) - {Path(command.split()[0]).stem for command in TABLES}:
        raise SystemExit(f"{', '.join(unknown)}: prints no table of {PAGE.name}.")
    page = PAGE.read_text(encoding="utf-8")
    for command in TABLES:
        script, *words = command.split()
        if not names or Path(script).stem in names:
            program = [sys.executable, str(PAGE.parents[1] / "benchmarks" / script), *words]
            done = subprocess.run(program, check=True, stdout=subprocess.PIPE, encoding="utf-8")
            page = replaced(page, command, done.stdout)
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
