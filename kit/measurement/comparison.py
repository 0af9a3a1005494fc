"""Calls that take turns: is one faster, and can we tell?"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from kit.core.checks import check_budget
from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import CONFIDENCE, Estimate, median, samples_of_a_median
from kit.core.units import words
from kit.measurement.agreement import Agreement, check_equal_work, tensors_of, varied_names
from kit.measurement.conditions import Observer
from kit.measurement.stopwatch import (
    Call,
    Stopwatch,
    labelled,
    no_collection,
    rounds,
    warm_up,
)
from kit.measurement.timing import Measurement, doubts_caption
from kit.plots import Picture, Table, bars

SAME = 0.05  # two calls whose ratio surely lies within 5 % of 1 are the same for a reader
PLACEMENT = 0.005  # equal programs differ by this much for where they lie in memory
HARDLY_SAME = 0.5  # nobody would call that the same, however noisy the machine
TURNS = 2  # of each call in a round: one against the other shows the noise

Decision = Literal["faster", "slower", "same", "cannot tell"]


def decide(ratio: Estimate, noise_floor: float = PLACEMENT) -> Decision:
    """What a ratio of times says: the one place in the kit where this is decided.

    Parameters
    ----------
    ratio
        Time of the new way ÷ time of the old one, with its interval: below 1 is faster.
    noise_floor
        How far from 1 the ratio of equal work came out, see `Comparison.noise_floor`. The default
        is the least that any two programs differ by.

    Examples
    --------
    >>> decide(Estimate(0.8, 0.7, 0.9)), decide(Estimate(1.2, 1.1, 1.3))
    ('faster', 'slower')
    >>> decide(Estimate(1.0, 0.97, 1.02)), decide(Estimate(1.0, 0.8, 1.2))
    ('same', 'cannot tell')
    >>> decide(Estimate(0.8, 0.7, 0.9), noise_floor=0.2)  # noise alone could do that
    'cannot tell'
    """
    # The interval has to clear 1 by more than noise can: an interval that excludes 1 would do
    # only if the machine treated both ways alike.
    if ratio.low > 1 + noise_floor:
        return "slower"
    if ratio.high < 1 / (1 + noise_floor):
        return "faster"
    # "Not different" is not yet "same": that needs an interval that is narrow, around 1.
    margin = max(SAME, noise_floor)
    alike = 1 - margin <= ratio.low and ratio.high <= 1 + margin
    return "same" if alike and margin < HARDLY_SAME else "cannot tell"


@dataclass(frozen=True)
class Comparison(Result):
    """Calls that took turns; the first is the one that the others are compared with."""

    measurements: dict[str, Measurement]  # two timings of each call in each round
    agreement: Agreement | None = None  # of their answers; None: not looked at
    varied: tuple[str, ...] = ()  # what differs on purpose
    predicted: float | None = None

    @property
    def baseline(self) -> str:
        """The name of the first call."""
        return next(iter(self.measurements))

    @property
    def rounds(self) -> int:
        """How many rounds there were."""
        return self.measurements[self.baseline].n // TURNS

    @property
    def needed(self) -> int:
        """How many rounds a verdict needs: 6 for two calls, 8 for five."""
        return samples_of_a_median(self.confidence)

    @property
    def confidence(self) -> float:
        """Of each interval, so that all of them together hold the truth 95 % of the time.

        Four ratios at 95 % would call equal calls different four times as often: Bonferroni's
        correction gives each a fourth of the doubt (Dunn, "Multiple comparisons among means",
        Journal of the American Statistical Association 56, 1961).
        """
        return 1 - (1 - CONFIDENCE) / max(1, len(self.measurements) - 1)

    def ratio(self, name: str | None = None) -> Estimate:
        """Time of a call ÷ time of the first one, with an interval that holds for all together.

        In each round it is the geometric mean of two quotients; of these, the median over the
        rounds. A slow moment of the machine touches both calls of a round and cancels. Where a
        call has several typical times (say, 1 ms or 2 ms), the median of quotients is another
        number than the quotient of medians, `ratio_of_medians`: it tells what you would see most
        often when the two calls stand side by side. The table notes where they differ.

        With fewer rounds than `needed` the interval is unknown: 0 to infinity.
        """
        name = name or list(self.measurements)[-1]
        if name not in self.measurements:
            raise UnknownName("call", name, self.measurements)
        apart = np.log(self._turns(name)) - np.log(self._turns(self.baseline))
        return median(np.exp(apart.mean(axis=1)), "×", confidence=self.confidence)

    def ratio_of_medians(self, name: str) -> float:
        """Median time of a call ÷ median time of the first one: does not know of rounds."""
        return self.measurements[name].median_s / self.measurements[self.baseline].median_s

    def _turns(self, name: str) -> np.ndarray:
        """(rounds, 2) seconds."""
        return np.array(self.measurements[name].times_s).reshape(-1, TURNS)

    @property
    def noise_floor(self) -> float:
        """How far from 1 a ratio can be without meaning anything, here and now.

        It is how far from 1 the ratio of a call to itself came out, of that call which strayed
        furthest, and at least half a percent: as much can come from where in memory a program
        and its data happen to lie (Mytkowicz et al., "Producing wrong data without doing anything
        obviously wrong!", 2009).
        """
        apart = [np.diff(np.log(self._turns(name)), axis=1) for name in self.measurements]
        return float(max(*(np.expm1(abs(np.median(each))) for each in apart), PLACEMENT))

    def verdict(self, name: str | None = None) -> str:
        """*faster*, *slower*, *same within …* or *cannot tell*, against the first call.

        With fewer rounds than `needed` nobody can tell.
        """
        found = decide(self.ratio(name), self.noise_floor)
        margin = max(SAME, self.noise_floor)
        return f"same within {words(margin, '%')}" if found == "same" else found

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
        together = " for all ratios together" if len(self.measurements) > 2 else ""
        caption = (
            f"{self.rounds:,} rounds in random order; median ratio within a round, "
            f"95 % interval{together} in this run; noise floor {words(self.noise_floor, '%')}, "
            f"from each call against itself. {where}. {self._same_told()}"
        )
        if self.predicted is not None:
            caption += f" Your guess: {words(self.predicted, '×')}."
        caption += self._notes()
        caption += doubts_caption({name: m.doubts for name, m in self.measurements.items()})
        return Table(("", "median", "ratio", "interval", "verdict"), rows, caption)

    def _same_told(self) -> str:
        """A sentence on whether they did the same."""
        told = f"Different on purpose: {', '.join(self.varied)}. " if self.varied else ""
        if self.agreement:
            told += f"Their answers agree within {self.agreement.largest_difference:.1g}."
        elif not self.varied:
            told += "They return no numbers, so nobody looked whether they do the same."
        return told.rstrip()

    def _notes(self) -> str:
        """What stands in the way of a verdict, and what of a ratio may mislead."""
        told = ""
        if self.rounds < self.needed:
            told += f" A verdict needs {self.needed} rounds: raise budget_s."
        for name in list(self.measurements)[1:]:
            ratio, other = self.ratio(name), self.ratio_of_medians(name)
            floor = 1 + max(self.noise_floor, SAME)
            if other > ratio.high * floor or other < ratio.low / floor:
                told += (
                    f" {name}: the medians of all its times and of {self.baseline!r} differ by "
                    f"{words(other, '×')}, not {words(ratio.value, '×')}: look at the single times."
                )
        return told

    def to_dict(self) -> dict[str, Any]:
        """The raw times and what follows from them."""
        others = list(self.measurements)[1:]
        return {
            "measurements": {name: m.to_dict() for name, m in self.measurements.items()},
            "rounds": self.rounds,
            "ratio": {name: self.ratio(name).to_dict() for name in others},
            "ratio_of_medians": {name: self.ratio_of_medians(name) for name in others},
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
    same thing must compute the same thing. Then, in each round, every call is timed twice, in an
    order drawn at random and in the next round reversed. All calls are treated alike, and the two
    times of a call, held against each other, show this machine's noise.

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
        rounds if warming up takes long, come on top. Slow calls get ten rounds, as far as these
        fit into ten budgets; a verdict needs six (eight for five calls).
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
    if not isinstance(calls, Mapping):
        needs = "needs functions by name: kit.compare({'one': f, 'other': g})"
        raise BadValue(f"kit.compare: given a {type(calls).__name__}; {needs}.")
    for name, call in calls.items():
        if not callable(call):
            needs = "needs a function without arguments: lambda: kit.predict(model, inputs)"
            raise BadValue(f"kit.compare: {name!r} is given a {type(call).__name__}; {needs}.")
    if len(calls) < 2:
        raise BadValue(f"given {len(calls)} call(s): comparing needs at least two.")
    check_budget(budget_s)
    varied = varied_names(varied)
    watch = stopwatch or Stopwatch(device)
    turns = [*calls.items()] * TURNS
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
        left_s = max(budget_s - sum(each.spent_s for each in warm), budget_s / 2)
        # Each is called once untimed before it is timed, since the call before was another and
        # left its own caches; not where that would cost slow calls half of their rounds.
        settle = 2 * TURNS * sum(each.call_s for each in warm) < budget_s
        for _, order in zip(rounds(left_s, watch, budget_s), _orders(len(turns)), strict=False):
            for i in order:
                (name, call), block = turns[i], warm[i % len(calls)].block
                with labelled(name):
                    if settle:
                        call()
                    taken[i].append(watch.time(call, block) / block)
    conditions = observer.conditions()
    if "threads" in varied and conditions.surroundings:  # each call keeps other cores busy
        surroundings = replace(conditions.surroundings, busy_here=None)
        conditions = replace(conditions, surroundings=surroundings)
    together = {}
    for i, (name, (block, warmup_s, steady, _)) in enumerate(zip(calls, warm, strict=True)):
        times = tuple(np.transpose(taken[i :: len(calls)]).ravel().tolist())
        together[name] = Measurement(name, times, block, firsts[i], warmup_s, steady, conditions)
    guess = getattr(predicted, "value", predicted)
    return Comparison(together, agreement, varied, guess)
