"""Try blows against parts, once or until the time is over; a line for each trial."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]

from torture.cells import asked_cells, trials  # noqa: E402
from torture.children import Warm  # noqa: E402
from torture.places import Clock, enter  # noqa: E402


def main() -> int:
    """The exit code: how many did not survive."""
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument(
        "--cells", default="", help="PART/BLOW, with commas; a part or a blow alone"
    )
    parser.add_argument("--seed", default="0", help="decides the moments and the order")
    parser.add_argument("--round", type=int, default=0, help="the first round")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="a line of JSON for each trial")
    asked = parser.parse_args()
    enter([sys.executable, *sys.orig_argv[1:]])
    failed = 0
    with tempfile.TemporaryDirectory(prefix="kit-torture-") as folder:
        warm = Warm(Clock(Path(folder)))
        for n in range(asked.round, asked.round + asked.rounds):
            for trial, took_s in trials(asked_cells(asked.cells), warm, f"{asked.seed}/{n}"):
                failed += not trial["survived"]
                print(json.dumps(trial) if asked.json else _line(trial, took_s), flush=True)
        warm.stop()
    return failed


def _line(trial: dict, took_s: float) -> str:
    word = "survived" if trial["survived"] else "NOT SURVIVED"
    first = f"{trial['part']} / {trial['blow']}: {word}, {took_s:.1f} s {trial['said']}"
    return "\n    ".join([first, *trial["problems"]])


if __name__ == "__main__":
    sys.exit(main())
