"""Measurement, on a clock and a device made of numbers: the answer is known before."""

import gc
import json
import math
import os
import sys
import time
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import taken
from torch.utils.benchmark import Timer

from kit import devices
from kit.core.errors import BadValue, CallFailed, NotEnoughSamples
from kit.core.statistics import Estimate, median
from kit.measurement import (
    Conditions,
    Stopwatch,
    measure,
    measure_parts,
    memory,
    peak_bytes,
    timing,
)
from kit.measurement.timing import MOST_SAVED

pytestmark = pytest.mark.alone
CPU = torch.device("cpu")
SHORT = {"budget_s": 0.005}

# --- The device is waited for --------------------------------------------------------------------


def naive(call, clock) -> float:
    """What a stopwatch says that does not wait."""
    started = clock()
    call()
    return clock() - started


def test_a_naive_timer_times_the_noting_and_the_kit_times_the_work(clock, accelerator, stopwatch):
    def call():
        accelerator.launch(0.010)

    assert naive(call, clock) == pytest.approx(accelerator.note_s)  # a thousand times too short
    assert measure(call, stopwatch=stopwatch).median_s == pytest.approx(0.010 + accelerator.note_s)


def test_work_from_before_is_not_counted(clock, accelerator, stopwatch):
    accelerator.launch(100.0)
    taken = measure(lambda: accelerator.launch(0.010), stopwatch=stopwatch)
    assert taken.first_s == pytest.approx(0.01001)
    assert max(taken.times_s) == pytest.approx(0.01001)


def test_many_short_launches_in_a_row_fill_the_queue_not_the_clock(accelerator, stopwatch):
    """Noted faster than done: the device's time counts, once."""
    taken = measure(lambda: accelerator.launch(20e-6), budget_s=0.01, stopwatch=stopwatch)
    assert taken.block > 1
    assert taken.median_s == pytest.approx(20e-6, rel=0.6)  # and part of one noting per block
    assert taken.median_s >= 20e-6


# --- Between events ------------------------------------------------------------------------------


@pytest.fixture
def marking(clock, accelerator):
    """A stopwatch for a device that takes marks, and that is long in being waited for."""
    accelerator.note_s, accelerator.wait_s = 1e-6, 20e-6
    return Stopwatch("cpu", clock, accelerator.synchronise, accelerator.event)


def test_a_block_between_events_is_not_charged_with_the_waiting(clock, accelerator, marking):
    def launch():
        accelerator.launch(5e-6)

    waiting = Stopwatch("cpu", clock, accelerator.synchronise)
    assert waiting.time(launch, 10) == pytest.approx(10 * 5e-6 + 20e-6, rel=0.03)
    assert marking.time(launch, 10) == pytest.approx(10 * 5e-6, rel=0.03)
    assert measure(launch, **SHORT, stopwatch=marking).median_s == pytest.approx(5e-6, rel=0.01)


def test_between_events_the_launches_count_where_they_are_the_limit(accelerator, marking):
    accelerator.note_s = 10e-6
    assert marking.time(lambda: accelerator.launch(1e-6), 100) == pytest.approx(
        100 * 10e-6, rel=0.01
    )


def test_work_from_before_is_not_between_the_events(accelerator, marking):
    accelerator.launch(100.0)
    assert marking.time(lambda: accelerator.launch(5e-6), 2) < 2e-5


def test_a_single_call_is_timed_by_the_clock(accelerator, marking):
    taken = measure(lambda: accelerator.launch(0.010), stopwatch=marking, budget_s=0.1)
    assert taken.block == 1
    assert taken.median_s == pytest.approx(0.010 + accelerator.note_s + accelerator.wait_s)


def test_events_go_into_the_queue_of_the_gpu_that_computes(clock, monkeypatch):
    """By themselves they would go into that of the current GPU, number 0."""
    queues = []

    class Event:
        def record(self, queue):
            queues.append(queue)

        def elapsed_time(self, other):
            return 7.0

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"queue of {device}")
    watch = Stopwatch("cuda:1", clock, lambda device: None, Event)
    assert watch.time(lambda: None, 2) == 0.007
    assert queues == ["queue of cuda:1"] * 2


# --- Parts ---------------------------------------------------------------------------------------


def test_the_parts_of_a_job_are_told_apart(accelerator, stopwatch):
    parts = {
        "forward": lambda _: accelerator.launch(0.010),
        "backward": lambda _: accelerator.launch(0.020),
        "optimizer": lambda _: accelerator.launch(0.003),
    }
    taken = measure_parts(parts, stopwatch=stopwatch)
    medians = [taken[name].median_s for name in parts]
    assert medians == pytest.approx([0.01001, 0.02001, 0.00301])
    assert taken.ratio(["forward", "backward"], "optimizer").value == pytest.approx(
        0.03002 / 0.00301
    )
    assert taken.share("optimizer", ["forward", "backward"]).value == pytest.approx(
        0.00301 / 0.03002
    )


def test_each_part_gets_what_the_part_before_it_made(clock, stopwatch):
    given = []

    def part(name):
        def work(before):
            given.append(before)
            clock.advance(1)
            return name

        return work

    measure_parts(
        {"a": part("a"), "b": part("b"), "c": part("c")}, stopwatch=stopwatch, budget_s=30
    )
    assert set(zip(given[::3], given[1::3], given[2::3], strict=True)) == {(None, "a", "b")}


def test_the_parts_of_a_job_know_the_pages_that_they_take_from_the_system(stopwatch):
    """64 MiB are 16,384 pages of 4 KiB, or 32 of 2 MiB. Each round frees and takes them again."""
    parts = {"large": lambda _: bytearray(2**26), "none": lambda made: made.clear()}
    taken = measure_parts(parts, budget_s=0.1)
    if sys.platform == "win32":
        assert taken["large"].pages is None
    else:
        assert taken["large"].pages >= 32 and taken["none"].pages < 10


# --- Warm-up, repeats, blocks --------------------------------------------------------------------


def test_the_first_call_is_kept_apart(clock, stopwatch):
    taken = measure(clock.taking(5.0, 0.1), stopwatch=stopwatch)
    assert taken.first_s == 5.0
    assert taken.times_s == pytest.approx([0.1] * taken.n)


def test_warm_up_goes_on_until_it_is_no_faster(clock, stopwatch):
    """One first call, then four windows of five: 0.4, 0.2, 0.1, 0.1 s a call."""
    call = clock.taking(9.0, *[0.4] * 5, *[0.2] * 5, 0.1)
    taken = measure(call, budget_s=10, stopwatch=stopwatch)
    assert taken.steady
    assert taken.warmup_s == pytest.approx(5 * (0.4 + 0.2 + 0.1 + 0.1))
    assert taken.times_s == pytest.approx([0.1] * taken.n)


def test_a_call_that_never_settles_is_doubted(clock, stopwatch):
    taken = measure(clock.taking(*(0.9**i for i in range(60))), budget_s=1, stopwatch=stopwatch)
    assert not taken.steady
    assert "times had not settled when the warm-up ended" in taken.doubts


@pytest.mark.parametrize(
    ("call_s", "budget_s", "n"),
    [
        (0.01, 1.0, 100),  # as many as fit
        (0.125, 1.0, 10),  # at least ten …
        (4.0, 1.0, 3),  # … unless those would take ten budgets
    ],
)
def test_the_budget_decides_how_many(clock, stopwatch, call_s, budget_s, n):
    taken = measure(clock.taking(call_s), budget_s=budget_s, stopwatch=stopwatch)
    assert taken.n == pytest.approx(n, abs=1)
    assert taken.median_s == pytest.approx(call_s)


def test_short_calls_are_timed_in_blocks(clock, stopwatch):
    taken = measure(clock.taking(1e-6), budget_s=0.01, stopwatch=stopwatch)
    assert taken.block >= 50
    assert taken.median_s == pytest.approx(1e-6)
    assert f"× {taken.block:,}" in str(taken.table())


@pytest.mark.parametrize("repeats", [1, 7])
def test_the_stopwatch_itself_costs_what_an_empty_timing_takes(clock, accelerator, repeats):
    accelerator.wait_s = 20e-6
    watch = Stopwatch("cpu", clock, accelerator.synchronise)
    assert watch.empty_s() == pytest.approx(20e-6)
    call = clock.taking(20e-6 * repeats)
    assert measure(call, **SHORT, stopwatch=watch).block >= 200 / repeats


# --- A real clock --------------------------------------------------------------------------------


@pytest.mark.parametrize("sleep_s", [0.002, 0.005, 0.020])
def test_a_known_sleep_takes_its_time(sleep_s):
    taken = measure(lambda: time.sleep(sleep_s), budget_s=0.05)
    assert sleep_s <= taken.median_s < 5 * sleep_s + 0.1  # a busy machine wakes late
    assert str(taken.conditions) == "cpu, 1 thread"
    assert taken.conditions.surroundings.cores == devices.cores_allowed()
    assert 0 < taken.conditions.resolution_s < 1e-3


def given(make_call, *shape):
    """A call with two matrices, and with room for its answer: fresh memory would cost more."""
    numbers = torch.Generator().manual_seed(0)
    a, b = (torch.rand(shape, generator=numbers) for _ in range(2))
    return make_call(a, b, torch.empty(shape))


ANYWHERE = {  # on one core from 3 µs to some 50 ms
    "add of 10,000": given(lambda a, b, to: lambda: torch.add(a, b, out=to), 10_000),
    "exp of 10,000": given(lambda a, b, to: lambda: torch.exp(a, out=to), 10_000),
    "64 × 64 matmul": given(lambda a, b, to: lambda: torch.mm(a, b, out=to), 64, 64),
    "softmax of 100 × 100": given(lambda a, b, to: lambda: torch.softmax(a, 1, out=to), 100, 100),
    "sum in Python": lambda: sum(range(1_000)),
    "sort of 1,000": given(lambda a, b, to: lambda: a.sort(), 1_000),
    "256 × 256 matmul": given(lambda a, b, to: lambda: torch.mm(a, b, out=to), 256, 256),
    "sin of 100,000": given(lambda a, b, to: lambda: torch.sin(a, out=to), 100_000),
    "512 × 512 matmul": given(lambda a, b, to: lambda: torch.mm(a, b, out=to), 512, 512),
    "sin of 1,000,000": given(lambda a, b, to: lambda: torch.sin(a, out=to), 1_000_000),
    "1,024 × 1,024 matmul": given(lambda a, b, to: lambda: torch.mm(a, b, out=to), 1_024, 1_024),
    "sort of 300,000": given(lambda a, b, to: lambda: a.sort(), 300_000),
}


def against_torch(call, most_s=1.0) -> Estimate:
    """Our time of a call ÷ that of PyTorch's own benchmark, in turns until it is known to 1 %.

    Both time the same block of calls, as long as `measure` finds it needs, within moments: what
    disturbs one disturbs the other as often. So noise widens the interval and does not move it.
    """
    watch, block = Stopwatch(), measure(call, **SHORT).block
    torchs = Timer("call()", globals={"call": call}, num_threads=1)

    def ours():
        watch.time(call, 2)  # PyTorch's warms up with two calls, too
        return watch.time(call, block) / block

    def theirs():
        return torchs.timeit(block).mean

    ratios, ends = [], time.perf_counter() + most_s
    while time.perf_counter() < ends or len(ratios) < 10:
        if len(ratios) % 2:
            ratios.append(ours() / theirs())
        else:
            ratios.append(1 / (theirs() / ours()))
        known = median(ratios, "×")
        if len(ratios) >= 30 and known.high - known.low < 0.02:
            break
    return known


@pytest.mark.parametrize("name", ANYWHERE)
def test_pytorchs_own_benchmark_says_about_the_same(name):
    """A fault of the stopwatch would show; `benchmarks/measurement_quality.py` has the figures."""
    ratio = against_torch(ANYWHERE[name])
    assert ratio.high > 0.8 and ratio.low < 1.25, f"{name}: {ratio}"


def test_nothing_costs_no_more_than_with_pytorchs_own_benchmark():
    assert against_torch(lambda: None).low < 1.5


# --- Budgets -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget_s", [np.float32(0.5), np.float64(0.5), Fraction(1, 2), np.int64(1), 1]
)
def test_any_number_of_seconds_is_a_budget(clock, stopwatch, budget_s):
    assert measure(clock.taking(0.01), budget_s=budget_s, stopwatch=stopwatch).n >= 50


@pytest.mark.parametrize("budget_s", [0, -1, math.inf, math.nan, "1", None])
@pytest.mark.parametrize(
    "measuring", [lambda **k: measure(print, **k), lambda **k: measure_parts({}, **k)]
)
def test_a_budget_in_which_nothing_fits_is_refused(budget_s, measuring):
    with pytest.raises(BadValue, match=rf"budget_s={budget_s!r}: needs seconds"):
        measuring(budget_s=budget_s)


def test_no_parts_are_no_job():
    with pytest.raises(BadValue, match="parts: given none; needs at least one"):
        measure_parts({})


# --- What a call may do --------------------------------------------------------------------------


def fail():
    raise ZeroDivisionError("by hand")


def test_a_call_that_raises_is_named_and_its_error_is_the_cause():
    with pytest.raises(CallFailed, match=r"'broken' raised ZeroDivisionError: by hand") as told:
        measure(fail, label="broken")
    assert isinstance(told.value.__cause__, ZeroDivisionError)


def test_a_part_that_raises_is_named():
    with pytest.raises(CallFailed, match="'backward' raised ZeroDivisionError"):
        measure_parts({"forward": lambda _: 1, "backward": lambda _: fail()})


def test_an_interrupt_is_no_failed_call():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(stop)
    with pytest.raises(KeyboardInterrupt):
        measure_parts({"a": lambda _: stop()})
    assert gc.isenabled()


@pytest.mark.parametrize("on", [True, False])
def test_the_garbage_collector_is_held_and_put_back_as_it_was(clock, stopwatch, on):
    seen = set()

    def call():
        seen.add(gc.isenabled())
        clock.advance(0.1)

    (gc.enable if on else gc.disable)()
    try:
        measure(call, stopwatch=stopwatch)
        measure_parts({"a": lambda _: call()}, stopwatch=stopwatch)
        assert seen == {False}
        with pytest.raises(CallFailed):
            measure(fail)
        assert gc.isenabled() == on
    finally:
        gc.enable()


# --- What the times say --------------------------------------------------------------------------


@pytest.mark.parametrize(("p", "needed"), [(90, 64), (99, 662)])
def test_a_percentile_without_its_samples_is_refused(p, needed):
    mixed = np.random.default_rng(0).permutation(needed) + 1.0
    few, enough = taken(mixed[:-1]), taken(mixed)
    with pytest.raises(
        NotEnoughSamples,
        match=rf"'call': p{p} of {needed - 1} samples: needs {needed} samples. Raise budget_s",
    ):
        few.percentile(p)
    told = enough.percentile(p)
    assert (told.value, told.unit) == (pytest.approx(1 + p / 100 * (needed - 1)), "s")
    assert told.low < told.value < told.high <= needed


def test_blocks_have_no_percentiles():
    with pytest.raises(NotEnoughSamples, match="mean of 7 calls"):
        taken(range(1_000), block=7).percentile(90)


@pytest.mark.parametrize("p", [0, 100, -5, 101, math.nan, "90"])
def test_a_percentile_lies_between_0_and_100(p):
    with pytest.raises(BadValue, match="needs a number between 0 and 100"):
        taken([1.0]).percentile(p)


def test_the_median_stands_first_with_its_interval():
    measured = taken([1.0, 2.0] * 10 + [300.0])
    assert measured.median_s == measured.median.value == 2.0
    assert 1.0 <= measured.median.low <= 2.0 <= measured.median.high < 300.0
    assert measured.spread == 0.5  # from 1 to 2 lies the middle half, in medians


SOMEBODY_ELSE = devices.Surroundings(2.0, 2, 0.0, 1.5, None, None, None, None, None)
NOT_ALONE = replace(SOMEBODY_ELSE, busy_elsewhere=0.0, runs_at_once=3)
COARSE = Conditions("cpu", 1, "2.0", resolution_s=0.02)


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"steady": False}, "had not settled"),
        ({"times_s": (1.0,) * 9}, "only 9 timings"),
        ({"times_s": (1.0, 2.0) * 15}, "half of the timings spread over 66.7 % of the median"),
        ({"times_s": (*(9.0,) * 2, *(1.0, 1.01) * 15)}, "2 of 32 timings very slow"),
        (
            {"times_s": (1.0,) * 40 + (1.05,) * 40},
            "slow and fast timings come in groups: 80 of them tell too little for an interval",
        ),
        (
            {"times_s": (1.0, 1.0, 1.0, 1.05, 1.05, 1.05) * 25},
            "timings come in groups: 150 of them tell as much as 71 independent ones",
        ),
        ({"conditions": COARSE}, "the clock's steps of 20.0 ms are coarse for this call"),
        (
            {"conditions": replace(COARSE, resolution_s=0.0, surroundings=SOMEBODY_ELSE)},
            "other programs kept 1.5 of 2 cores busy",
        ),
        (
            {"conditions": replace(COARSE, resolution_s=0.0, surroundings=NOT_ALONE)},
            "3 runs at once on this machine, as asked",
        ),
    ],
)
def test_a_doubt_travels_with_the_number(changes, doubt):
    doubted = taken([1.0] * 30, **changes)
    assert len(doubted.doubts) == 1 and doubt in doubted.doubts[0]
    assert doubt in doubted.table().caption
    assert doubted.to_dict()["doubts"] == list(doubted.doubts)


@pytest.mark.parametrize(
    "changes",
    [
        {"times_s": (1.0,) * 30},
        {"times_s": (1.0, 1.15) * 15},
        {"times_s": (1.0, 1.2, 1.4) * 10},  # they spread, but each differs from the one before
        {"times_s": (1.0, 1.01) * 20 + (9.0,) * 2},
        {"conditions": replace(COARSE, resolution_s=0.01)},
        {"conditions": COARSE, "block": 2},  # two seconds between two readings of the clock
    ],
)
def test_just_below_its_threshold_nothing_is_doubted(changes):
    doubts = taken([1.0] * 30, **changes).doubts
    assert not [d for d in doubts if "spread" not in d]


def test_a_drift_is_doubted_and_leaves_the_interval_unknown():
    drifting = taken(np.linspace(1, 1.2, 30))
    assert any("the last third took 1.13 × the time" in doubt for doubt in drifting.doubts)
    assert drifting.median.interval == "unknown" and "unknown" in drifting._repr_html_()


def test_a_machine_that_becomes_faster_after_the_warm_up_is_told_under_the_picture(
    clock, stopwatch
):
    """No warm-up can know: the calls had settled. The interval and the caption have to say it."""
    stepping = measure(clock.taking(*[1.5e-3] * 166, 0.9e-3), budget_s=0.5, stopwatch=stopwatch)
    assert stepping.steady and stepping.n > 400
    assert stepping.median.interval == "unknown"
    caption = stepping.plot().caption
    assert " Slow and fast timings come in groups: " in caption
    assert caption.endswith(" The last third took 0.600 × the time of the first.")


def test_a_machine_that_changes_to_and_fro_is_told_under_the_picture():
    changing = taken([1.0] * 20 + [1.5] * 20 + [1.0] * 20)
    told = "come in groups: 60 of them tell too little for an interval."
    assert changing.drift == 1 and changing.plot().caption.endswith(told)


def test_a_good_measurement_has_no_doubts():
    assert taken([1.0] * 30).doubts == ()
    assert "Doubts" not in taken([1.0] * 30).table().caption


def test_the_caption_says_what_an_interval_of_one_moment_promises():
    """One line; how it was measured is folded away."""
    table = taken([1.0] * 30).table()
    assert table.caption.endswith("median in this run. Another run may differ by more.")
    assert table.details == "cpu, 1 thread."


def test_the_median_is_computed_once():
    """Live tables ask for it again and again."""
    one = taken([1.0, 2.0, 3.0] * 20)
    assert one.median is one.median and one == taken([1.0, 2.0, 3.0] * 20)


def test_every_raw_time_is_kept():
    assert taken([0.1, 0.2, 0.3]).to_dict()["times_s"] == [0.1, 0.2, 0.3]
    assert taken([3.3e-9]).to_dict()["times_s"] == [3.3e-9]  # of blocks, so short ones there are


def test_of_very_many_times_the_record_has_an_even_choice():
    kept = taken(range(1, 10 * MOST_SAVED + 1)).to_dict()
    assert (kept["n"], kept["times_kept_every"], len(kept["times_s"])) == (10_000, 10, 1_000)
    assert kept["times_s"][:2] == [1, 11]
    assert kept["median_s"]["value"] == 5_000.5  # of all


def test_the_record_is_json():
    real = measure(lambda: None, **SHORT)
    assert json.loads(json.dumps(real.to_dict(), allow_nan=False))["conditions"]["device"] == "cpu"


# --- Outliers ------------------------------------------------------------------------------------

# Quartiles 10 and 12: fences at 7 and 15, and at 4 and 18.
BODY = [10.0] * 10 + [11.0] * 10 + [12.0] * 10
NONE = {"very fast": 0, "fast": 0, "slow": 0, "very slow": 0}


@pytest.mark.parametrize("unit_s", [1.0, 1e-6])
@pytest.mark.parametrize(
    ("others", "found"),
    [
        ([7.0, 15.0], {}),  # on the fence
        ([6.9], {"fast": 1}),
        ([3.9], {"very fast": 1}),
        ([15.1, 18.0], {"slow": 2}),
        ([18.1, 99.0, 6.0], {"very slow": 2, "fast": 1}),
    ],
)
def test_outliers_are_classified_and_never_dropped(others, found, unit_s):
    measured = taken(unit_s * t for t in [*BODY, *others])
    assert measured.outliers == NONE | found
    assert measured.n == len(measured.times_s) == 30 + len(others)
    told = measured.table().details.partition("all kept:")[2]
    assert all(f" {count} {name}" in told for name, count in found.items())
    assert ("outliers, all kept" in measured.plot().caption) == bool(found)


@pytest.mark.parametrize(
    "times", [[2.0] * 20, [0.1 * 3 - 0.2] * 10 + [0.1] * 10, [0.0] * 20, [5.0]]
)
def test_constant_times_have_no_outliers(times):
    assert taken(times).outliers == NONE


@pytest.mark.parametrize("unit_s", [1.0, 1e-6])
def test_beside_constant_times_another_one_is_an_outlier_in_any_unit(unit_s):
    assert taken([unit_s] * 18 + [3 * unit_s]).outliers == NONE | {"very slow": 1}


# --- Cold caches ---------------------------------------------------------------------------------


@pytest.fixture
def events(monkeypatch, clock):
    """What happened in which order; a flush of the caches among it."""
    happened = []

    class Flush:
        bytes = 64_000_000

        def __init__(self, device):
            assert device.type == "cpu"

        def __call__(self):
            happened.append("flush")
            clock.advance(1.0)

    monkeypatch.setattr(timing, "Flush", Flush)
    return happened


def test_before_each_timing_the_caches_are_made_cold(clock, stopwatch, events):
    def call():
        events.append("call")
        clock.advance(1e-6)

    cold = measure(call, cache="cold", budget_s=15, stopwatch=stopwatch)
    timed = events[events.index("flush") :]
    assert timed == ["flush", "call"] * cold.n + ["call"]  # the last one for its memory
    assert (cold.block, cold.n) == (1, 15)
    assert cold.times_s == pytest.approx([1e-6] * cold.n)  # the flush is not in it
    assert "64.0 MB overwritten before each timing, so that the caches are cold" in str(
        cold.table()
    )


def test_a_warm_call_is_not_flushed(clock, stopwatch, events):
    warm = measure(clock.taking(0.1), stopwatch=stopwatch)
    assert events == [] and warm.flushed_bytes == 0 and "cold" not in str(warm.table())


@pytest.mark.parametrize("cache", ["Cold", "", None, True])
def test_another_state_of_the_caches_is_refused(cache):
    with pytest.raises(BadValue, match=rf"cache={cache!r}: needs 'warm' or 'cold'"):
        measure(print, cache=cache)


@pytest.mark.parametrize(
    ("sizes", "flushed"),
    [
        (["32K", "1024K"], 2 * 1024 * 1024),
        (["32K", "307200K"], 128_000_000),
        ([], 128_000_000),
        (["nonsense"], 128_000_000),
    ],
)
def test_a_flush_overwrites_twice_the_last_cache(tmp_path, monkeypatch, sizes, flushed):
    for i, size in enumerate(sizes):
        index = tmp_path / "cpu0" / "cache" / f"index{i}"
        index.mkdir(parents=True)
        (index / "size").write_text(size + "\n")
    monkeypatch.setattr(memory, "last_cache_bytes", lambda: devices.last_cache_bytes(tmp_path))
    flush = memory.Flush(CPU)
    assert flush.bytes == flushed == flush._buffer.nbytes
    flush()
    assert flush._buffer.min() == flush._buffer.max() == 1


# --- Compiling -----------------------------------------------------------------------------------


def hooks():
    from torch._dynamo.callback import callback_handler

    return [*callback_handler.start_callbacks, *callback_handler.end_callbacks]


def test_the_time_of_compiling_is_told_apart():
    compiled = torch.compile(lambda x: (x + 1).relu(), backend="eager")
    x = torch.ones(3)
    first = measure(lambda: compiled(x), **SHORT)
    assert 0 < first.compile_s < first.first_s + first.warmup_s
    assert "compiling took" in str(first.table())
    again = measure(lambda: compiled(x), **SHORT)
    assert again.compile_s == 0 and "compiling" not in str(again.table())
    assert hooks() == []


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_nobody_listens_to_the_compiler_afterwards(error):
    compiled = torch.compile(lambda x: x * 2, backend="eager")

    def call():
        compiled(torch.ones(2))
        raise error

    with pytest.raises((CallFailed, KeyboardInterrupt)):
        measure(call)
    assert hooks() == []


# --- Memory --------------------------------------------------------------------------------------

MEGA = 1_000_000
kept = []


def passing():
    for _ in range(2):  # one after the other
        torch.empty(MEGA)


@pytest.mark.parametrize(
    ("call", "most"),
    [
        (passing, 4 * MEGA),
        (lambda: (torch.empty(MEGA), torch.empty(MEGA)), 8 * MEGA),  # both at once
        (lambda: kept.append(torch.empty(MEGA // 4)), MEGA),
        (lambda: torch.empty(MEGA).relu_().numpy(), 4 * MEGA),
        (lambda: None, 0),
        (lambda: bytearray(MEGA), 0),  # Python's own is not counted
    ],
)
def test_a_known_allocation_is_the_most_that_a_call_has(call, most):
    assert peak_bytes(call, CPU) == most
    assert measure(call, **SHORT).peak_bytes == most
    kept.clear()


def test_the_table_says_how_much_memory_a_call_takes():
    assert "a call allocated at most 4.00 MB at once" in str(measure(passing, **SHORT).table())
    assert "allocated" not in str(taken([1.0]).table())


def test_a_call_longer_than_the_budget_is_not_called_once_more(clock, stopwatch):
    slow = measure(clock.taking(2.0), budget_s=1.0, stopwatch=stopwatch)
    assert slow.peak_bytes is None
    assert clock.now == pytest.approx(slow.first_s + slow.warmup_s + sum(slow.times_s))
    assert measure(clock.taking(0.5), budget_s=1.0, stopwatch=stopwatch).peak_bytes == 0


def test_a_device_that_does_not_tell_has_no_peak():
    assert peak_bytes(lambda: None, torch.device("meta")) is None


def test_watching_memory_writes_nothing(capfd):
    peak_bytes(passing, CPU)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_what_is_written_after_a_failure_is_seen_again(capfd, error):
    def call():
        raise error

    with pytest.raises(error):
        peak_bytes(call, CPU)
    os.write(2, b"seen")
    assert capfd.readouterr().err == "seen"
    assert peak_bytes(passing, CPU) == 4 * MEGA


def test_a_process_without_stderr_can_measure(monkeypatch):
    """As on Windows without a console."""
    monkeypatch.setattr(sys, "stderr", None)
    assert peak_bytes(passing, CPU) == 4 * MEGA


def test_what_a_call_frees_of_earlier_memory_is_not_taken_off():
    """Such as the gradients of the step before; memory that an earlier profile saw, too."""
    held = [None]

    def replaced():
        held[0] = None
        held[0] = torch.empty(MEGA)

    assert [peak_bytes(replaced, CPU) for _ in range(3)] == [4 * MEGA] * 3


def test_somebody_elses_profile_is_not_ended():
    with torch.autograd.profiler.profile() as theirs:
        assert measure(passing, **SHORT).peak_bytes is None
        torch.ones(3).sigmoid()
    assert "aten::sigmoid" in {event.name for event in theirs.function_events}


# --- Told ----------------------------------------------------------------------------------------


def test_the_picture_says_what_it_shows():
    assert taken([1.0, 2.0, 3.0]).plot().caption == (
        "call: 3 timings from 1.00 s to 3.00 s, median 2.00 s."
    )


def test_the_stopwatch_waits_at_both_edges(clock):
    events = []
    watch = Stopwatch(
        "cpu", lambda: events.append("read") or clock(), lambda _: events.append("wait")
    )
    watch.time(lambda: events.append("call"), repeats=2)
    assert events == ["wait", "read", "call", "call", "wait", "read"]


def test_an_unknown_part_is_named(clock, stopwatch):
    parts = measure_parts({"a": lambda _: clock.advance(0.1)}, stopwatch=stopwatch)
    with pytest.raises(LookupError, match="b"):
        parts["b"]


def test_the_default_stopwatch_waits_for_devices():
    assert Stopwatch()._synchronise is devices.synchronise
