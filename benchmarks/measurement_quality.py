"""How far the kit's stopwatch can be trusted, beside the tools that people use now.

    python -m pip install -c constraints.txt -r benchmarks/requirements.txt
    python benchmarks/measurement_quality.py idle      # on a machine left alone
    python benchmarks/measurement_quality.py loaded    # with a second busy process beside it
    python benchmarks/measurement_quality.py crowded   # with two of them
    python benchmarks/measurement_quality.py goal      # 2 % in two seconds beside one, four minutes
    python benchmarks/measurement_quality.py table     # all that were made, as the README's tables

The call is a number of small matmuls, so a slowdown can be put in by hand: 42 of them are 5 % more
work than 40, 51 are 2 % more than 50. Asked is: how often does `kit.compare` find a difference
where there is none, how often does it find the one that is there, in how much time, and what do
others say of the same call? It takes about twenty minutes.
"""

import json
import random
import sys
import time

import numpy as np
import other_stopwatches as other
import torch
from keeping import RESULTS, keep_parts

import kit
from kit.core.statistics import median, proportion
from kit.core.units import words
from kit.course.cpu_load import cpu_load

TRIALS, POWER_TRIALS, SPREAD_TRIALS, LOADGEN_PAIRS, TABLE_ROUNDS = 200, 80, 30, 60, 7
GOAL_TRIALS = 40
SIZE = 64  # of the matmuls: about 5 µs each
BESIDE = {"idle": "none", "loaded": "one", "crowded": "two"}  # busy processes
TOLD = {  # what the README says -> the figure
    "a difference claimed between a call and itself": "false_alarm_share",
    "… between equal calls on other memory": "false_alarm_elsewhere_share",
    "5 % more work found, in trials of at most 1 s": "found_5_percent_share",
    "2 % more work found, in trials of at most 3 s": "found_2_percent_share",
    "scatter of the ratio ÷ that of two `blocked_autorange`": "spread_kit_to_autorange",
    "p90 of the latency ÷ LoadGen's": "p90_kit_to_loadgen",
    "throughput ÷ LoadGen's": "throughput_kit_to_loadgen",
    "cost of the stopwatch per call ÷ `torch.utils.benchmark`'s": "overhead_kit_to_autorange",
}
SETUP = """
import torch
torch.set_num_threads(1)
a, b = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0))
out = torch.empty(64, 64)
def call():
    for _ in range(40):
        torch.mm(a, b, out=out)
"""


def matmuls(n):
    """A call that does n small matmuls."""
    a, b = torch.rand(2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    out = torch.empty(SIZE, SIZE)

    def call():
        for _ in range(n):
            torch.mm(a, b, out=out)
        return out

    return call


def verdicts(pair, budget_s, trials):
    """What `compare` says of the pair's calls in many trials, and the seconds of each trial."""
    said, intervals, took = [], [], []
    for _ in range(trials):
        calls = dict(zip(("base", "changed"), pair(), strict=True))
        started = time.perf_counter()
        compared = kit.compare(calls, budget_s=budget_s)
        said.append(compared.verdict())
        took.append(time.perf_counter() - started)
        intervals.append(compared.ratio())
    return said, intervals, took


def false_alarms(budget_s=0.5):
    """A call against itself: how often is a difference claimed, and does the interval hold 1?

    And against an equal call on other memory, which is a difference, if one without meaning.
    """
    said, intervals, took = verdicts(lambda: [matmuls(40)] * 2, budget_s, TRIALS)
    moved, _, _ = verdicts(lambda: [matmuls(40), matmuls(40)], budget_s, TRIALS // 2)
    missed = sum(not i.low <= 1 <= i.high for i in intervals)
    return {
        "false_alarm_share": proportion(claims(said), TRIALS),
        "false_alarm_elsewhere_share": proportion(claims(moved), TRIALS // 2),
        "interval_missed_one_share": proportion(missed, TRIALS),
        "false_alarm_half_interval": median([(i.high - i.low) / 2 for i in intervals], "%"),
        "false_alarm_longest_trial_s": max(took),
    }


def claims(said):
    """How many of the verdicts claim a difference."""
    return sum(verdict in ("faster", "slower") for verdict in said)


def power(share, base, changed, budget_s):
    """A slowdown put in by hand: how often is it found, in how long a trial?"""
    said, intervals, took = verdicts(
        lambda: [matmuls(base), matmuls(changed)], budget_s, POWER_TRIALS
    )
    return {
        f"found_{share}_share": proportion(sum(v == "slower" for v in said), POWER_TRIALS),
        f"found_{share}_ratio": median([i.value for i in intervals], "×"),
        f"found_{share}_longest_trial_s": max(took),
    }


def in_two_seconds(budget_s=1.85):
    """2 % more work: how often is it found in trials of at most two seconds?"""
    said, intervals, took = verdicts(lambda: [matmuls(50), matmuls(51)], budget_s, GOAL_TRIALS)
    return {
        "found_2_percent_in_2_s_share": proportion(said.count("slower"), GOAL_TRIALS),
        "found_2_percent_in_2_s_ratio": median([i.value for i in intervals], "×"),
        "in_2_s_trial_s": median(took, "s"),
        "in_2_s_longest_trial_s": max(took),
    }


def no_difference(budget_s=0.5):
    """A call against itself: how often is a difference claimed?"""
    said, _, took = verdicts(lambda: [matmuls(40)] * 2, budget_s, TRIALS)
    return {
        "false_alarm_share": proportion(claims(said), TRIALS),
        "false_alarm_longest_trial_s": max(took),
    }


def spread(budget_s=0.8):
    """How much the ratio of equal calls scatters: kit's, ÷ that of two blocked_autorange calls."""
    ours, theirs = [], []
    for _ in range(SPREAD_TRIALS):
        calls = {"base": matmuls(40), "same": matmuls(40)}
        for way in random.sample(["ours", "theirs"], 2):
            if way == "ours":
                ours.append(kit.compare(calls, budget_s=budget_s).ratio().value)
            else:
                times = [other.blocked_autorange(call, budget_s / 2) for call in calls.values()]
                theirs.append(times[1] / times[0])
    return {
        "spread_kit": float(np.std(ours)),
        "spread_autorange": float(np.std(theirs)),
        "spread_kit_to_autorange": float(np.std(ours) / np.std(theirs)),
    }


def loadgen():
    """The same call asked by LoadGen and by kit.loadgen, in turns."""
    call = matmuls(400)
    p90, rate = [], []
    for _ in range(LOADGEN_PAIRS):
        taken = {}
        for way in random.sample(["kit", "loadgen"], 2):
            if way == "kit":
                run = kit.loadgen.single_stream(lambda n: call(), budget_s=0.5)
                taken[way] = run.tail_latency_s, run.throughput
            else:
                told = other.loadgen(call, seconds=0.5)
                taken[way] = told["p90_s"], told["queries_per_s"]
        p90.append(taken["kit"][0] / taken["loadgen"][0])
        rate.append(taken["kit"][1] / taken["loadgen"][1])
    return {"p90_kit_to_loadgen": median(p90, "×"), "throughput_kit_to_loadgen": median(rate, "×")}


def overhead():
    """What a call of nothing is said to take: the stopwatch's own cost per call."""
    ours, theirs = [], []
    for _ in range(15):
        ours.append(kit.measure(lambda: None, budget_s=0.1).median_s)
        theirs.append(other.blocked_autorange(lambda: None, 0.1))
    return {
        "overhead_per_call_s": median(ours, "s"),
        "overhead_per_call_autorange_s": median(theirs, "s"),
        "overhead_kit_to_autorange": median(np.divide(ours, theirs), "×"),
    }


def tools():
    """What each tool says of the same call, asked again and again: the value and its range."""
    call = matmuls(40)
    ways = {
        "time.time() around ten calls": lambda: other.time_time(call),
        "%timeit (mean)": lambda: other.timeit_magic(call),
        "torch.utils.benchmark (median)": lambda: other.blocked_autorange(call),
        "LoadGen, single stream (mean)": lambda: other.loadgen(call, 2.0)["mean_s"],
        "kit.measure (median)": lambda: kit.measure(call, budget_s=0.5).median_s,
    }
    said = {name: [] for name in ways}
    for _ in range(TABLE_ROUNDS):
        for name in random.sample(list(ways), len(ways)):
            said[name].append(ways[name]())
    said["pyperf (mean)"] = [other.pyperf(SETUP) for _ in range(2)]
    return said


def read_back(kind):
    """The figures that were kept, None if that run was not made yet."""
    path = RESULTS / f"measurement_quality_{kind}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def told(figure):
    """An estimate or a number of the results, in words."""
    if isinstance(figure, dict):
        return repr(kit.statistics.Estimate(**figure))
    return words(figure, "×")


def range_told(values):
    """The middle of several answers, and how far they lie apart."""
    middle = float(np.median(values))
    return f"{words(middle, 's')} ± {words((max(values) - min(values)) / 2 / middle, '%')}"


def markdown():
    """The README's two tables, from the results that are kept."""
    kept = {beside: run for kind, beside in BESIDE.items() if (run := read_back(kind))}
    heads = f"{' | '.join(kept)} |\n|{' --- |' * (1 + len(kept))}"
    kept = list(kept.values())
    lines = [f"| busy processes beside it: | {heads}"]
    lines += [
        f"| {label} | {' | '.join(told(run.get(key)) for run in kept)} |"
        for label, key in TOLD.items()
    ]
    lines += ["", f"| the same call, measured this many times | {heads}"]
    lines += [
        f"| {tool}, {len(answers)} × | "
        f"{' | '.join(range_told(run['tools_say_s'][tool]) for run in kept)} |"
        for tool, answers in kept[0]["tools_say_s"].items()
    ]
    machine, day = kept[0]["machine"], kept[0]["date"]
    lines += ["", f"Measured on {machine['cpu']}, {machine['cores_allowed']:g} cores, {day}."]
    return "\n".join(lines)


def main(kind):
    kit.device("cpu")
    if kind == "goal":
        with cpu_load(1):
            keep_parts(
                "measurement_quality_goal",
                {"2 percent": in_two_seconds, "false alarms": no_difference},
                surroundings="loaded",
                trials={"false_alarm": TRIALS, "power": GOAL_TRIALS},
            )
        return
    trials = {"false_alarm": TRIALS, "power": POWER_TRIALS, "spread": SPREAD_TRIALS}
    parts = {
        "false alarms": false_alarms,
        "5 percent": lambda: power("5_percent", 40, 42, budget_s=0.7),
        "2 percent": lambda: power("2_percent", 50, 51, budget_s=2.5),
        "spread": spread,
        "loadgen": loadgen,
        "overhead": overhead,
        "tools": lambda: {"tools_say_s": tools()},
    }
    with cpu_load(list(BESIDE).index(kind)):
        keep_parts(
            f"measurement_quality_{kind}",
            parts,
            surroundings=kind,
            trials=trials | {"loadgen_pairs": LOADGEN_PAIRS},
        )


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in (*BESIDE, "goal", "table"):
        sys.exit("usage: python benchmarks/measurement_quality.py idle|loaded|crowded|goal|table")
    print(markdown()) if sys.argv[1] == "table" else main(sys.argv[1])
