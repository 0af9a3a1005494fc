"""Does what the kit shows as 95 % hold at least 90 times in 100? Simulated times, known truths.

    python benchmarks/interval_quality.py all              # every section, some minutes
    python benchmarks/interval_quality.py intervals        # one section; the others stay as kept
    python benchmarks/interval_quality.py table            # what was kept, as tables

A section is a function that returns rows: dicts with the same keys, of words, numbers and
estimates. `@section` puts it on the list. Shares of runs are `proportion(hits, runs)`.
"""

import json
import math
import sys
from dataclasses import replace
from datetime import date

import numpy as np
from keeping import RESULTS, keep

import kit
from kit.costs.chains import at_once, product
from kit.costs.training_rungs import Rung, Way, to_the_loss
from kit.estimates import Estimate, proportion
from kit.measurement import Conditions
from kit.scenarios import tolerated
from kit.scenarios.arrivals import poisson

NAME = "interval_quality"
SECTIONS = {}  # name -> (what it asks, the function)


def section(asks):
    """Put a function on the list, with the question that its rows answer."""

    def listed(function):
        SECTIONS[function.__name__] = asks, function
        return function

    return listed


# --- intervals: coverage of everything that is shown with an interval ----------------------------


# --- verdicts: false alarms and power of `compare` -----------------------------------------------


# --- ladders: training ladders whose rungs differ in nothing but the seed ------------------------

LADDERS, RUNGS, STEPS, LOOKS = 300, 5, 170, 20  # steps to the loss, and between two looks
NOISE = 0.1  # of a round's ratio


def timed(draw, rounds=50):
    """The ratio of two steps that take the same time, from so many rounds."""
    return kit.estimates.median(np.exp(NOISE * draw.standard_normal(rounds)), "×")


def trained(draw, spread, factor, seeds, name):
    """A rung: steps to the loss with each seed, log-normal around the truth."""
    crossings = STEPS * factor * np.exp(spread * draw.standard_normal(seeds))
    step = Estimate(0.01, 0.01, 0.01, "s")
    return Rung(name, Way(None), step, tuple(crossings), against="first", noise_floor=0.005)


def judged_before(draw, best, rung):
    """One seed, steps to the next look, an interval of the steps' times alone."""
    a, b = (LOOKS * math.ceil(each.crossings[0] / LOOKS) for each in (best, rung))
    r, scale = timed(draw), b / a
    if scale * r.high < 1 / 1.005:
        return "faster"
    return "slower" if scale * r.low > 1.005 else "within noise"


def judged_now(draw, best, rung):
    """All seeds in pairs, and an interval that holds both."""
    ratio = to_the_loss(timed(draw), rung, best)
    return replace(rung, ratio=ratio).verdict


def with_a_verdict(judge, spread, factor=1.0, rungs=RUNGS, seeds=5):
    """The share of ladders of which some rung is called faster or slower than the first."""
    draw, hits = np.random.default_rng(0), 0
    for _ in range(LADDERS):
        best = trained(draw, spread, 1.0, seeds, "first")
        others = [trained(draw, spread, factor, seeds, str(k)) for k in range(rungs)]
        said = [judge(draw, best, each) for each in others]
        hits += any("faster" in verdict or "slower" in verdict for verdict in said)
    return proportion(hits, LADDERS)


def chained(of_both):
    """How often the time of the last of six rungs lies in the interval that is shown of it."""
    draw, hits = np.random.default_rng(0), 0
    for _ in range(LADDERS):
        time = timed(draw)
        for _ in range(RUNGS):
            ratio = timed(draw)
            value = time.value * ratio.value
            alone = Estimate(value, time.value * ratio.low, time.value * ratio.high)
            time = product(time, ratio) if of_both else alone
        hits += time.low <= 1 <= time.high
    return proportion(hits, LADDERS)


def all_forms_hold(corrected, forms=20):
    """How often the ratios of so many equal forms all hold the truth."""
    draw, hits = np.random.default_rng(0), 0
    for _ in range(LADDERS):
        ratios = [timed(draw) for _ in range(forms)]
        ratios = [at_once(each, 24) for each in ratios] if corrected else ratios
        hits += all(each.low <= 1 <= each.high for each in ratios)
    return proportion(hits, LADDERS)


@section("Ladders: what has a verdict, and do intervals along a chain hold?")
def ladders():
    rows = []
    for spread in (0.06, 0.12):  # as measured: AdamW and Muon on the small GPT
        both = (judged_before, judged_now)
        for factor, rungs in ((1.0, RUNGS), (1.5, 1)):
            what = f"{RUNGS} rungs, nothing but seeds" if factor == 1 else "one rung, 1.5 ×"
            before, now = (with_a_verdict(judge, spread, factor, rungs) for judge in both)
            what = f"{what}: ladders with a verdict, seeds {spread:.0%} apart"
            rows.append({"what": what, "before": before, "now": now})
    chain = f"time of the rung after {RUNGS} ratios: interval holds the truth"
    rows.append({"what": chain, "before": chained(False), "now": chained(True)})
    forms = "20 equal forms: the intervals of all hold the truth"
    rows.append({"what": forms, "before": all_forms_hold(False), "now": all_forms_hold(True)})
    return rows


# --- queues: M/D/1, whose mean wait is known -----------------------------------------------------


def queued(load, queries, seed):
    """When each query is due, and when its answer of 1 s begins."""
    due = poisson(load, queries, seed)
    walk = np.cumsum(np.concatenate([[0.0], 1.0 - np.diff(due)]))
    return due, due + walk - np.minimum.accumulate(walk)


def md1(load, target_s, percentile, queries, seed):
    """A server with Poisson arrivals and answers of 1 s, by Lindley's waits: no time passes."""
    due, starts = queued(load, queries, seed)
    return kit.scenarios.ServerRun(
        scenario="server",
        arrivals_s=tuple(due.tolist()),
        starts_s=tuple(starts.tolist()),
        ends_s=tuple((starts + 1.0).tolist()),
        batch_sizes=(1,) * queries,
        rate=load,
        target_s=target_s,
        percentile=percentile,
        max_batch=1,
        seed=seed,
        conditions=Conditions("cpu", 1, "2.0", 0.0),
    )


def true_tail_s(load, percentile):
    """The percentile in the long run: of 100 runs of 200,000 queries, the first tenth left out."""
    runs = (queued(load, 200_000, seed) for seed in range(10_000, 10_100))
    return float(np.mean([np.percentile(s[20_000:] - d[20_000:], percentile) for d, s in runs])) + 1


@section("M/D/1: what a run says of a target, and whether its intervals hold the truth")
def queues():
    """At the true percentile and around it; 5,394 queries, and as many as the load needs."""
    rows = []
    for load, percentile, queries, seeds in (
        (0.5, 90, 5_394, 200),
        (0.5, 99, 5_394, 200),
        (0.8, 90, 5_394, 200),
        (0.8, 99, 40_000, 100),
        (0.95, 90, 5_394, 200),
        (0.95, 90, 120_000, 40),
        (1.003, 90, 5_394, 100),
    ):
        tail_s = true_tail_s(load, percentile) if load < 1 else true_tail_s(0.95, percentile)
        mean_s = 1 + load / (2 * (1 - load)) if load < 1 else np.nan
        for times in (0.67, 1.0, 1.5, 2.0):
            runs = [md1(load, times * tail_s, percentile, queries, seed) for seed in range(seeds)]
            told = [run.says for run in runs]
            independent = [r.late <= tolerated(r.n, percentile) for r in runs]
            means = [run.mean_latency for run in runs]
            tails = [run.latency_estimate(percentile) for run in runs]
            held = [m.low <= mean_s <= m.high for m in means]
            tails_held = [t.low <= tail_s <= t.high for t in tails]
            rows.append(
                {
                    "load": f"{load:.1%}",
                    "percentile": f"p{percentile}",
                    "queries": f"{queries:,}",
                    "target ÷ true percentile": f"{times:g}",
                    "valid": proportion(told.count("yes"), seeds),
                    "not valid": proportion(told.count("no"), seeds),
                    "valid if queries were independent": proportion(sum(independent), seeds),
                    "mean's interval holds": proportion(sum(held), seeds) if load < 1 else "—",
                    "percentile's holds": proportion(sum(tails_held), seeds) if load < 1 else "—",
                    "queries needed": kit.units.digits(runs[0].queries_needed or np.inf),
                }
            )
    return rows


def read_back():
    """Section -> what was kept of it."""
    path = RESULTS / f"{NAME}.json"
    return json.loads(path.read_text(encoding="utf-8"))["sections"] if path.exists() else {}


def plain(value):
    """An estimate as its dict."""
    return value.to_dict() if isinstance(value, kit.Estimate) else value


def told(value):
    """A figure in words."""
    if isinstance(value, dict):
        return repr(kit.Estimate(**value))
    return kit.units.words(value) if isinstance(value, float) else str(value)


def markdown(sections):
    """A table for each section."""
    lines = []
    for kept in sections.values():
        heads = list(kept["rows"][0])
        lines += [f"**{kept['asks']}** ({kept['date']})", ""]
        lines += [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
        lines += [f"| {' | '.join(told(row[head]) for head in heads)} |" for row in kept["rows"]]
        lines += [""]
    return "\n".join(lines)


def main(names):
    """Run these sections, and keep them beside those that were kept before."""
    sections = read_back()
    for name in names:
        asks, rows_of = SECTIONS[name]
        rows = [{key: plain(value) for key, value in row.items()} for row in rows_of()]
        sections[name] = {"asks": asks, "date": date.today().isoformat(), "rows": rows}
        print(markdown({name: sections[name]}))
    keep(NAME, sections={name: sections[name] for name in SECTIONS if name in sections})


if __name__ == "__main__":
    asked = sys.argv[1:]
    if asked == ["table"]:
        print(markdown(read_back()))
    elif asked and set(asked) <= {"all", *SECTIONS}:
        main(list(SECTIONS) if "all" in asked else asked)
    else:
        sys.exit(f"usage: python {sys.argv[0]} table|all|{'|'.join(SECTIONS)}…")
