"""What each part of the kit survives: kill -9, a full disk, a clock that jumps …

Every part that keeps something meets every blow once, in an order that the seed decides, and then
again with other moments until the time is over. Each trial is kept as it ends. If the time was over
before the end of the first round, or the script was stopped, the same command goes on.

    python benchmarks/torture.py --minutes 10 --seed 0     # what `make torture` does
    python benchmarks/torture.py table                     # the table from the last result
"""

import argparse
import contextlib
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
HARNESS = FOLDER.parent / "tools" / "torture"
sys.path[:0] = [str(HARNESS.parent), str(FOLDER.parent)]  # `torture` is the folder, not this file

import keeping  # noqa: E402
from torture.cells import all_cells, round_of  # noqa: E402
from torture.children import OLDEST, Warm  # noqa: E402
from torture.places import Clock, enter  # noqa: E402
from torture.trial import attempt  # noqa: E402

LONGEST_TRIAL_S = 120
LONG_MINUTES = 60  # from here on, a suspended computer sleeps for a minute


def main():
    """Try until the time is over and keep the table; the exit code says if all survived."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=("run", "table"), default="run")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", default="0")
    asked = parser.parse_args()
    if asked.what == "table":
        print(table(json.loads((keeping.RESULTS / "torture.json").read_text("utf-8"))))
        return 0
    if OLDEST and subprocess.call([OLDEST, "-c", "import kit"], cwd=FOLDER.parent):
        sys.exit(f"{OLDEST} cannot import the kit (see above): make it again with `make oldest`.")
    enter([sys.executable, *sys.orig_argv[1:]])
    trials = run(asked.seed, asked.minutes)
    cells = summary(trials)
    figures = {"seed": asked.seed, "minutes": asked.minutes, "trials": len(trials), "cells": cells}
    with contextlib.redirect_stdout(None):  # it would print the cells, and the table has them
        keeping.keep("torture", **figures)
    print(f"\n{table(figures)}")
    return int(any(cell["survived"] < cell["tried"] for cell in cells.values()))


def run(seed, minutes):
    """All trials of this seed: those kept before, and as many as fit into the time."""
    digest = hashlib.sha256(b"".join(p.read_bytes() for p in sorted(HARNESS.glob("*.*"))))
    parts = keeping.Parts("torture", seed=seed, harness=digest.hexdigest()[:16])
    left_s, trials, long = 60 * minutes, {}, minutes >= LONG_MINUTES
    with tempfile.TemporaryDirectory(prefix="kit-torture-") as folder:
        warm, number = Warm(Clock(Path(folder))), 0
        while number == 0 or left_s > 0:
            of = f"{seed}/{number}"
            for part, blow in round_of(of):
                name = f"{part.name} / {blow.name} / {of}"
                known, began = name in parts.kept, time.monotonic()
                if left_s <= 0 and not known:
                    break
                once = partial(attempt, part, blow, warm, of, long)
                trials[name] = parts.once(name, once)
                # More is the sleep of this computer, and not of a trial.
                left_s -= min(time.monotonic() - began, LONGEST_TRIAL_S)
                tell(name, trials[name], known)
            number += 1
        warm.stop()
    if number > 1 or len(trials) == len(round_of(seed)):
        parts.complete()
    return trials


def tell(name, trial, known):
    """A line for each trial, and one for each problem."""
    word = "survived" if trial["survived"] else "NOT SURVIVED"
    print(
        f"{name}: {word}{' before' if known else ''}", *trial["problems"], sep="\n    ", flush=True
    )


def summary(trials):
    """Part and blow -> how often it was tried and survived, or why it was not."""
    cells = {}
    for part, blow in all_cells():
        mine = [t for t in trials.values() if (t["part"], t["blow"]) == (part.name, blow.name)]
        cells[f"{part.name} / {blow.name}"] = {
            "tried": len(mine),
            "survived": sum(t["survived"] for t in mine),
            "said": next((t["said"] for t in mine if t["said"]), ""),
            "problems": [f"{t['seed']}: {p}" for t in mine for p in t["problems"]],
            "why_not": blow.why_not(part) or ("" if mine else "the time was over before"),
        }
    return cells


def table(kept):
    """A row for each part and blow, as Markdown."""
    lines = ["| part | blow | tried | survived | what it said, or why it was not tried |"]
    lines.append("| --- " * 5 + "|")
    for name, cell in kept["cells"].items():
        part, blow = name.split(" / ")
        counts = f"{cell['tried']} | {cell['survived']}" if cell["tried"] else "– | –"
        lines.append(f"| {part} | {blow} | {counts} | {cell['why_not'] or shown(cell)} |")
    return "\n".join(lines)


def shown(cell):
    """What is shown of a cell that was tried: what went wrong, or the last thing that was said."""
    text = "; ".join(cell["problems"]) or cell["said"]
    text = text.replace("|", "\\|")
    return text if len(text) < 160 else text[:159] + "…"


if __name__ == "__main__" and (code := main()):
    sys.exit(code)
