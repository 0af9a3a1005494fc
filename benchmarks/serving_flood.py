"""The kit's server before, during and after a minute of three times what it can answer.

    python benchmarks/serving_flood.py            # 3 floods: 5 minutes, on a machine left alone;
                                                  # started again, it goes on
    python benchmarks/serving_flood.py --floods 1
    python benchmarks/serving_flood.py --quick    # only to try it; keeps nothing
    python benchmarks/serving_flood.py table      # the saved figures

The model, the settings and the client are those of `serving.py`. Each flood meets a server that has
just started, in these parts:

peak      64 connections without pauses: answers per second
before    half of that, in an open loop: goodput, and the memory after it
flood     half load, then 3 × the peak for 60 s, then half load again, in one run
after     memory at the end of that run

Goodput counts answers within 0.25 s, when they came. The client gives up after 1 s, and has at most
1,000 requests open. Memory is that of all processes of the server; a page that several share
counts once.
"""

import argparse
import json
import sys
import time
from functools import partial

import numpy as np
import serving_servers as servers
import torch
from keeping import RESULTS, Parts, keep
from serving_servers import KIT

import kit
from kit.core.statistics import Estimate, average
from kit.core.units import digits, words
from kit.loadgen import ClientTooSlow, phases

USERS, IN_TIME_S, PATIENCE_S = 64, 0.25, 1.0
TIMES = (3, 2, 1.5)  # × the peak: less, if the client cannot send as much
PEAK_S, BEFORE_S, CALM_S, AFTER_S = 2.0, 5.0, 2.0, 8.0
FLOOD_S = 60.0
STEP_S = 0.5  # how exactly the moment is known at which goodput is back
BACK = 0.95  # of the goodput before


def one_flood(flood_s, seed):
    """Goodput and memory around a flood of a server that has just started."""
    rows = np.random.default_rng(0).random((USERS, 64), dtype=np.float32)
    with servers.running(KIT, rows) as found:
        kit.traffic(found.url, users=USERS, duration_s=0.5, **found.sent)  # to warm it up
        peak = kit.traffic(found.url, users=USERS, duration_s=PEAK_S, **found.sent).throughput
        calm = kit.traffic(found.url, rate=peak / 2, duration_s=BEFORE_S, **asked(found, seed))
        before_bytes = found.memory_bytes()
        run, times = flooded(found, peak, flood_s, seed)
        after_bytes = found.memory_bytes()
    around = over_time(run, CALM_S, CALM_S + flood_s, calm.goodput.value)
    memory = {"before_bytes": before_bytes, "after_bytes": after_bytes}
    return {"peak": peak, "times": times, **around, **memory, "statuses": run.status_counts}


def asked(found, seed):
    """What every part asks of the client."""
    return {"target_s": IN_TIME_S, "timeout_s": PATIENCE_S, "seed": seed, **found.sent}


def flooded(found, peak, flood_s, seed):
    """(the run with the flood, how many times the peak it was)."""
    for times in TIMES:
        parts = [(peak / 2, CALM_S), (times * peak, flood_s), (peak / 2, AFTER_S)]
        try:
            moments = phases(parts, seed)
            return kit.traffic(found.url, arrivals=moments, **asked(found, seed)), times
        except ClientTooSlow as slow:
            report(f"{times} × is too much for the client: {slow}")
    raise SystemExit("the client is slower than the server: this machine cannot show a flood")


def over_time(run, began_s, ended_s, before):
    """Answers in time per second: before, during, from 2 to 4 s after and at the end."""
    over, last_s = run.over_time(STEP_S), run.duration_s
    steps = np.arange(ended_s, last_s - 2 * STEP_S, STEP_S)
    back = [s for s in steps if over.mean_goodput(s, s + 2 * STEP_S) >= BACK * before]
    return {
        "before": before,
        "during": over.mean_goodput(began_s, ended_s),
        "two_s_after": over.mean_goodput(min(ended_s + 2, last_s - 2), min(ended_s + 4, last_s)),
        "at_the_end": over.mean_goodput(max(ended_s, last_s - 4), last_s),
        "back_after_s": float(back[0] - ended_s) if back else None,
    }


def figures(floods):
    """Means over the floods, with Student's interval: ratios first, then what they come from."""
    ratios = {
        "goodput_two_s_after_to_before": [f["two_s_after"] / f["before"] for f in floods],
        "memory_after_to_before": [f["after_bytes"] / f["before_bytes"] for f in floods],
    }
    found = {name: mean(values, "×") for name, values in ratios.items()}
    for name in ("peak", "before", "during", "two_s_after", "at_the_end"):
        found[name] = mean([f[name] for f in floods], "/s")
    for name in ("before_bytes", "after_bytes"):
        found[name] = mean([f[name] for f in floods], "B")
    return found


def mean(values, unit):
    """The mean with its interval."""
    return average(float(np.sum(values)), float(np.sum(np.square(values))), len(values), unit)


def report(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def markdown(saved):
    """A row for each flood, and the means."""
    heads = ("flood", "goodput/s before", "during", "2 s after", "at the end", "back to 95 %")
    heads += ("memory before", "after")
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for i, flood in enumerate(saved["floods"], start=1):
        parts = ("before", "during", "two_s_after", "at_the_end")
        back = flood["back_after_s"]
        cells = (
            f"{i}, {flood['times']:g} ×",
            *(digits(flood[part]) for part in parts),
            "not in that time" if back is None else f"after {words(back, 's')}",
            *(words(flood[f"{part}_bytes"], "B") for part in ("before", "after")),
        )
        lines.append(f"| {' | '.join(cells)} |")
    means = [(name.replace("_", " "), Estimate(**told)) for name, told in saved["means"].items()]
    lines += ["", *(f"- {name}: {value}" for name, value in means[:2]), ""]
    where = f"Measured on {saved['machine']['cpu']}, {saved['date']}"
    ends = f"{len(saved['floods'])} floods of {words(saved['flood_s'], 's')}"
    return "\n".join([*lines, f"{where}; {ends}, each with a server of its own."])


def main(count, flood_s, quick):
    torch.set_num_threads(1)
    kit.device("cpu")
    run, floods = Parts("serving_flood", floods=count, flood_s=flood_s), []
    for seed in range(count):
        floods.append(run.once(f"flood {seed}", partial(one_flood, flood_s, seed)))
        report(f"flood {seed + 1} of {count}: {floods[-1]}")
    record = {"floods": floods, "flood_s": flood_s, "means": figures(floods)}
    if not quick:
        keep("serving_flood", **record)
    run.complete()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["table"])
    parser.add_argument("--floods", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="only to try it; keeps nothing")
    given = parser.parse_args()
    if given.what:
        print(markdown(json.loads((RESULTS / "serving_flood.json").read_text(encoding="utf-8"))))
    else:
        main(1 if given.quick else given.floods, 3.0 if given.quick else FLOOD_S, given.quick)
