"""Measurement, on a clock and a device made of numbers: the answer is known before."""

import gc
import math
import time
from dataclasses import replace

import pytest

from kit import devices
from kit.errors import BadValue, CallFailed, NotEnoughSamples
from kit.measurement import Measurement, Stopwatch, measure, measure_parts, samples_needed


def taken(times, **changes) -> Measurement:
    """A measurement with these times and nothing to doubt."""
    plain = Measurement("call", tuple(times), 1, 0.1, 0.1, True, "cpu", 1, 0.0)
    return replace(plain, **changes)


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


def test_a_real_clock_is_read_too():
    taken = measure(lambda: time.sleep(0.002), budget_s=0.03)
    assert 0.002 <= taken.median_s < 2
    assert taken.device == "cpu" and taken.threads == 1


@pytest.mark.parametrize("budget_s", [0, -1, math.inf, math.nan, "1", None])
@pytest.mark.parametrize(
    "measuring", [lambda **k: measure(print, **k), lambda **k: measure_parts({}, **k)]
)
def test_a_budget_in_which_nothing_fits_is_refused(budget_s, measuring):
    with pytest.raises(BadValue, match=rf"budget_s={budget_s!r}: needs seconds"):
        measuring(budget_s=budget_s)


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


@pytest.mark.parametrize(("p", "n"), [(90, 64), (95, 130), (99, 662)])
def test_a_percentile_needs_as_many_samples_as_mlperf_says(p, n):
    assert samples_needed(p) == n


@pytest.mark.parametrize(("p", "needed"), [(90, 64), (99, 662)])
def test_a_percentile_without_its_samples_is_refused(p, needed):
    few, enough = taken(range(1, needed)), taken(range(1, needed + 1))
    with pytest.raises(
        NotEnoughSamples, match=rf"p{p} of 'call': {needed - 1} timings, needs {needed}"
    ):
        few.percentile(p)
    assert enough.percentile(p) == pytest.approx(1 + p / 100 * (needed - 1))


def test_blocks_have_no_percentiles():
    with pytest.raises(NotEnoughSamples, match="mean of 7 calls"):
        taken(range(1_000), block=7).percentile(90)


@pytest.mark.parametrize("p", [0, 100, -5, 101, math.nan])
def test_a_percentile_lies_between_0_and_100(p):
    with pytest.raises(BadValue, match="needs a number between 0 and 100"):
        taken([1.0]).percentile(p)


def test_the_median_stands_first_with_its_interval():
    measured = taken([1.0] * 10 + [2.0] * 10 + [300.0])
    assert measured.median_s == measured.median.value == 2.0
    assert 1.0 <= measured.median.low <= 2.0 <= measured.median.high < 300.0
    assert measured.spread == 0.5  # from 1 to 2 lies the middle half, in medians


@pytest.mark.parametrize(
    ("changes", "doubt"),
    [
        ({"steady": False}, "had not settled"),
        ({"times_s": (1.0,) * 9}, "only 9 timings"),
        ({"times_s": (1.0, 2.0) * 10}, "half of the timings spread over"),
        ({"load": 2.0, "cores": 2.0}, "other programs were busy"),
    ],
)
def test_a_doubt_travels_with_the_number(changes, doubt):
    doubted = taken([1.0] * 20, **changes)
    assert len(doubted.doubts) == 1 and doubt in doubted.doubts[0]
    assert doubt in doubted.table().caption
    assert doubted.to_dict()["doubts"] == list(doubted.doubts)


def test_a_good_measurement_has_no_doubts():
    assert taken([1.0] * 20).doubts == ()
    assert "Doubts" not in taken([1.0] * 20).table().caption


def test_every_raw_time_is_kept():
    assert taken([0.1, 0.2, 0.3]).to_dict()["times_s"] == [0.1, 0.2, 0.3]


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
