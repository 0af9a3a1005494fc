"""Calls that take turns: is one faster, and can we tell?"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kit.comparison.agreement import Agreement, check_equal_work, tensors_of, varied_names
from kit.errors import BadValue, UnknownName
from kit.estimates import Estimate, median
from kit.figures import Picture, Table, bars
from kit.measurement import (
    Call,
    Measurement,
    Observer,
    Stopwatch,
    check_budget,
    doubts_told,
    labelled,
    no_collection,
    rounds,
    warm_up,
)
from kit.results import Result
from kit.units import words

SAME = 0.05  # two calls whose ratio surely lies within 5 % of 1 are the same for a reader
PLACEMENT = 0.005  # equal programs differ by this much for where they lie in memory
HARDLY_SAME = 0.5  # nobody would call that the same, however noisy the machine


@dataclass(frozen=True)
class Comparison(Result):
    """Calls that took turns; the first is the one that the others are compared with."""

    measurements: dict[str, Measurement]
    control: Measurement  # the first call once more: what differs from it is noise
    agreement: Agreement | None = None  # of their answers; None: not looked at
    varied: tuple[str, ...] = ()  # what differs on purpose
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
        """How far from 1 a ratio can be without meaning anything, here and now.

        It is how far from 1 the ratio of the first call to itself came out, and at least half a
        percent: as much can come from where in memory a program and its data happen to lie
        (Mytkowicz et al., "Producing wrong data without doing anything obviously wrong!", 2009).
        """
        itself = _ratio(self.control, self.measurements[self.baseline]).value
        return max(abs(itself - 1), PLACEMENT)

    def verdict(self, name: str | None = None) -> str:
        """*faster*, *slower*, *same within …* or *cannot tell*, against the first call."""
        ratio, floor = self.ratio(name), self.noise_floor
        if ratio.low > 1 + floor:
            return "slower"
        if ratio.high < 1 / (1 + floor):
            return "faster"
        margin = max(SAME, floor)
        if margin < HARDLY_SAME and 1 - margin <= ratio.low and ratio.high <= 1 + margin:
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
        where = one.conditions.device if "threads" in self.varied else one.conditions
        caption = (
            f"{one.n:,} rounds in random order; median ratio within a round, 95 % interval; "
            f"noise floor {words(self.noise_floor, '%')}, from {self.baseline!r} against itself. "
            f"{where}. {self._same_told()}"
        )
        if self.predicted is not None:
            caption += f" Your guess: {words(self.predicted, '×')}."
        caption += doubts_told({name: m.doubts for name, m in self.measurements.items()})
        return Table(("", "median", "ratio", "interval", "verdict"), rows, caption)

    def _same_told(self) -> str:
        """A sentence on whether they did the same."""
        told = f"Different on purpose: {', '.join(self.varied)}. " if self.varied else ""
        if self.agreement:
            told += f"Their answers agree within {self.agreement.largest_difference:.1g}."
        elif not self.varied:
            told += "They return no numbers, so nobody looked whether they do the same."
        return told.rstrip()

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
            "agreement": self.agreement.to_dict() if self.agreement else None,
            "varied": list(self.varied),
        }

    def plot(self) -> Picture:
        """The median of each call as a bar."""
        medians = {name: m.median_s for name, m in self.measurements.items()}
        caption = "Median time: " + ", ".join(f"{n} {words(s, 's')}" for n, s in medians.items())
        stacks = {name: {"median": value} for name, value in medians.items()}
        return bars(stacks, "time per call", caption=caption + ".", unit="s")


def _ratio(a: Measurement, b: Measurement) -> Estimate:
    return median(np.array(a.times_s) / np.array(b.times_s), "×")


def _orders(n: int) -> Iterator[list[int]]:
    """Orders of n turns, drawn at random; each is followed by its reverse.

    A turn may be slower for being the first of its round. With the reverses nobody is earlier
    than another more often than later, and that effect falls out of the ratio.
    """
    draw = random.Random(0)
    while True:
        order = draw.sample(range(n), n)
        yield order
        yield order[::-1]


def compare(
    calls: Mapping[str, Call],
    *,
    varied: str | Collection[str] = (),
    predicted: Any = None,
    budget_s: float = 2.0,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> Comparison:
    """Time calls in turns and say which is faster, as far as can be told.

    First each is called once and their answers are held side by side: two ways of computing the
    same thing must compute the same thing. Then, in each round, every call is timed once, in an
    order drawn at random and in the next round reversed, and the first one twice: the second
    time is the control that shows this machine's noise.

    Parameters
    ----------
    calls
        Name -> callable without arguments; the first is the one to compare with.
    varied
        What differs on purpose: "answer", "shape", "dtype", "device", "mode" (whether gradients
        are recorded) of what they return, "threads" if they set their number, or "work": another
        task altogether.
    predicted
        The reader's guess of the last one's ratio (a number, or a `kit.guess`), shown beside.
    budget_s
        Seconds for warm-up and rounds together; the first calls, and half the budget for the
        rounds if warming up takes long, come on top.
    device
        Where the calls compute.

    Raises
    ------
    NotComparable
        They do unequal work: which condition differs, and how to say that it is meant.
    CallFailed
        A call raised: its name, and the original error as the cause.

    Explained in lesson 02, and proven in lesson 03.
    """
    if len(calls) < 2:
        raise BadValue(f"given {len(calls)} call(s): comparing needs at least two.")
    check_budget(budget_s)
    varied = varied_names(varied)
    watch = stopwatch or Stopwatch(device)
    turns = list(calls.items())
    turns.append(turns[0])  # the control
    taken: list[list[float]] = [[] for _ in turns]
    observer = Observer(watch)
    with no_collection():
        answers: dict[str, Any] = {}
        firsts, warm = [], []
        for name, call in calls.items():
            with labelled(name):
                firsts.append(watch.time(lambda: answers.update({name: call()})))  # noqa: B023
                answers[name] = tensors_of(answers[name] if "work" not in varied else None)
        agreement = check_equal_work(answers, varied)
        answers.clear()
        for name, call in calls.items():
            with labelled(name):
                warm.append(warm_up(call, watch, budget_s / len(calls)))
        left_s = budget_s - sum(spent for _, spent, _ in warm)
        # The control warmed up with the first, and that time was spent only once.
        firsts, warm = [*firsts, firsts[0]], [*warm, warm[0]]
        for _, order in zip(
            rounds(max(left_s, budget_s / 2), watch), _orders(len(turns)), strict=False
        ):
            for i in order:
                name, call = turns[i]
                block = warm[i][0]
                with labelled(name):
                    call()  # not timed: the call before was another, and left its own caches
                    taken[i].append(watch.time(call, block) / block)
    conditions = observer.conditions()
    measured = [
        Measurement(name, tuple(times), block, first, warmup_s, steady, conditions)
        for (name, _), times, first, (block, warmup_s, steady) in zip(
            turns, taken, firsts, warm, strict=True
        )
    ]
    guess = getattr(predicted, "value", predicted)
    together = dict(zip(calls, measured, strict=False))
    return Comparison(together, measured[-1], agreement, varied, guess)
