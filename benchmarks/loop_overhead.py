"""What a training loop costs per step: by hand, by kit.train, and by the loops of others.

    python3 -m venv ../peers && . ../peers/bin/activate   # apart: the kit needs none of them
    pip install torch==2.13.0                             # or as your computer needs it
    pip install -c constraints.txt -e ".[lab]" -r benchmarks/requirements-loops.txt
    pip install --no-deps "fastai>=2.8"                   # its requirements name torchvision
    python benchmarks/loop_overhead.py                    # ten minutes, on a machine left alone
    python benchmarks/loop_overhead.py --kit --rounds 20  # kit.train and the bare loop, a minute
    python benchmarks/loop_overhead.py --table            # the saved figures

All train the same tiny MLP on the same batches in the same order with the same fused AdamW; only
the tutorial loop has the plain one, as tutorials do. First each must end with the weights of the
bare loop; one that does not is refused, not timed. What is not installed is left out, and named.

A fit is timed whole, from outside, at two lengths; the difference of the two divided by the
difference in steps is the time of a step. So work that a loop puts off to its end is still counted,
and what it does once per fit (its set-up) falls out; that is told apart. The feed is one long
epoch, so what others do between epochs falls out too; kit.train shuffles every 37 steps and that is
counted. Each fit stands beside one of the bare loop on ready batches, all four in random order, and
the ratio is taken within such a quartet.

Before each fit Python's garbage is collected, and modules that were loaded are left out of later
collections: nobody pays for another's. During a fit the collector does what the loop lets it do;
kit.train holds it.

The live curve is tried in a real Jupyter kernel, with and without, in pairs too.
"""

import argparse
import gc
import json
import logging
import random
import sys
import time
import warnings

import nbformat
import numpy as np
import torch
from keeping import RESULTS, Parts, keep
from loops import BATCH, FEEDS, LOOPS, PEERS, admitted, difference, fresh, version_of
from nbclient import NotebookClient

import kit
from kit.core.statistics import Estimate, median

ROUNDS, SHORT, LONG = 60, 111, 444  # steps: 3 and 12 of the kit's epochs
BARE, KIT, TUTORIAL = ("bare loop", "ready"), ("kit.train", "ready"), ("tutorial loop", "loader")

LIVE = """
import random, time, kit
from kit.core.statistics import bootstrap
kit.device("cpu")
work = kit.workloads.vision()

def seconds(live):
    model = work.model("mlp")
    started = time.perf_counter()
    kit.train(model, work, steps=1500, live=live)
    return time.perf_counter() - started

seconds(True), seconds(False)
ratios = []
for _ in range(40):
    order = random.sample([True, False], 2)
    taken = {live: seconds(live) for live in order}
    ratios.append(taken[True] / taken[False])
estimate = bootstrap(ratios, unit="×")
print(estimate.value, estimate.low, estimate.high)
"""


def fit_s(which, feed, work):
    """Seconds of one fit, from outside."""
    model = fresh()
    gc.collect()
    started = time.perf_counter()
    LOOPS[which](model, feed, work)
    return time.perf_counter() - started


def quartet(which, feeds, work):
    """A loop beside the bare one, both short and long: (2, 2) seconds; the order is drawn."""
    fits = [(loop, steps) for loop in (0, 1) for steps in (0, 1)]
    taken = np.empty((2, 2))
    for loop, steps in random.sample(fits, 4):
        name = (which, BARE)[loop]
        taken[loop, steps] = fit_s(name, feeds[name[1]][steps], work)
    return taken


def rounds(loops, n, once=lambda part, measure: measure()):
    """Loop -> (n, 2, 2) seconds of it and of the bare one, short and long; loops in turns.

    `once` keeps a round as soon as it is measured.
    """
    work = kit.workloads.vision()
    feeds = {name: [make(work, steps) for steps in (SHORT, LONG)] for name, make in FEEDS.items()}
    gc.collect()
    gc.freeze()
    taken = {which: [] for which in loops}
    for number in range(n):
        in_turns = random.sample(list(loops), len(loops))
        made = once(
            f"round {number}",
            lambda: {",".join(each): quartet(each, feeds, work).tolist() for each in in_turns},  # noqa: B023
        )
        for which in loops:
            taken[which].append(made[",".join(which)])
    gc.unfreeze()
    return {which: np.array(quartets) for which, quartets in taken.items()}


def steps_s(seconds):
    """Seconds per step of the loop and of the bare one: (n, 2)."""
    return (seconds[..., 1] - seconds[..., 0]) / (LONG - SHORT)


def figures(seconds):
    """What the quartets of one loop tell."""
    steps = steps_s(seconds)
    return {
        "step_s": median(steps[:, 0], "s").to_dict(),
        "to_bare": median(steps[:, 0] / steps[:, 1], "×").to_dict(),
        "setup_s": median(seconds[:, 0, 0] - SHORT * steps[:, 0], "s").to_dict(),
        "whole_fit_to_bare": median(seconds[:, 0, 1] / seconds[:, 1, 1], "×").to_dict(),
    }


def tutorial_to_kit(taken):
    """How many times as long a step of the tutorial loop takes, both in units of the bare one's."""
    units = [np.divide(*steps_s(taken[which]).T) for which in (TUTORIAL, KIT)]
    return median(units[0] / units[1], "×")


def live_ratio():
    """Time of kit.train with a live curve ÷ without, in a real kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LIVE)])
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    text = "".join(out.get("text", "") for out in notebook.cells[0].outputs)
    return Estimate(*map(float, text.split()), "×")


def measure(n, once=lambda part, measure: measure()):
    differs, refused = admitted(SHORT)
    if KIT in refused:
        sys.exit(f"kit.train is refused: {refused[KIT]}")
    taken = rounds(differs, n, once)
    loops = [
        {"loop": which[0], "feed": which[1], "weights_differ_by": apart, **figures(taken[which])}
        for which, apart in differs.items()
    ]
    distributions = {it for _, it in PEERS.values() if version_of(it)}
    return {
        "loops": loops,
        "tutorial_to_kit": tutorial_to_kit(taken),
        "refused": {f"{name}, {feed}": why for (name, feed), why in refused.items()},
        "versions": {it: version_of(it) for it in sorted(distributions)},
    }


def markdown():
    """The saved figures as a table."""
    saved = json.loads((RESULTS / "loop_overhead.json").read_text(encoding="utf-8"))
    text = lambda figure: repr(Estimate(**figure))  # noqa: E731
    lines = ["| loop | fed by | a step | ÷ bare loop | once per fit |", "|" + " --- |" * 5]
    lines += [
        f"| {row['loop']} | {row['feed']} | {text(row['step_s'])} | {text(row['to_bare'])} "
        f"| {text(row['setup_s'])} |"
        for row in saved["loops"]
    ]
    return "\n".join(lines)


def quiet():
    logging.disable(logging.WARNING)  # what others say at each fit
    warnings.simplefilter("ignore")
    kit.device("cpu")
    torch.set_num_threads(1)  # a layer this small is done before a second thread has woken up


def kit_only(n):
    """kit.train beside the bare loop, with no other package; nothing is saved."""
    quiet()
    apart, taken = difference(KIT, SHORT), rounds([KIT], n)[KIT]
    steps = steps_s(taken)
    print(f"weights differ by {apart:g}; a step takes {median(steps[:, 0], 's')!r},")
    print(f"{median(steps[:, 0] / steps[:, 1], '×')!r} of the bare loop's, {n} rounds")


def main(n):
    quiet()
    run = Parts("loop_overhead", rounds=n, machine=kit.machine().cpu)
    keep(
        "loop_overhead",
        **measure(n, run.once),
        live_curve=run.once("live curve", live_ratio),
        conditions=f"{n} rounds; {SHORT} and {LONG} steps, batch {BATCH}, {fresh()!r}",
    )
    run.complete()
    print(markdown())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of all loops, in turns")
    parser.add_argument("--table", action="store_true", help="print the saved figures only")
    parser.add_argument("--kit", action="store_true", help="only kit.train and the bare loop")
    asked = parser.parse_args()
    if asked.table:
        print(markdown())
    else:
        (kit_only if asked.kit else main)(asked.rounds)
