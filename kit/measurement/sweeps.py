"""One thing varied, all else held still: a measurement per value, and the limit beside it."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any

import numpy as np
import torch

from kit import devices
from kit.core.checks import check_budget
from kit.core.errors import BadValue, CallFailed
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.measurement.conditions import Observer, compile_time
from kit.measurement.memory import peak_bytes
from kit.measurement.roofline import Peaks
from kit.measurement.stopwatch import (
    Call,
    Stopwatch,
    labelled,
    no_collection,
    warm_up,
)
from kit.measurement.timing import Measurement, measure
from kit.plots import Picture, Table, lines

Work = tuple[float, float]  # FLOPs, bytes that must move
ROUNDS = 10  # turns of each value; between two of them all others have theirs


@dataclass(frozen=True)
class Sweep(Result):
    """A measurement per value of the thing that was varied; where memory ran out, why."""

    varied: str
    unit: str  # of the items that a call handles
    measurements: dict[Any, Measurement]
    items: dict[Any, float]  # handled by one call
    failed: dict[Any, str] = field(default_factory=dict)  # value -> why it could not be measured
    bounds_s: dict[Any, float] = field(default_factory=dict)  # least seconds, by the peaks
    tried: tuple[Any, ...] = ()  # all values, in the order given
    alone: tuple[Any, ...] = ()  # measured after the others: memory did not hold all at once

    def __getitem__(self, value: Any) -> Measurement:
        return self.measurements[value]

    @property
    def values(self) -> list[Any]:
        """The values that could be measured."""
        return list(self.measurements)

    @property
    def latency_s(self) -> dict[Any, Estimate]:
        """Median seconds per call, by value."""
        return {value: m.median for value, m in self.measurements.items()}

    @property
    def throughput(self) -> dict[Any, Estimate]:
        """Items per second at the median, by value."""
        rates = {}
        for value, time in self.latency_s.items():
            rates[value] = replace(self.items[value] / time, unit=f"{self.unit}/s")
        return rates

    def share(self, value: Any) -> float | None:
        """The least time that the machine's peaks allow ÷ the time taken; None if not counted.

        Raises
        ------
        BadValue
            It is over 100 %: something was counted twice, or the peaks are out of date.
        """
        if value not in self.bounds_s:
            return None
        share = self.bounds_s[value] / self[value].median_s
        if share > 1:
            raise BadValue(
                f"{self.varied} {value}: took {words(self[value].median_s, 's')}, but the peaks "
                f"allow no less than {words(self.bounds_s[value], 's')}: check the count in "
                f"`work`, or measure the peaks again with kit.peaks(again=True)."
            )
        return share

    def best(self) -> Any:
        """The value of greatest throughput."""
        return max(self.throughput, key=lambda value: self.throughput[value].value)

    def __repr__(self) -> str:
        best = self.best()
        told = f"{self.varied} {self.values[0]} to {self.values[-1]}: "
        told += f"greatest throughput {self.throughput[best]} at {best}"
        return told + (f"; failed at {', '.join(map(str, self.failed))}" if self.failed else "")

    def table(self) -> Table:
        """What people see: a row per value, failed ones too."""
        rows, impossible = [], ""
        for value in self.tried or (*self.measurements, *self.failed):
            label = f"{value:,}" if isinstance(value, int) else str(value)
            if value in self.failed:
                rows.append((label, "—", self.failed[value], "—", "—"))
                continue
            time, rate = self.latency_s[value], self.throughput[value]
            try:
                share = words(self.share(value), "%")
            except BadValue as error:
                share, impossible = "over 100 %", f" {error}"
            rows.append(
                (
                    label,
                    words(time.value, "s"),
                    time.interval,
                    words(rate.value, rate.unit),
                    share,
                )
            )
        one = next(iter(self.measurements.values()))
        caption = f"Median time of a call and its 95 % interval in this run. {one.conditions}."
        if self.bounds_s:
            caption += " Share: the least time that the machine's peaks allow ÷ the time taken."
        if self.alone:
            caption += (
                f" Measured after the others, since memory did not hold all at once: "
                f"{', '.join(map(str, self.alone))}."
            )
        caption += impossible + self._doubts_caption()
        header = (self.varied, "latency", "interval", "throughput", "share of the limit")
        return Table(header, rows, caption)

    def _doubts_caption(self) -> str:
        """What gives cause to doubt at all values, and which have doubts of their own."""
        doubts = {str(value): m.doubts for value, m in self.measurements.items()}
        shared = [d for d in next(iter(doubts.values())) if all(d in o for o in doubts.values())]
        own = [value for value, each in doubts.items() if set(each) - set(shared)]
        told = f" Doubts: {'; '.join(shared)}." if shared else ""
        return told + (f" Doubts of their own have {', '.join(own)}: look at each." if own else "")

    def to_dict(self) -> dict[str, Any]:
        """The raw measurements and the limits."""
        return {
            "varied": self.varied,
            "values": self.values,
            "measurements": [m.to_dict() for m in self.measurements.values()],
            "items_per_call": [self.items[value] for value in self.values],
            "item": self.unit,
            "bound_s": [self.bounds_s.get(value) for value in self.values],
            "alone": list(self.alone),
            "failed": {str(value): why for value, why in self.failed.items()},
        }

    def plot(self) -> Picture:
        """Seconds per call over the varied thing, with the machine's limit."""
        curve = {value: time for value, time in self.latency_s.items()}
        limit = self.bounds_s
        return self._curve("time per call", "s", curve, limit)

    def plot_throughput(self) -> Picture:
        """Items per second over the varied thing, with the machine's limit."""
        limit = {value: self.items[value] / bound for value, bound in self.bounds_s.items()}
        return self._curve(f"{self.unit} per second", f"{self.unit}/s", self.throughput, limit)

    def _curve(
        self, quantity: str, unit: str, curve: dict[Any, Estimate], limit: dict[Any, float]
    ) -> Picture:
        first, last = self.values[0], self.values[-1]
        caption = (
            f"{quantity[0].upper()}{quantity[1:]} over {self.varied}: from "
            f"{words(curve[first].value, unit)} at {first} to {words(curve[last].value, unit)} at "
            f"{last}."
        )
        series = {"measured": (self.values, [e.value for e in curve.values()])}
        bands = {"measured": ([e.low for e in curve.values()], [e.high for e in curve.values()])}
        if limit:
            series["limit of this machine"] = (list(limit), list(limit.values()))
            caption += f" The limit there: {words(limit[first], unit)} and "
            caption += f"{words(limit[last], unit)}."
        return lines(
            series, self.varied, quantity, caption=caption, log="xy", bands=bands, unit=unit
        )


def sweep(
    make_call: Callable[[Any], Call],
    values: Iterable[Any],
    *,
    varied: str = "batch size",
    items: Callable[[Any], float] = lambda value: value,
    unit: str = "examples",
    work: Callable[[Any], Work] | None = None,
    peaks: Peaks | None = None,
    dtype: str = "float32",
    budget_s: float = 0.3,
    in_turns: bool = True,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> Sweep:
    """Measure a call for each value of one thing.

    The values take turns: in each of ten rounds every value is timed for a tenth of its budget,
    in an order drawn at random and in the next round reversed. So a machine that becomes slower
    does not look like an effect of the value. For that all calls are held in memory at once. A
    value for which there is no room beside the others is measured after them, alone, and the
    table says so; one that needs more memory than there is becomes a row.

    Parameters
    ----------
    make_call
        From a value to the call to measure, which takes nothing.
    values
        What to try; rows stand in the order given. Only numbers can be drawn as a curve.
    varied, unit
        What is varied, and what a call handles: for labels.
    items
        From a value to how many of these a call handles.
    work, peaks, dtype
        From a value to the call's (FLOPs, bytes that must move): with the peaks of this machine
        they give the limit.
    budget_s
        Seconds for each value.
    in_turns
        False: one value after the other, and each call is freed before the next is made. For
        calls that fill the memory; the machine's drift then looks like an effect of the value.
    device
        Where the calls compute.

    Raises
    ------
    CallFailed
        A call raised something else than want of memory, or no value could be measured.
    BadValue
        A call took less time than the peaks allow for its FLOPs: more than 100 % of them.

    Explained in lesson 04.
    """
    # Numbers out of an array become Python's own: a record in JSON knows no others.
    tried = tuple(dict.fromkeys(v.item() if isinstance(v, np.generic) else v for v in values))
    if not tried:
        raise BadValue("values: given none, needs at least one.")
    if work and not peaks:
        raise BadValue("work was given without peaks: kit.peaks(device) makes the limit of it.")
    handled = {value: items(value) for value in tried}
    for value, n in handled.items():
        if not isinstance(n, Real):
            raise BadValue(
                f"items({value!r}) gave {n!r}: needs the number of {unit} that a call handles; "
                f"say items=lambda value: 1 if each handles one."
            )
    check_budget(budget_s)
    needed = {value: work(value) for value in tried} if work else {}
    bounds = {value: peaks.bound_s(*each, dtype) for value, each in needed.items() if peaks}
    order = random.Random(0).sample(tried, len(tried))
    watch = stopwatch or Stopwatch(device)
    measured: dict[Any, Measurement] = {}
    if in_turns:
        measured = _in_turns(make_call, order, varied, budget_s, watch)
    left, failed = [value for value in order if value not in measured], {}
    for value in left:
        timed = _if_there_is_memory(
            lambda: measure(
                make_call(value),  # noqa: B023
                label=f"{varied} {value}",  # noqa: B023
                budget_s=budget_s,
                device=device,
                stopwatch=stopwatch,
            )
        )
        if timed is None:
            failed[value] = "out of memory"
        else:
            measured[value] = timed
        _free(watch)
    if not measured:
        raise CallFailed(f"{varied}: no value could be measured: {failed}")
    for value, (flops, _) in needed.items():
        if peaks and value in measured:  # over 100 % is an error
            peaks.share(flops, measured[value].median_s, dtype)
    there = [value for value in tried if value in measured]
    return Sweep(
        varied,
        unit,
        {value: measured[value] for value in there},
        {value: handled[value] for value in there},
        {value: failed[value] for value in tried if value in failed},
        {value: bounds[value] for value in there} if bounds else {},
        tried,
        tuple(value for value in there if in_turns and value in left),
    )


class _Turns:
    """A call that is timed for a while whenever it has its turn."""

    def __init__(self, call: Call, label: str, budget_s: float, watch: Stopwatch):
        self.call, self.label, self.budget_s, self.watch = call, label, budget_s, watch
        self.times_s: list[float] = []
        self.spent_s = 0.0
        with labelled(label), compile_time(watch) as compiling:
            self.first_s = watch.time(call)
            self.warm = warm_up(call, watch, budget_s)
        self.compile_s = compiling.seconds
        # As many in each turn: a slow moment must not count for less than a fast one.
        timing_s = self.warm.call_s * self.warm.block
        self.each = max(1, round(budget_s / ROUNDS / timing_s))

    def turn(self) -> bool:
        """Time it for a tenth of its budget, and once at least; slow ones take ten budgets."""
        if self.times_s and self.spent_s >= ROUNDS * self.budget_s:
            return True
        with labelled(self.label):
            if self.each > 1:
                self.call()  # not timed: the call before was another, and left its own caches
            for _ in range(self.each):
                taken = self.watch.time(self.call, self.warm.block)
                self.times_s.append(taken / self.warm.block)
                self.spent_s += taken
        return True

    def peak(self) -> int | None:
        """The most bytes that a call has allocated; None for slow ones, which are not repeated."""
        if np.median(self.times_s) >= self.budget_s:
            return None
        return peak_bytes(self.call, self.watch.device)

    def measured(self, observer: Observer, peak: int | None) -> Measurement:
        """All its times as a measurement."""
        block, spent_s, steady, _ = self.warm
        times = (tuple(self.times_s), block, self.first_s, spent_s, steady)
        found = Measurement(self.label, *times, observer.conditions())
        return replace(found, compile_s=self.compile_s, peak_bytes=peak)


def _in_turns(
    make_call: Callable[[Any], Call],
    order: list[Any],
    varied: str,
    budget_s: float,
    watch: Stopwatch,
) -> dict[Any, Measurement]:
    """Measurements of the values whose calls the memory holds at once."""
    held: dict[Any, _Turns] = {}
    observer = Observer(watch)
    with no_collection():
        for value in order:
            made = _if_there_is_memory(
                lambda: _Turns(make_call(value), f"{varied} {value}", budget_s, watch)  # noqa: B023
            )
            if made:
                held[value] = made
        del made
        for n in range(ROUNDS):
            if n % 2 == 0:
                order = random.Random(n).sample(list(held), len(held))
            for value in order if n % 2 == 0 else order[::-1]:
                if value in held and not _if_there_is_memory(held[value].turn):
                    del held[value]
        peaks = {value: _if_there_is_memory(each.peak) for value, each in held.items()}
    found = {value: each.measured(observer, peaks[value]) for value, each in held.items()}
    held.clear()
    _free(watch)
    return found


def _if_there_is_memory(do: Callable[[], Any]) -> Any:
    """What it returns; None if memory does not suffice."""
    try:
        with devices.memory_guard():
            return do()
    except (MemoryError, RuntimeError) as error:
        # Not kept under a name: an error holds on to everything that its call had made.
        if not devices.out_of_memory(error):
            raise
    gc.collect()  # what it took must not be missing for the next one
    return None


def _free(watch: Stopwatch) -> None:
    """Give memory back that only the allocator holds."""
    devices.backend_of(watch.device).empty_cache()
