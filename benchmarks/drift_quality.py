"""How often do detectors of drift alarm for nothing, and how often do they notice a drift?

    python benchmarks/drift_quality.py              # 200 trials without drift, 100 per degree
    python benchmarks/drift_quality.py --trials 20  # a look; keeps nothing
    python benchmarks/drift_quality.py --table      # what was kept, as tables

A trial draws 300 digits as the reference and 100 others as today's, from 600 that the model never
trained on. Beside the kit's four detectors and all of them together stand plain Kolmogorov–Smirnov
tests of the ten outputs without a correction (scipy's, as often seen), and River's KSWIN and ADWIN
on the stream of the model's confidences. All trials draw from the same 600 digits, so they resemble
each other a little. Needs the extra `drift`; without it, River's rows are missing.
"""

import argparse
import json
from importlib.util import find_spec

import numpy as np
import torch
from keeping import RESULTS, Parts, keep
from scipy.stats import ks_2samp

import kit
from kit.core.statistics import Estimate, proportion
from kit.data import Split
from kit.monitoring import changed
from kit.monitoring.detectors import DETECTORS, WITH_MODEL, find, holm
from kit.monitoring.views import views_of

NAME = "drift_quality"
TRIALS, ALPHA, THEN, NOW = 200, 0.05, 300, 100
DEGREES = {  # kind of drift -> degrees, from weak to strong
    "rotation": (2, 5, 10, 15, 20),
    "noise": (0.05, 0.1, 0.2, 0.3, 0.4),
    "mix": (0.4, 0.5, 0.6, 0.7, 0.8),
}
TOGETHER, UNCORRECTED = "all together", "KS, uncorrected"


def trained():
    """A network that reads digits, and 600 that it never trained on."""
    kit.seed(0)
    work = kit.workloads.vision()
    model = work.model("mlp")
    kit.train(model, work, steps=400, live=False)
    held_out = zip(*(work.data[name] for name in ("validation", "test")), strict=True)
    return model, Split(*map(torch.cat, held_out))


def drawn(pool, trial):
    """Two random parts of the pool that have no example in common."""
    order = torch.randperm(len(pool.inputs), generator=torch.Generator().manual_seed(trial))
    parts = order[:THEN], order[THEN : THEN + NOW]
    return [Split(pool.inputs[rows], pool.targets[rows]) for rows in parts]


def alarms(model, then, now, trial):
    """Name -> whether it alarms."""
    before, today = (views_of(model, split.inputs) for split in (then, now))
    chosen = [DETECTORS[name] for name in WITH_MODEL]
    p = [each.p for each in find(chosen, before, today, np.random.default_rng(trial))]
    found = {name: alone < ALPHA for name, alone in zip(WITH_MODEL, p, strict=True)}
    found[TOGETHER] = min(holm(p)) < ALPHA
    columns = zip(before["outputs"].T, today["outputs"].T, strict=True)
    found[UNCORRECTED] = bool(min(ks_2samp(a, b).pvalue for a, b in columns) < ALPHA)
    if find_spec("river"):
        stream = [*before["confidence"][:, 0], *today["confidence"][:, 0]]
        found |= rivers_alarms(stream)
    return found


def rivers_alarms(stream):
    """Whether River's detectors report a change among today's values; earlier ones are not it."""
    from river.drift import ADWIN, KSWIN

    found = {}
    for name, detector in {"River KSWIN": KSWIN(seed=0), "River ADWIN": ADWIN()}.items():
        at = []
        for i, value in enumerate(stream):
            detector.update(float(value))
            at += [i] if detector.drift_detected else []
        found[name] = any(i >= THEN for i in at)
    return found


def shares(model, pool, trials, change=lambda split, trial: split):
    """Name -> the share of trials with an alarm, after a change of today's examples."""
    hits = []
    for trial in range(trials):
        then, now = drawn(pool, trial)
        hits.append(alarms(model, then, change(now, trial), trial))
    return {name: proportion(sum(hit[name] for hit in hits), trials) for name in hits[0]}


def power(model, pool, trials, kind):
    """Degree -> name -> the share of trials with an alarm; and the accuracy at that degree."""
    found = {}
    for degree in DEGREES[kind]:

        def change(split, trial, degree=degree):
            return changed(split, kind, degree, seed=trial)

        row = shares(model, pool, trials, change)
        whole = changed(pool, kind, degree)
        right = kit.predict(model, whole.inputs).argmax(1) == whole.targets
        found[str(degree)] = row | {"accuracy": proportion(int(right.sum()), len(right))}
    return found


def measured(trials):
    """All figures, as dicts of estimates."""
    model, pool = trained()
    return {
        "false_alarm_share": shares(model, pool, trials),
        "power_share": {k: power(model, pool, max(1, trials // 2), k) for k in DEGREES},
        "trials": trials,
        "alpha": ALPHA,
        "reference_examples": THEN,
        "now_examples": NOW,
    }


def plain(figures):
    """The figures as JSON: estimates as their dicts."""
    if isinstance(figures, Estimate):
        return figures.to_dict()
    if isinstance(figures, dict):
        return {name: plain(value) for name, value in figures.items()}
    return figures


def tables(kept):
    """The kept figures as Markdown."""
    trials = f"{kept['now_examples']} examples beside {kept['reference_examples']}"
    lines = [f"| detector | false alarms, {kept['trials']} trials of {trials} |", "| --- | --- |"]
    for name, share in kept["false_alarm_share"].items():
        lines.append(f"| {name} | {_percent(share)} [{_ends(share)}] |")
    for kind, rows in kept["power_share"].items():
        names = [name for name in next(iter(rows.values())) if name != "accuracy"]
        lines += ["", f"| {kind} | accuracy | " + " | ".join(names) + " |"]
        lines.append("| --- " * (len(names) + 2) + "|")
        for degree, row in rows.items():
            cells = " | ".join(_percent(row[name]) for name in ("accuracy", *names))
            lines.append(f"| {degree} | {cells} |")
    machine = kept["machine"]["cpu"] if "machine" in kept else ""
    lines += ["", f"Measured on {machine}, {kept['date']}."] if machine else []
    return "\n".join(lines)


def _percent(share):
    return f"{100 * share['value']:.0f} %"


def _ends(share):
    return f"{100 * share['low']:.1f} to {100 * share['high']:.1f} %"


def main():
    """Measure and keep, or show what was kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--table", action="store_true", help="show what was kept")
    asked = parser.parse_args()
    if asked.table:
        print(tables(json.loads((RESULTS / f"{NAME}.json").read_text(encoding="utf-8"))))
        return
    run = Parts(NAME, trials=asked.trials)
    figures = run.once("measured", lambda: measured(asked.trials))
    if asked.trials >= TRIALS:
        keep(NAME, **figures)
    run.complete()
    print(tables(figures))


if __name__ == "__main__":
    main()
