"""Does what the kit shows as 95 % hold at least 90 times in 100? Simulated times, known truths.

    python benchmarks/interval_quality.py all              # every section, some minutes
    python benchmarks/interval_quality.py intervals        # one section; the others stay as kept
    python benchmarks/interval_quality.py table            # what was kept, as tables
    python benchmarks/interval_quality.py short            # the README's table

A section is a function that returns rows: dicts with the same keys, of words, numbers and
estimates. `@section` puts it on the list. Shares of runs are `proportion(hits, runs)`.
"""

import functools
import itertools
import json
import math
import os
import sys
from dataclasses import replace
from datetime import date

import numpy as np
import torch
from keeping import RESULTS, keep
from scipy.signal import lfilter
from scipy.stats import quantile_test

import kit
from kit.core.correlated_samples import ranks
from kit.core.statistics import Estimate, average, bootstrap, median, product, proportion
from kit.core.units import words
from kit.ladders.ladder import simultaneous
from kit.ladders.rung_result import TrainingRung, time_ratio
from kit.ladders.training_setup import Setup
from kit.loadgen import late_allowed
from kit.loadgen.server_scenario import poisson
from kit.measurement import Comparison, Conditions, Measurement

NAME = "interval_quality"
RUNS, MATVEC_RUNS = 200, 20
QUIET = Conditions("cpu", 1, torch.__version__, 0.0)
SECTIONS = {}  # name -> (what it asks, the function)


def section(asks):
    """Put a function on the list, with the question that its rows answer."""

    def listed(function):
        SECTIONS[function.__name__] = asks, function
        return function

    return listed


# --- intervals: coverage of everything that is shown with an interval ----------------------------


def following(rho):
    """Normal times of which each resembles the one before it."""
    return lambda draw, n: (
        10 + lfilter([math.sqrt(1 - rho**2)], [1, -rho], draw.normal(size=n + 300))[300:]
    )


def bursty(draw, n):
    """Every hundred times some twenty slow ones in a row, on average."""
    lengths = draw.geometric(np.tile([1 / 20, 1 / 80], n))
    slow = np.repeat(np.tile([1.0, 0.0], n), lengths)[200 : 200 + n]
    return 1 + 0.5 * slow + draw.normal(0, 0.1, n)


def bimodal(draw, n):
    """Two typical times, the longer one in three calls of ten."""
    return draw.choice([1.0, 2.0], n, p=[0.7, 0.3]) + draw.normal(0, 0.05, n)


TIMES = {  # what they are -> how they are drawn: (generator, n) -> n times
    "independent": following(0.0),
    "AR(0.5)": following(0.5),
    "AR(0.9)": following(0.9),
    "AR(0.98)": following(0.98),
    "bursty": bursty,
    "bimodal": bimodal,
    "quantised": lambda draw, n: np.round(2 * draw.normal(10, 1, n)) / 2,
    "skewed": lambda draw, n: draw.lognormal(0, 1, n),
}
SHOWN = {  # interval -> (of which times, of how many, the truth of a long run)
    "median": (median, (30, 100, 1_000), np.median),
    "p90": (
        lambda x: kit.statistics.percentile(x, 90),
        (300, 1_000),
        lambda x: np.percentile(x, 90),
    ),
    "p99": (
        lambda x: kit.statistics.percentile(x, 99),
        (700, 3_000),
        lambda x: np.percentile(x, 99),
    ),
    "bootstrap of the mean": (bootstrap, (10, 100, 600), np.mean),
}


def before(name, x):
    """The interval that was shown earlier: of independent samples, or percentiles of draws."""
    if name.startswith("bootstrap"):
        drawn = np.random.default_rng(0).integers(0, len(x), (300, len(x)))
        return np.percentile(x[drawn].mean(axis=1), [2.5, 97.5])
    share = {"median": 0.5, "p90": 0.9, "p99": 0.99}[name]
    found = quantile_test(x, p=share).confidence_interval(0.95)
    return found.low, found.high


@functools.cache
def long_run(kind):
    """A million times of that kind, and how many of them say as much as one independent one."""
    times = TIMES[kind](np.random.default_rng(9), 1_000_000)
    ordered = ranks(times)
    means = ordered.reshape(500, 2_000).mean(axis=1)
    return times, max(1.0, 2_000 * float(means.var() / ordered.var()))


def covered(name, kind, n):
    """A row: how often the interval holds the truth, before and now, and how often it is known."""
    estimate, _, true = SHOWN[name]
    times, memory = long_run(kind)
    truth = float(true(times))
    draw, runs, widths = np.random.default_rng(0), [], []
    for _ in range(RUNS):
        x = TIMES[kind](draw, n)
        (low, high), now = before(name, x), estimate(x)
        known = math.isfinite(now.high - now.low)
        runs.append((low <= truth <= high, now.low <= truth <= now.high, known))
        widths.append((now.high - now.low) / (high - low) if known and high > low else math.nan)
    earlier, holds, known = np.sum(runs, axis=0).tolist()
    shown = sum(held for _, held, known in runs if known)
    return {
        "interval": name,
        "times": kind,
        "n": n,
        "worth, independent": round(n / memory),
        "held the truth before": proportion(earlier, RUNS),
        "now": proportion(holds, RUNS),
        "known": f"{known / RUNS:.0%}",
        "of the known": proportion(shown, known) if known else None,
        "width, now ÷ before": words(float(np.nanmedian([*widths, math.nan])), "×")
        if np.isfinite(widths).any()
        else "—",
    }


@section(
    "How often does what is shown as 95 % hold the truth? Unknown intervals claim nothing. A run "
    "worth fewer than some 20 independent times need not show that they follow each other: what "
    "it shows is of this run only, as its caption says."
)
def intervals():
    return [
        covered(name, kind, n)
        for name, (_, sizes, _) in SHOWN.items()
        for kind in TIMES
        for n in sizes
    ]


@section("Scores of few examples, each a share: how often does the interval hold the mean?")
def shares():
    kinds = {
        "nearly all right": (lambda draw, n: draw.beta(5, 0.5, n), 10 / 11),
        "all or little": (lambda draw, n: draw.beta(0.5, 0.1, n), 5 / 6),
        "one in ten wrong": (
            lambda draw, n: draw.beta(20, 2, n) * (draw.random(n) > 0.1),
            0.9 * 20 / 22,
        ),
    }
    rows = []
    for (kind, (make, truth)), n in itertools.product(kinds.items(), (3, 5, 10, 50)):
        draw, held = np.random.default_rng(0), np.zeros(2, int)
        for _ in range(RUNS):
            x = make(draw, n)
            sums = float(x.sum()), float(np.square(x).sum()), n
            for i, limits in enumerate((None, (0, 1))):
                found = average(*sums, limits=limits)
                held[i] += found.low <= truth <= found.high
        earlier, now = (proportion(int(hits), RUNS) for hits in held)
        rows.append({"shares": kind, "n": n, "Student before": earlier, "now": now})
    return rows


# --- verdicts: false alarms and power of `compare` -----------------------------------------------


def compared(draw, factors, rounds):
    """A comparison of calls that take so many times as long, on a machine that is made up.

    Slow moments last for some rounds and touch all calls; each timing has noise of 3 % of its own.
    """
    moment = np.exp(0.1 * following(0.9)(draw, rounds))[:, None]
    calls = {}
    for i, factor in enumerate(factors):
        times = factor * moment * draw.lognormal(0, 0.03, (rounds, 2))
        calls[str(i)] = Measurement("", tuple(times.ravel()), 1, 1.0, 1.0, True, QUIET)
    return Comparison(calls)


def claims(comparison):
    """What is said of each call but the first."""
    return [comparison.verdict(name) for name in list(comparison.measurements)[1:]]


@section("Calls in turns: how often is a difference claimed, by number of calls and of rounds?")
def verdicts():
    rows = []
    for calls, rounds in itertools.product((2, 5), (1, 2, 3, 6, 10, 50)):
        row = {"calls": calls, "rounds": rounds}
        for told, slower in (("equal", 1.0), ("2 % slower", 1.02), ("5 % slower", 1.05)):
            draw, hits = np.random.default_rng(0), 0
            for _ in range(RUNS):
                said = claims(compared(draw, [1.0] * (calls - 1) + [slower], rounds))
                hits += any(v != "cannot tell" and "same" not in v for v in said)
            row[told] = proportion(hits, RUNS)
        rows.append(row)
    return rows


@section("Equal 2048² matrix-vector products, each with its own weights, on this machine")
def matvec():
    weights, x = [torch.rand(2048, 2048) for _ in range(2)], torch.rand(2048)
    said, ratios = [], []
    for _ in range(MATVEC_RUNS):
        calls = {name: lambda w=w: w @ x for name, w in zip("ab", weights, strict=True)}
        found = kit.compare(calls, varied="work", budget_s=1.0)
        said += claims(found)
        ratios.append(found.ratio().value)
    different = sum(v in ("faster", "slower") for v in said)
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return [
        {
            "runs": MATVEC_RUNS,
            "called different": proportion(different, MATVEC_RUNS),
            "median of the ratios": median(ratios, "×"),
            "programs waiting per core": load,
        }
    ]


# --- ladders: training ladders whose rungs differ in nothing but the seed ------------------------

LADDERS, RUNGS, STEPS, LOOKS = 300, 5, 170, 20  # steps to the loss, and between two looks
NOISE = 0.1  # of a round's ratio


def timed(draw, rounds=50):
    """The ratio of two steps that take the same time, from so many rounds."""
    return kit.statistics.median(np.exp(NOISE * draw.standard_normal(rounds)), "×")


def trained(draw, spread, factor, seeds, name):
    """A rung: steps to the loss with each seed, log-normal around the truth."""
    steps = STEPS * factor * np.exp(spread * draw.standard_normal(seeds))
    step = Estimate(0.01, 0.01, 0.01, "s")
    return TrainingRung(name, Setup(None), step, tuple(steps), baseline="first", noise_floor=0.005)


def judged_before(draw, best, rung):
    """One seed, steps to the next look, an interval of the steps' times alone."""
    a, b = (LOOKS * math.ceil(each.steps_by_seed[0] / LOOKS) for each in (best, rung))
    r, scale = timed(draw), b / a
    if scale * r.high < 1 / 1.005:
        return "faster"
    return "slower" if scale * r.low > 1.005 else "within noise"


def judged_now(draw, best, rung):
    """All seeds in pairs, and an interval that holds both."""
    ratio = time_ratio(timed(draw), rung, best)
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
        ratios = [simultaneous(each, 24) for each in ratios] if corrected else ratios
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
    return kit.loadgen.ServerResult(
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
            told = [run.verdict for run in runs]
            independent = [r.late <= late_allowed(r.n, percentile) for r in runs]
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
    return value.to_dict() if isinstance(value, kit.statistics.Estimate) else value


def told(value):
    """A figure in words."""
    if isinstance(value, dict):
        return repr(kit.statistics.Estimate(**value))
    if value is None:
        return "—"
    return words(value) if isinstance(value, float) else str(value)


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


def short(sections):
    """The README's table: medians and p90 of a thousand times, by kind."""
    kept = {
        (row["interval"], row["times"]): row
        for row in sections["intervals"]["rows"]
        if row["n"] == 1_000
    }
    lines = [
        "| 1,000 times that are | median, before | median | known | p90 | known |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind in TIMES:
        one, tail = kept["median", kind], kept["p90", kind]
        held = [one["held the truth before"], one["now"], tail["now"]]
        before, now, p90 = (words(share["value"], "%") for share in held)
        lines += [f"| {kind} | {before} | {now} | {one['known']} | {p90} | {tail['known']} |"]
    return "\n".join(lines)


def main(names):
    """Run these sections, and keep them beside those that were kept before."""
    for name in names:
        asks, rows_of = SECTIONS[name]
        rows = [{key: plain(value) for key, value in row.items()} for row in rows_of()]
        sections = read_back()
        sections[name] = {"asks": asks, "date": date.today().isoformat(), "rows": rows}
        print(markdown({name: sections[name]}))
        keep(NAME, sections={name: sections[name] for name in SECTIONS if name in sections})


if __name__ == "__main__":
    asked = sys.argv[1:]
    if asked == ["table"]:
        print(markdown(read_back()))
    elif asked == ["short"]:
        print(short(read_back()))
    elif asked and set(asked) <= {"all", *SECTIONS}:
        main(list(SECTIONS) if "all" in asked else asked)
    else:
        sys.exit(f"usage: python {sys.argv[0]} table|short|all|{'|'.join(SECTIONS)}…")
