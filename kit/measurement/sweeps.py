"""One setting varied, all else equal: a measurement per value, and the machine's limit."""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from kit import devices
from kit.core.checks import check_budget, is_number
from kit.core.errors import BadValue, CallFailed
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.measurement.conditions import Observer, compile_time
from kit.measurement.memory import peak_bytes
from kit.measurement.roofline import Peaks, impossible
from kit.measurement.stopwatch import Call, Stopwatch, check_call, labelled, no_collection, warm_up
from kit.measurement.timing import Measurement, split_doubts
from kit.plots import Picture, Table, lines, with_doubts

Work = tuple[float, float]  # FLOPs, bytes that must move
Works = Work | list[Work]  # of a call; a list: of its parts, which run one after another
MAKER = "that makes a call: lambda n: lambda: kit.predict(model, inputs[:n])"
# With ten turns spread over the sweep, a value cannot have all its timings in one bad moment.
ROUNDS = 10  # turns of each value; between two of them, each other value has one


@dataclass(frozen=True)
class Sweep(Result):
    """A measurement per value of the setting that was varied; failed values with the reason."""

    varied: str
    unit: str  # of the items that a call handles
    measurements: dict[Any, Measurement]
    items: dict[Any, float]  # handled by one call
    failed: dict[Any, str] = field(default_factory=dict)  # value -> why it was not measured
    bounds_s: dict[Any, float] = field(default_factory=dict)  # least seconds, from the peaks
    tried: tuple[Any, ...] = ()  # all values, in the order given
    alone: tuple[Any, ...] = ()  # measured after the others: all at once did not fit into memory
    renewals: str = ""  # of peaks: a sentence

    def __getitem__(self, value: Any) -> Measurement:
        return self.measurements[value]

    @property
    def values(self) -> list[Any]:
        """The values that were measured."""
        # Failed values are missing here, so curves only hold what was measured.
        return list(self.measurements)

    @property
    def latency_s(self) -> dict[Any, Estimate]:
        """Median seconds per call, by value."""
        return {value: m.median for value, m in self.measurements.items()}

    @property
    def throughput(self) -> dict[Any, Estimate]:
        """Items per second at the median, by value."""
        return {
            # Dividing swaps the ends: the shortest time gives the highest rate.
            value: (self.items[value] / time).with_unit(f"{self.unit}/s")
            for value, time in self.latency_s.items()
        }

    def share(self, value: Any) -> float | None:
        """The least time that the machine's peaks allow ÷ the time taken; None without a count.

        Raises
        ------
        BadValue
            It is over 100 %: see `Peaks.share`.
        """
        # Unknown is None, never 0 or 100 %.
        if value not in self.bounds_s:
            return None
        # The roofline's limit: the larger of FLOPs ÷ peak and bytes ÷ bandwidth, in seconds.
        share = self.bounds_s[value] / self[value].median_s
        if share > 1 + 1e-9:  # a renewed peak gives 1, but for rounding
            conditions = self[value].conditions
            raise impossible(
                f"{self.varied} {value}: took {words(self[value].median_s, 's')}, but the peaks "
                f"allow no less than {words(self.bounds_s[value], 's')}",
                conditions.threads,
                "FLOPs and bytes of `work`",
            )
        return min(1.0, share)

    def overtaken_from(self, seconds: Mapping[Any, float]) -> Any:
        """The first value from which on these seconds stay below the intervals; None: at none.

        A lead that is lost again at a larger value does not count. It cannot begin where an
        interval is unknown, but it goes on there if the measured time is longer.

        Explained in lesson 05.
        """
        first = None
        for value in reversed(self.values):
            latency = self.latency_s[value]
            unknown = latency.low <= 0
            if seconds.get(value, math.inf) >= (latency.value if unknown else latency.low):
                break
            first = first if unknown else value
        return first

    def best(self) -> Any:
        """The value with the greatest throughput."""
        # By the measured value alone: neighbours may be tied within their intervals.
        return max(self.throughput, key=lambda value: self.throughput[value].value)

    def __repr__(self) -> str:
        best = self.best()
        text = f"{self.varied} {self.values[0]} to {self.values[-1]}: "
        text += f"greatest throughput {self.throughput[best]} at {best}"
        return text + (f"; failed at {', '.join(map(str, self.failed))}" if self.failed else "")

    def table(self) -> Table:
        """A row per value, also for failed ones."""
        rows, refused = [], ""
        columns = 5 if self.bounds_s else 4  # without a limit there is no share of it
        for value in self.tried or (*self.measurements, *self.failed):
            label = f"{value:,}" if isinstance(value, int) else str(value)
            if value in self.failed:
                rows.append((label, "—", self.failed[value], "—", "—")[:columns])
                continue
            time, rate = self.latency_s[value], self.throughput[value]
            # An impossible share becomes a cell and a sentence, so that the other rows survive.
            try:
                share = words(self.share(value), "%")
            except BadValue as error:
                share, refused = "over 100 %", f" {error}"
            speed = words(time.value, "s"), time.interval, words(rate.value, rate.unit)
            rows.append((label, *speed, share)[:columns])
        one = next(iter(self.measurements.values()))
        caption = f"Median time of a call and its 95 % interval in this run. {one.conditions}."
        if self.bounds_s:
            caption += " Share: the least time that the machine's peaks allow ÷ the time taken."
        if self.alone:
            caption += (
                f" Measured after the others, because all at once did not fit into memory: "
                f"{', '.join(map(str, self.alone))}."
            )
        caption += self.renewals + refused
        header = (self.varied, "latency", "interval", "throughput", "share of the limit")
        return Table(header[:columns], rows, *with_doubts(caption, self._doubts()))

    def _doubts(self) -> list[str]:
        """The doubts that all values share, then the first of the others of each value."""
        # A busy machine disturbs all values: said once per value, it would hide the special ones.
        shared, own = split_doubts(self.measurements)
        return shared + [f"{self.varied} {at}: {each[0]}" for at, each in own.items() if each]

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
        """Seconds per call over the varied setting, with the machine's limit."""
        # Where the limit falls towards small values and the measured curve stays flat, overhead
        # dominates: time that does not depend on the amount of work, such as starting operations.
        return self._curve("time per call", "s", self.latency_s, self.bounds_s)

    def plot_throughput(self) -> Picture:
        """Items per second over the varied setting, with the machine's limit."""
        limit = {value: self.items[value] / bound for value, bound in self.bounds_s.items()}
        return self._curve(f"{self.unit} per second", f"{self.unit}/s", self.throughput, limit)

    def _curve(
        self, quantity: str, unit: str, curve: dict[Any, Estimate], limit: dict[Any, float]
    ) -> Picture:
        first, last = self.values[0], self.values[-1]
        caption = (
            f"{quantity[0].upper()}{quantity[1:]} over {self.varied}: from "
            f"{words(curve[first].value, unit)} at {first} to {words(curve[last].value, unit)} at "
            f"{last}"
        )
        most = max(curve, key=lambda value: curve[value].value)
        if most not in (first, last):
            caption += f"; the largest median, {words(curve[most].value, unit)}, at {most}"
        caption += "."
        series = {"measured": (self.values, [e.value for e in curve.values()])}
        # Bands show the interval of each median. Overlapping bands do not prove two values equal.
        bands = {"measured": ([e.low for e in curve.values()], [e.high for e in curve.values()])}
        if limit:
            series["limit of this machine"] = (list(limit), list(limit.values()))
            caption += f" The limit there: {words(limit[first], unit)} and "
            caption += f"{words(limit[last], unit)}."
        return lines(
            # Both axes logarithmic: values double, and a straight line then is a power law.
            series,
            self.varied,
            quantity,
            caption=caption,
            log="xy",
            bands=bands,
            unit=unit,
        )


def sweep(
    make_call: Callable[[Any], Call],
    values: Iterable[Any],
    *,
    varied: str = "batch size",
    items: Callable[[Any], float] = lambda value: value,
    unit: str = "examples",
    work: Callable[[Any], Works] | None = None,
    peaks: Peaks | None = None,
    dtype: str = "float32",
    budget_s: float = 0.3,
    in_turns: bool = True,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> Sweep:
    """Measure a call for each value of one setting.

    The values take turns. In each of ten rounds every value is timed for a tenth of its budget,
    in a random order that the next round reverses. So a machine that slows down does not look
    like an effect of the value. This holds all calls in memory at once. A value that does not fit
    beside the others is measured alone after them, and the table says so. A value that does not
    fit at all becomes a row that says "out of memory".

    Parameters
    ----------
    make_call
        From a value to the call to measure, which takes no arguments.
    values
        The values, in the order of the rows. Only numbers can be drawn as a curve.
    varied, unit
        Labels: the setting, and the items that a call handles.
    items
        From a value to the number of items that a call handles.
    work, peaks, dtype
        From a value to the call's (FLOPs, bytes that must move), or to a list of these for the
        parts of the call that run one after another, such as `count.step_work`. Together with the
        peaks of this machine they give the limit.
    budget_s
        Seconds for each value.
    in_turns
        False: one value after the other, and each call is freed before the next is made. Use it
        for calls that fill the memory. Drift of the machine then looks like an effect of the
        value.
    device
        Where the calls compute.

    Raises
    ------
    CallFailed
        A call raised an error other than running out of memory, or no value could be measured.
    BadValue
        A call was faster than the peaks allow for its FLOPs: a share of more than 100 %.

    Examples
    --------
    >>> x = torch.rand(64, 64)
    >>> found = sweep(lambda n: lambda: x[:n] @ x, [1, 64], budget_s=0.02)
    >>> found.values, found.throughput[64].unit
    ([1, 64], 'examples/s')

    Explained in lesson 04.
    """
    check_call("kit.sweep", make_call, MAKER)
    # NumPy's numbers become Python's own, because JSON knows no others.
    tried = tuple(dict.fromkeys(v.item() if isinstance(v, np.generic) else v for v in values))
    if not tried:
        raise BadValue("values: given none; needs at least one.")
    if work and not peaks:
        raise BadValue("work is given without peaks: needs both. Give peaks=kit.peaks(device).")
    handled = {value: items(value) for value in tried}
    for value, n in handled.items():
        if not is_number(n):
            raise BadValue(
                f"items({value!r}) gave {n!r}: needs the number of {unit} that a call handles. "
                f"Give items=lambda value: 1 if each call handles one."
            )
    check_budget(budget_s)
    works = {value: work(value) for value in tried} if work else {}
    needed = {value: w if isinstance(w, list) else [w] for value, w in works.items()}
    _bounds_s(needed, peaks, dtype)  # a dtype without a peak is an error before the measurement
    # Not in the order given: from small to large, drift would look like an effect of size.
    order = random.Random(0).sample(tried, len(tried))
    watch = stopwatch or Stopwatch(device)
    measured: dict[Any, Measurement] = {}
    if in_turns:
        measured = _in_turns(make_call, order, varied, budget_s, watch)
    # What did not fit beside the others gets a second chance alone.
    left = [value for value in order if value not in measured]
    for value in left:
        measured |= _in_turns(make_call, [value], varied, budget_s, watch)
    failed = {value: "out of memory" for value in tried if value not in measured}
    if not measured:
        raise CallFailed(f"{varied}: no value could be measured: {failed}. Try smaller values.")
    for value, parts in needed.items():
        if peaks and value in measured:
            flops, moved = sum(part[0] for part in parts), max(part[1] for part in parts)
            peaks.share(flops, seconds := measured[value].median_s, dtype)  # raises over 100 %
            # The table says which bytes are impossible: they may come from a faster cache.
            with suppress(BadValue):
                peaks.memory_share(moved, seconds)
    # Again, because a call that was faster than the peaks may have renewed them.
    bounds_s = _bounds_s(needed, peaks, dtype)
    # Back to the order in which the values were given.
    there = [value for value in tried if value in measured]
    return Sweep(
        varied,
        unit,
        {value: measured[value] for value in there},
        {value: handled[value] for value in there},
        failed,
        {value: bounds_s[value] for value in there if value in bounds_s},
        tried,
        tuple(value for value in there if in_turns and value in left),
        peaks.renewals if peaks else "",
    )


def _bounds_s(
    needed: Mapping[Any, list[Work]], peaks: Peaks | None, dtype: str
) -> dict[Any, float]:
    """The least seconds of each value: the sum over the parts of its call."""
    if not peaks:
        return {}
    return {v: sum(peaks.bound_s(*part, dtype) for part in each) for v, each in needed.items()}


class _TimedInTurns:
    """A call that is timed for a tenth of its budget in each of its turns."""

    def __init__(self, call: Call, label: str, budget_s: float, watch: Stopwatch):
        check_call(f"kit.sweep: {label}", call)
        self.call, self.label, self.budget_s, self.watch = call, label, budget_s, watch
        self.times_s: list[float] = []
        self.spent_s = 0.0
        # Warm up before the first turn: later, compiling would run between the timings of others.
        with labelled(label), compile_time(watch) as compiling:
            self.first_s = watch.time(call)
            self.warm = warm_up(call, watch, budget_s)
        self.compile_s = compiling.seconds
        # The same number in each turn: a slow turn must not have fewer timings than a fast one.
        timing_s = self.warm.call_s * self.warm.block
        self.each = max(1, round(budget_s / ROUNDS / timing_s))

    def turn(self) -> bool:
        """Time the call for a tenth of its budget, at least once; a slow one gets ten budgets."""
        # True and not None, which means "out of memory" to the caller and would drop the value.
        if self.times_s and self.spent_s >= ROUNDS * self.budget_s:
            return True
        with labelled(self.label):
            if self.each > 1:
                self.call()  # untimed: the call before it filled the caches with other data
            for _ in range(self.each):
                taken = self.watch.time(self.call, self.warm.block)
                self.times_s.append(taken / self.warm.block)
                self.spent_s += taken
        return True

    def peak(self) -> int | None:
        """The most bytes that the call allocates; None for slow calls, to spare another one."""
        # Counting memory takes one more whole call, which a profiler slows down on the CPU.
        if np.median(self.times_s) >= self.budget_s:
            return None
        return peak_bytes(self.call, self.watch.device)

    def measured(self, observer: Observer, peak: int | None) -> Measurement:
        """All times of the call as a measurement."""
        block, spent_s, steady, _ = self.warm
        # Timings of one turn resemble each other. If thirty or more show it, `median` counts them
        # as fewer independent ones, and the interval becomes wider (kit.core.correlated_samples).
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
    """Measurements of the values whose calls fit into memory at the same time."""
    held: dict[Any, _TimedInTurns] = {}
    # One observer for all turns: a program that starts meanwhile may disturb every value. It reads
    # the counters again after the memory calls below, so their load counts as well.
    observer = Observer(watch)
    with no_collection():
        for value in order:
            made = _if_there_is_memory(
                lambda: _TimedInTurns(make_call(value), f"{varied} {value}", budget_s, watch)  # noqa: B023
            )
            if made:
                held[value] = made
        # Else this name would hold the last call, and its memory could not be freed below.
        del made
        # Each order is used twice, the second time reversed, so that no value is always early.
        for n in range(ROUNDS):
            if n % 2 == 0:
                order = random.Random(n).sample(list(held), len(held))
            for value in order if n % 2 == 0 else order[::-1]:
                if value in held and not _if_there_is_memory(held[value].turn):
                    del held[value]
        # Memory is measured at the end, because the profiler would disturb the timings.
        peaks = {value: _if_there_is_memory(each.peak) for value, each in held.items()}
    found = {value: each.measured(observer, peaks[value]) for value, each in held.items()}
    # Free the calls before the values that did not fit are tried alone. Freed blocks stay with
    # PyTorch's allocator, split into sizes that may not fit the next call: give them back.
    held.clear()
    devices.backend_of(watch.device).empty_cache()
    return found


def _if_there_is_memory(do: Callable[[], Any]) -> Any:
    """The function's result; None if it ran out of memory."""
    try:
        # Without the guard Linux promises memory that it lacks, and later kills the process.
        with devices.memory_guard():
            return do()
    except (MemoryError, RuntimeError) as error:
        # The error must not stay under a name: its traceback holds all that the call had made.
        if not devices.out_of_memory(error):
            raise
    gc.collect()  # free its memory before the next call needs it
    return None
