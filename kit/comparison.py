"""Are two things the same (agree), and is one better, as far as we can tell (compare)?"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kit.errors import BadValue, NotComparable, UnknownName
from kit.estimates import Estimate, bootstrap
from kit.figures import Picture, Table, bars
from kit.measurement import (
    Call,
    Measurement,
    Stopwatch,
    check_budget,
    conditions_of,
    labelled,
    no_collection,
    rounds,
    warm_up,
)
from kit.results import Result
from kit.units import words

SAME = 0.05  # two calls whose ratio surely lies within 5 % of 1 are the same for a reader


@dataclass(frozen=True)
class Agreement(Result):
    """How far two results lie apart."""

    largest_difference: float
    equal_argmax: float | None  # share of rows whose largest entry is at the same place
    atol: float

    @property
    def ok(self) -> bool:
        """Whether no entry differs by more than `atol`."""
        return self.largest_difference <= self.atol

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        word = "agree" if self.ok else "do not agree"
        return f"{word}: largest difference {self.largest_difference:.2g}, allowed {self.atol:.2g}"

    def table(self) -> Table:
        """What people see."""
        row = (f"{self.largest_difference:.2g}", f"{self.atol:.2g}", words(self.equal_argmax, "%"))
        header = ("largest difference", "allowed", "same answer")
        return Table(header, [row], "They agree." if self.ok else "They do not agree.")

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers."""
        return {
            "largest_difference": self.largest_difference,
            "equal_argmax_share": self.equal_argmax,
            "atol": self.atol,
            "agree": self.ok,
        }


def agree(a: Tensor, b: Tensor, *, atol: float = 1e-5) -> Agreement:
    """Whether two results are the same up to `atol`, before anybody times what made them.

    Raises
    ------
    NotComparable
        The shapes differ: both are named.
    """
    if a.shape != b.shape:
        raise NotComparable(f"shapes {tuple(a.shape)} and {tuple(b.shape)} cannot agree.")
    x, y = a.detach().double().cpu(), b.detach().double().cpu()
    gaps = (x - y).abs().masked_fill(x == y, 0).nan_to_num(float("inf"))  # ∞ equals ∞
    difference = float(gaps.max()) if x.numel() else 0.0
    rows = x.ndim > 1 and x.numel() > 0
    same = float((x.argmax(-1) == y.argmax(-1)).double().mean()) if rows else None
    return Agreement(difference, same, atol)


@dataclass(frozen=True)
class Comparison(Result):
    """Calls that took turns; the first is the one that the others are compared with."""

    measurements: dict[str, Measurement]
    control: Measurement  # the first call once more: what differs from it is noise
    predicted: float | None = None

    @property
    def baseline(self) -> str:
        """The name of the first call."""
        return next(iter(self.measurements))

    def ratio(self, name: str | None = None) -> Estimate:
        """Time of a call ÷ time of the first one, median over the rounds, with its interval."""
        name = name or list(self.measurements)[-1]
        if name not in self.measurements:
            raise UnknownName("call", name, self.measurements)
        return _ratio(self.measurements[name], self.measurements[self.baseline])

    @property
    def noise_floor(self) -> float:
        """How far from 1 the ratio of the first call to itself can be, here and now."""
        same = _ratio(self.control, self.measurements[self.baseline])
        return max(same.high - 1, 1 - same.low)

    def verdict(self, name: str | None = None) -> str:
        """*faster*, *slower*, *same within …* or *cannot tell*, against the first call."""
        ratio, floor = self.ratio(name), self.noise_floor
        if ratio.low > 1 + floor:
            return "slower"
        if ratio.high < 1 - floor:
            return "faster"
        margin = max(SAME, floor)
        if 1 - margin <= ratio.low and ratio.high <= 1 + margin:
            return f"same within {words(margin, '%')}"
        return "cannot tell"

    def __repr__(self) -> str:
        others = list(self.measurements)[1:]
        told = (f"{n}: {self.ratio(n)} of {self.baseline}, {self.verdict(n)}" for n in others)
        return "; ".join(told)

    def table(self) -> Table:
        """What people see."""
        rows = [(self.baseline, words(self.measurements[self.baseline].median_s, "s"), "1", "", "")]
        for name in list(self.measurements)[1:]:
            r = self.ratio(name)
            rows.append(
                (
                    name,
                    words(self.measurements[name].median_s, "s"),
                    words(r.value, "×"),
                    r.interval,
                    self.verdict(name),
                )
            )
        one = self.measurements[self.baseline]
        caption = (
            f"{one.n} rounds in random order; median ratio within a round, 95 % interval; against "
            f"itself {self.baseline!r} came within {words(self.noise_floor, '%')} (noise floor). "
            f"{one.device}, {one.threads} thread{'s' * (one.threads > 1)}."
        )
        if self.predicted is not None:
            caption += f" Your guess: {words(self.predicted, '×')}."
        doubts = dict.fromkeys(d for m in self.measurements.values() for d in m.doubts)
        if doubts:
            caption += f" Doubts: {'; '.join(doubts)}."
        return Table(("", "median", "ratio", "interval", "verdict"), rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw times and what follows from them."""
        others = list(self.measurements)[1:]
        return {
            "measurements": {name: m.to_dict() for name, m in self.measurements.items()},
            "control": self.control.to_dict(),
            "ratio": {name: self.ratio(name).to_dict() for name in others},
            "verdict": {name: self.verdict(name) for name in others},
            "noise_floor_share": self.noise_floor,
            "predicted_ratio": self.predicted,
        }

    def plot(self) -> Picture:
        """The median of each call as a bar."""
        medians = {name: m.median_s for name, m in self.measurements.items()}
        caption = "Median time: " + ", ".join(f"{n} {words(s, 's')}" for n, s in medians.items())
        stacks = {name: {"median": value} for name, value in medians.items()}
        return bars(stacks, "time per call", caption=caption + ".", unit="s")


def _ratio(a: Measurement, b: Measurement) -> Estimate:
    return bootstrap(np.array(a.times_s) / np.array(b.times_s), unit="×")


def compare(
    calls: Mapping[str, Call],
    *,
    predicted: Any = None,
    budget_s: float = 2.0,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> Comparison:
    """Time calls in turns and say which is faster, as far as can be told.

    In each round every call is timed once, in an order drawn anew, and the first one twice: the
    second time is the control that shows this machine's noise.

    Parameters
    ----------
    calls
        Name -> callable without arguments; the first is the one to compare with.
    predicted
        The reader's guess of the last one's ratio (a number, or a `kit.guess`), shown beside.
    budget_s
        Seconds for all rounds; warm-up comes on top.
    device
        Where the calls compute.

    Raises
    ------
    CallFailed
        A call raised: its name, and the original error as the cause.

    Explained in lesson 02, and proven in lesson 03.
    """
    if len(calls) < 2:
        raise BadValue(f"given {len(calls)} call(s): comparing needs at least two.")
    check_budget(budget_s)
    watch = stopwatch or Stopwatch(device)
    conditions = conditions_of(watch)
    turns = list(calls.items())
    turns.append(turns[0])  # the control
    taken: list[list[float]] = [[] for _ in turns]
    order = random.Random(0)
    with no_collection():
        started = []
        for name, call in calls.items():
            with labelled(name):
                started.append((watch.time(call), *warm_up(call, watch, budget_s)))
        started.append(started[0])
        for _ in rounds(budget_s, watch):
            for i in order.sample(range(len(turns)), len(turns)):
                name, call = turns[i]
                block = started[i][1]
                with labelled(name):
                    call()  # not timed: the call before was another, and left its own caches
                    taken[i].append(watch.time(call, block) / block)
    measured = [
        Measurement(name, tuple(times), block, first, warmup_s, steady, **conditions)
        for (name, _), times, (first, block, warmup_s, steady) in zip(
            turns, taken, started, strict=True
        )
    ]
    guess = getattr(predicted, "value", predicted)
    return Comparison(dict(zip(calls, measured, strict=False)), measured[-1], guess)
