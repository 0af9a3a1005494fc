"""Sweeps: one thing varied, on a made-up clock; memory that runs out in earnest; limits by hand."""

import gc
import json
import math
import random
import re
import weakref
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import taken

from kit import devices
from kit.core.errors import BadValue, CallFailed, UnknownName
from kit.devices import resource_limits
from kit.measurement import Peaks, roofline
from kit.measurement import peaks as finding
from kit.measurement.sweeps import Sweep, sweep

PEAKS = Peaks({"float32": 1e9, "bfloat16": 4e9}, 1e8, {}, "cpu", 1)
SHORT = {"budget_s": 0.005}


def made(times: dict, **changes) -> Sweep:
    """A sweep whose calls took these seconds."""
    measured = {value: taken([s] * 20) for value, s in times.items()}
    return Sweep("batch size", "examples", measured, {value: value for value in times}, **changes)


@pytest.fixture
def sweeping(clock, stopwatch):
    """A sweep on the made-up clock: a call takes a tenth of a second, and 10 ms per example."""

    def run(values, seconds=lambda value: 0.1 + 0.01 * value, **options):
        return sweep(
            lambda value: clock.taking(seconds(value)), values, stopwatch=stopwatch, **options
        )

    return run


# --- What is measured ----------------------------------------------------------------------------


def test_each_value_is_measured(sweeping):
    found = sweeping([1, 10, 30])
    assert {v: e.value for v, e in found.latency_s.items()} == pytest.approx(
        {1: 0.11, 10: 0.2, 30: 0.4}
    )
    assert {v: e.value for v, e in found.throughput.items()} == pytest.approx(
        {1: 1 / 0.11, 10: 50, 30: 75}
    )
    assert found.throughput[10].unit == "examples/s"
    assert (found.best(), found[30].label) == (30, "batch size 30")


def test_a_lead_that_is_lost_again_does_not_count():
    found = made({1: 1.0, 10: 2.0, 100: 9.0})
    assert found.overtaken_from({1: 0.5, 10: 3.0, 100: 3.0}) == 100
    assert found.overtaken_from({1: 0.5, 10: 1.0, 100: 3.0}) == 1
    assert found.overtaken_from({1: 0.5, 10: 1.0, 100: 9.5}) is None
    assert found.overtaken_from({10: 1.0}) is None  # unknown at 100


def test_an_unknown_interval_neither_begins_nor_ends_a_lead():
    found = made({1: 1.0, 10: 2.0, 100: 9.0})
    few = {value: taken([found.latency_s[value].value] * 3) for value in (10, 100)}
    unknown = replace(found, measurements={**found.measurements, 10: few[10]})
    assert unknown.overtaken_from({1: 0.5, 10: 1.0, 100: 3.0}) == 1
    assert unknown.overtaken_from({1: 1.5, 10: 1.0, 100: 3.0}) == 100
    assert unknown.overtaken_from({1: 0.5, 10: 2.5, 100: 3.0}) == 100
    last = replace(found, measurements={**found.measurements, 100: few[100]})
    assert last.overtaken_from({1: 1.5, 10: 3.0, 100: 3.0}) is None


def test_without_a_limit_the_table_has_no_share_of_it():
    assert "share of the limit" not in made({1: 1.0}).table().header
    assert "share of the limit" in made({1: 1.0}, bounds_s={1: 0.5}).table().header


@pytest.mark.parametrize("values", [[1, 2, 4, 8, 16, 32], [32, 1, 16, 2, 8, 4]])
def test_turns_are_in_random_order_and_rows_in_the_order_given(clock, stopwatch, values):
    order = []

    def make_call(value):
        order.append(value)
        return clock.taking(0.1)

    found = sweep(make_call, values, stopwatch=stopwatch, in_turns=False)
    assert sorted(order) == sorted(values)
    assert order not in (values, values[::-1])
    assert found.values == values
    assert [row[0] for row in found.table().rows] == [str(value) for value in values]


def test_values_take_turns_and_the_next_round_is_reversed(clock, stopwatch):
    """Each call takes longer than its share of the budget: one timing per turn."""
    happened = []

    def make_call(value):
        return lambda: (happened.append(value), clock.advance(0.1))

    found = sweep(make_call, [1, 2, 3, 4, 5], stopwatch=stopwatch, budget_s=0.3)
    turns = happened[-55:-5]  # the last call of each watched the memory
    rounds = [turns[i : i + 5] for i in range(0, 50, 5)]
    assert all(sorted(each) == [1, 2, 3, 4, 5] for each in rounds)
    assert all(a == b[::-1] for a, b in zip(rounds[::2], rounds[1::2], strict=True))
    assert len({tuple(each) for each in rounds}) > 4
    assert {m.n for m in found.measurements.values()} == {10}


@pytest.mark.parametrize(("in_turns", "near"), [(True, True), (False, False)])
def test_a_machine_that_becomes_slower_is_no_effect(clock, stopwatch, in_turns, near):
    """It takes some times as long in the end; 8 takes 4 × the time of 2, on any machine."""

    def make_call(value):
        return lambda: clock.advance(0.001 * value * (1 + clock.now / 20))

    values = [1, 2, 4, 8]
    found = sweep(make_call, values, stopwatch=stopwatch, budget_s=10, in_turns=in_turns)
    ratios = [found[b].median_s / found[a].median_s for a, b in pairwise(values)]
    assert (ratios == pytest.approx([2, 2, 2], rel=0.02)) is near


def test_the_random_numbers_of_the_reader_stay_as_they_are(sweeping):
    before = random.getstate()
    sweeping([1, 2, 3])
    assert random.getstate() == before


@pytest.mark.parametrize(
    "values",
    [
        (1, 2, 4),
        range(1, 5),
        (2**i for i in range(3)),
        np.array([1, 2, 4]),
        np.array([0.5, 1.5]),
        iter([3]),
        [1, 1, 2],
    ],
)
def test_values_may_come_in_any_way(sweeping, values):
    found = sweeping(values, items=lambda value: 1)
    assert all(type(value) in (int, float) for value in found.values)
    assert len(found.values) == len(set(found.values)) == len(found.table().rows)
    kept = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert kept["values"] == found.values


def test_things_without_an_order_may_be_varied_too(sweeping):
    dtypes = [torch.float64, torch.float32]
    found = sweeping(dtypes, lambda _: 0.1, varied="dtype", items=lambda _: 1, unit="predictions")
    assert [row[0] for row in found.table().rows] == ["torch.float64", "torch.float32"]
    assert found.table().header[0] == "dtype"


@pytest.mark.parametrize("values", [[], (), iter([]), np.array([])])
def test_without_values_there_is_no_sweep(sweeping, values):
    with pytest.raises(BadValue, match="values: given none; needs at least one"):
        sweeping(values)


def test_what_a_call_handles_must_be_a_number(clock):
    """Names are no numbers of examples; it is said before anything is measured."""
    with pytest.raises(BadValue, match=r"items\('mlp'\) gave 'mlp': needs the number of examples"):
        sweep(lambda name: pytest.fail("measured"), ["mlp", "cnn"])


# --- What goes wrong -----------------------------------------------------------------------------


def allocating(value):
    return lambda: torch.empty(value)


def test_want_of_memory_is_a_row():
    found = sweep(allocating, [10, 10**15, 20], **SHORT)
    assert found.failed == {10**15: "out of memory"}
    assert found.values == [10, 20]
    assert [row[0] for row in found.table().rows] == ["10", "1,000,000,000,000,000", "20"]
    assert found.table().rows[1][1:] == ("—", "out of memory", "—")
    assert "failed at 1000000000000000" in repr(found)
    assert found.to_dict()["failed"] == {"1000000000000000": "out of memory"}
    assert found.plot().caption and found.plot_throughput().caption


def test_a_value_without_room_beside_the_others_is_measured_after_them():
    """Room for two calls: the third is measured alone, and the table says so."""

    class Room:
        taken = 0

        def __init__(self):
            if Room.taken == 2:
                raise MemoryError
            Room.taken += 1

        def __del__(self):
            Room.taken -= hasattr(self, "whole")

    def make_call(value):
        room = Room()
        room.whole = True
        return lambda: room.whole

    found = sweep(make_call, [1, 2, 3], **SHORT)
    assert found.values == [1, 2, 3] and not found.failed
    assert len(found.alone) == 1 and found.to_dict()["alone"] == list(found.alone)
    told = f"because all at once did not fit into memory: {found.alone[0]}."
    assert told in found.table().caption


def test_want_of_memory_in_a_later_turn_is_measured_alone():
    calls = {1: 0, 2: 0}

    def make_call(value):
        def call():
            calls[value] += 1
            if value == 2 and calls[2] == 40:
                raise MemoryError

        return call

    found = sweep(make_call, [1, 2], **SHORT)
    assert found.values == [1, 2] and found.alone == (2,)


def test_want_of_memory_while_the_call_is_made_is_a_row_too():
    def make_call(value):
        room = np.empty(value)
        return lambda: room.sum()

    assert sweep(make_call, [10, 10**15], **SHORT).failed == {10**15: "out of memory"}


@pytest.mark.skipif(
    resource_limits.process_bytes("VmData") is None, reason="only Linux hands out too much"
)
def test_more_memory_than_there_is_is_a_row_even_if_linux_would_hand_it_out(monkeypatch):
    """As if 200 MB were left. Without the guard Linux would end this program, later on."""
    monkeypatch.setattr(resource_limits, "memory_left", lambda: 200_000_000)
    found = sweep(allocating, [1_000, 100_000_000], **SHORT)
    assert found.failed == {100_000_000: "out of memory"}
    assert torch.empty(100_000_000).shape  # afterwards it is handed out again


def test_what_a_failed_call_had_taken_is_given_back():
    """An error holds on to what its call had made: the next value must not miss that memory."""
    taken_before, alive = [], []

    def make_call(value):
        alive.append([each for each in taken_before if each() is not None])

        def call():
            room = torch.empty(10)
            taken_before.append(weakref.ref(room))
            raise MemoryError

        return call if value else lambda: None

    sweep(make_call, [0, 1, 2, 3], items=lambda value: 1, **SHORT)
    assert len(taken_before) == 6 and alive == [[]] * 7  # in turns, and then alone


@pytest.mark.parametrize("error", [RuntimeError("shapes do not fit"), ValueError("no such size")])
def test_another_error_of_a_call_is_raised_with_its_cause(error):
    def fail():
        raise error

    with pytest.raises(CallFailed, match=f"'width 2' raised .*{error}") as told:
        sweep(lambda value: fail if value == 2 else lambda: None, [1, 2], varied="width", **SHORT)
    assert told.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("no model"), ZeroDivisionError(), KeyError("big")])
def test_an_error_while_the_call_is_made_is_raised_as_it_is(error):
    def make_call(value):
        raise error

    with pytest.raises(type(error)):
        sweep(make_call, [1])


def test_an_interrupt_ends_the_sweep_and_puts_everything_back():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(lambda value: stop, [1, 2])
    assert gc.isenabled()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_if_no_value_could_be_measured_that_is_an_error():
    with pytest.raises(CallFailed, match=r"batch size: no value could be measured: .*memory"):
        sweep(allocating, [10**15, 10**16], **SHORT)


@pytest.mark.parametrize("budget_s", [0, math.nan, "1"])
def test_a_budget_in_which_nothing_fits_is_refused(budget_s):
    with pytest.raises(BadValue, match="needs seconds"):
        sweep(allocating, [1], budget_s=budget_s)


def test_memory_is_guarded_while_measuring(monkeypatch, sweeping):
    from contextlib import contextmanager

    happened = []

    @contextmanager
    def guard():
        happened.append("in")
        yield
        happened.append("out")

    monkeypatch.setattr(devices, "memory_guard", guard)
    sweeping([1, 2])
    assert happened == ["in", "out"] * (len(happened) // 2) and len(happened) >= 24


# --- The limit -----------------------------------------------------------------------------------


def test_the_limit_stands_beside_what_was_measured(sweeping):
    """2e7 FLOPs per example at 1e9 a second: 20 ms each, where a call takes 100 + 10 ms each."""
    found = sweeping([1, 2, 4], lambda v: 0.1 + 0.03 * v, work=lambda v: (2e7 * v, 0), peaks=PEAKS)
    assert found.bounds_s == pytest.approx({1: 0.02, 2: 0.04, 4: 0.08})
    assert found.share(4) == pytest.approx(0.08 / 0.22)
    assert [row[-1] for row in found.table().rows] == ["15.4 %", "25.0 %", "36.4 %"]
    assert found.to_dict()["bound_s"] == pytest.approx([0.02, 0.04, 0.08])
    assert "Share: the least time that the machine's peaks allow" in found.table().caption


def test_the_limit_is_that_of_the_dtype(sweeping):
    found = sweeping([1], work=lambda v: (4e7, 0), peaks=PEAKS, dtype="bfloat16")
    assert found.bounds_s == {1: 0.01}


def test_parts_that_run_one_after_another_have_a_limit_each(sweeping):
    """40 ms for 4e7 FLOPs, then 50 ms for 2e9 bytes: together 90, not the longer of both."""
    known = replace(PEAKS, bandwidth_bytes_per_s=4e10)
    parts = [(4e7, 8), (8, 2e9)]
    assert sweeping([1], work=lambda v: parts, peaks=known).bounds_s == pytest.approx({1: 0.09})
    both = sweeping([1], work=lambda v: (4e7 + 8, 2e9 + 8), peaks=known)
    assert both.bounds_s == pytest.approx({1: 0.05})


def test_the_limit_is_drawn(sweeping):
    found = sweeping([1, 2, 4], work=lambda v: (2e7 * v, 0), peaks=PEAKS)
    for picture, limit in (
        (found.plot(), [0.02, 0.04, 0.08]),
        (found.plot_throughput(), [50, 50, 50]),
    ):
        drawn = {line.get_label(): line for line in picture.figure.axes[0].get_lines()}
        assert drawn["limit of this machine"].get_ydata() == pytest.approx(limit)
        assert "The limit there:" in picture.caption and picture.caption.endswith(".")


def test_without_work_there_is_no_limit(sweeping):
    found = sweeping([1, 2])
    assert found.share(1) is None and found.bounds_s == {}
    assert "share of the limit" not in found.table().header
    assert found.to_dict()["bound_s"] == [None, None]
    drawn = found.plot().figure.axes[0].get_lines()
    assert "limit of this machine" not in {line.get_label() for line in drawn}


def test_faster_than_the_limit_is_an_error_that_says_what_to_check():
    impossible = made({8: 0.1}, bounds_s={8: 0.2})
    told = r"batch size 8: took 100 ms, but .* no less than 200 ms\. .* more threads .* counted"
    with pytest.raises(BadValue, match=told):
        impossible.share(8)
    shown = impossible.table()  # what was measured is still shown, with the error beside it
    assert shown.rows[0][-1] == "over 100 %" and re.search(told, shown.caption)


def test_more_flops_than_the_peak_allows_raise(sweeping):
    """A call of 110 ms with 2e8 FLOPs, at a peak of 1e9 a second."""
    with pytest.raises(BadValue, match="182 % of this machine's peak"):
        sweeping([1], work=lambda v: (2e8, 0), peaks=PEAKS)


def test_a_peak_that_a_call_has_renewed_gives_the_limit_and_is_said(sweeping, monkeypatch):
    """A call of 110 ms with 1.2e8 FLOPs, at a peak of 1e9 a second that was measured too low."""
    monkeypatch.setattr(finding, "measured_again", lambda known: known)
    monkeypatch.setattr(roofline, "RENEWED", {})
    peaks = replace(PEAKS, shapes=dict.fromkeys(PEAKS.matmul_flops_per_s, (1, 1, 1)))
    found = sweeping([1], work=lambda v: (1.2e8, 0), peaks=peaks)
    assert found.share(1) == pytest.approx(1) and found.bounds_s[1] == pytest.approx(0.11)
    assert "Peaks renewed, because work was faster: float32 from" in found.table().caption


def test_work_without_peaks_is_refused(sweeping):
    with pytest.raises(BadValue, match=r"work is given without peaks: .*kit.peaks\(device\)"):
        sweeping([1], work=lambda v: (1, 1))


@pytest.mark.parametrize(
    ("work", "dtype", "error"),
    [
        (lambda v: (1, 1), "int8", UnknownName),
        (lambda v: 1 / 0, "float32", ZeroDivisionError),
        (lambda v: 1, "float32", TypeError),
    ],
)
def test_a_wrong_count_is_found_before_anything_is_measured(work, dtype, error):
    with pytest.raises(error):
        sweep(lambda v: pytest.fail("measured"), [1], work=work, peaks=PEAKS, dtype=dtype)


# --- Told ----------------------------------------------------------------------------------------


def test_the_interval_of_the_throughput_is_that_of_the_time_turned_round():
    times = [1.0, 4.0, 2.0] * 10 + [2.0]
    found = replace(made({8: 1.0}), measurements={8: taken(times)})
    time, rate = found.latency_s[8], found.throughput[8]
    assert time.low < time.value < time.high
    assert (rate.low, rate.value, rate.high) == (8 / time.high, 8 / time.value, 8 / time.low)
    assert rate.low < rate.value < rate.high


def test_it_tells_its_best():
    found = made({1: 0.1, 8: 0.2, 64: 3.2})
    assert found.best() == 8
    assert repr(found).startswith("batch size 1 to 64: greatest throughput 40.0 examples/s")
    assert repr(found).endswith("at 8")


def test_its_pictures_say_their_numbers():
    found = made({1: 0.1, 8: 0.2})
    assert found.plot().caption == "Time per call over batch size: from 100 ms at 1 to 200 ms at 8."
    assert found.plot_throughput().caption == (
        "Examples per second over batch size: from 10.0 examples/s at 1 to 40.0 examples/s at 8."
    )
    bent = made({1: 0.1, 8: 0.2, 64: 3.2}).plot_throughput().caption
    assert bent.endswith("to 20.0 examples/s at 64; the largest median, 40.0 examples/s, at 8.")


def test_doubts_of_each_value_are_in_the_caption():
    found = made({1: 0.1, 8: 0.2})
    doubted = replace(found.measurements[8], steady=False)
    table = replace(found, measurements=found.measurements | {8: doubted}).table()
    said = "batch size 8: times had not settled when the warm-up ended."
    assert said in f"{table.caption} {table.details}" and "batch size 1" not in table.details
    alone = replace(found, measurements={8: doubted}).table().caption
    assert "Doubts: times had not settled when the warm-up ended" in alone
