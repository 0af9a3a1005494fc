"""Which of two calls is faster: timed in turns, decided by one rule.

compare      times the calls in turns, after their answers agree
Comparison   all times; ratios with intervals, and the noise floor of this machine
decide       faster, slower, same or cannot tell: the rule for every table of the kit
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch

from kit import devices
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
    check_call,
    labelled,
    no_collection,
    rounds,
    warm_up,
)
from kit.measurement.timing import Measurement, all_doubts
from kit.plots import Picture, Table, bars, with_doubts

# What counts as a difference. Statistics alone cannot say: with enough rounds even 0.1 % is
# "significant", although no reader would care.
SAME = 0.05  # a ratio that surely lies within 5 % of 1 makes no difference to a reader
LAYOUT_NOISE = 0.005  # equal programs differ by this much, depending on their place in memory
WIDEST_SAME = 0.5  # on a machine noisier than this, nothing is called the same
TURNS = 2  # of each call in a round: the ratio of the two shows the noise

Decision = Literal["faster", "slower", "same", "cannot tell"]


def decide(ratio: Estimate, noise_floor: float = LAYOUT_NOISE) -> Decision:
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
    return "same" if alike and margin < WIDEST_SAME else "cannot tell"


@dataclass(frozen=True)
class Comparison(Result):
    """Calls that were timed in turns; the first is the baseline of the others."""

    measurements: dict[str, Measurement]  # two timings of each call in each round
    agreement: Agreement | None = None  # of their answers; None: not compared
    varied: tuple[str, ...] = ()  # what differs on purpose
    predicted: float | None = None

    @property
    def baseline(self) -> str:
        """The name of the first call, which the others are compared with."""
        return next(iter(self.measurements))

    @property
    def rounds(self) -> int:
        """How many rounds there were."""
        # Each call has the same number of timings, so the baseline's will do.
        return self.measurements[self.baseline].n // TURNS

    @property
    def needed(self) -> int:
        """How many rounds a verdict needs: 6 for two calls, 8 for five."""
        # A ratio is the median over the rounds, so this is the number a median's interval needs.
        return samples_of_a_median(self.confidence)

    @property
    def confidence(self) -> float:
        """The confidence of each interval, so that all of them hold together 95 % of the time.

        Four ratios at 95 % each would be wrong somewhere up to four times as often. Bonferroni's
        correction allows each a fourth of the error (Dunn, "Multiple comparisons among means",
        Journal of the American Statistical Association 56, 1961).
        """
        # One ratio per call except the baseline: two calls need no correction.
        return 1 - (1 - CONFIDENCE) / max(1, len(self.measurements) - 1)

    def ratio(self, name: str | None = None) -> Estimate:
        """Time of a call ÷ time of the baseline, with an interval that holds for all together.

        Each round gives the geometric mean of two quotients, and the ratio is the median over the
        rounds. A slow moment of the machine affects both calls of a round and cancels.

        If a call has several typical times (say, 1 ms or 2 ms), the median of quotients differs
        from the quotient of medians (`ratio_of_medians`): it is what you would see most often with
        the two calls side by side. The table notes such a difference. With fewer rounds than
        `needed` the interval is unknown: 0 to infinity.
        """
        name = name or list(self.measurements)[-1]
        if name not in self.measurements:
            raise UnknownName("call", name, self.measurements)
        # Logarithms treat "twice" and "half" alike, so the ratio a/b is exactly 1 ÷ the ratio b/a.
        apart = np.log(self._turns(name)) - np.log(self._turns(self.baseline))
        # `mean` over the two turns of a round gives the geometric mean; `median` over the rounds
        # ignores the few rounds that an interrupt spoiled. Its interval allows for rounds that
        # resemble each other: see kit/core/correlated_samples.py.
        return median(np.exp(apart.mean(axis=1)), "×", confidence=self.confidence)

    def ratio_of_medians(self, name: str) -> float:
        """Median time of a call ÷ median time of the baseline, without regard to rounds."""
        # Not paired: a slow moment that hits only one of the two calls shifts this number.
        return self.measurements[name].median_s / self.measurements[self.baseline].median_s

    def _turns(self, name: str) -> np.ndarray:
        """(rounds, 2) seconds."""
        # Times are stored round by round, so consecutive pairs are the turns of one round.
        return np.array(self.measurements[name].times_s).reshape(-1, TURNS)

    @property
    def noise_floor(self) -> float:
        """How far from 1 the ratio of equal work can be, on this machine at this time.

        Each call is timed twice per round. The noise floor is the largest ratio of the two, and
        at least half a percent: that much can come from where a program and its data lie in
        memory (Mytkowicz et al., "Producing wrong data without doing anything obviously wrong!",
        ASPLOS 2009).
        """
        # The same call on both sides of the ratio: an A/A test, run inside the A/B test.
        apart = [np.diff(np.log(self._turns(name)), axis=1) for name in self.measurements]
        return float(max(*(np.expm1(abs(np.median(each))) for each in apart), LAYOUT_NOISE))

    def verdict(self, name: str | None = None) -> str:
        """*faster*, *slower*, *same within …* or *cannot tell*, against the baseline.

        It is "cannot tell" with fewer rounds than `needed`.
        """
        # "Same" is shown with its margin: the reader has to know how close the two surely are.
        found = decide(self.ratio(name), self.noise_floor)
        margin = max(SAME, self.noise_floor)
        return f"same within {words(margin, '%')}" if found == "same" else found

    def __repr__(self) -> str:
        others = list(self.measurements)[1:]
        each = (f"{n}: {self.ratio(n)} of {self.baseline}, {self.verdict(n)}" for n in others)
        return "; ".join(each)

    def table(self) -> Table:
        """A row per call; the caption gives the noise floor and the conditions."""
        against = {self.baseline: ("1", "", "")}
        for name in list(self.measurements)[1:]:
            ratio = self.ratio(name)
            against[name] = (words(ratio.value, "×"), ratio.interval, self.verdict(name))
        medians = {name: words(m.median_s, "s") for name, m in self.measurements.items()}
        rows = [(name, medians[name], *cells) for name, cells in against.items()]
        one = self.measurements[self.baseline]
        where = one.conditions.device if "threads" in self.varied else one.conditions
        together = " for all ratios together" if len(self.measurements) > 2 else ""
        caption = (
            f"{self.rounds:,} rounds in random order; median ratio within a round, "
            f"95 % interval{together} in this run; noise floor {words(self.noise_floor, '%')}, "
            f"from each call against itself. {where}. {self._agreement_caption()}"
        )
        if self.predicted is not None:
            caption += f" Guess: {words(self.predicted, '×')}."
        # Doubts belong to the table: people copy tables, not the text around them.
        caption += self._notes()
        doubts = all_doubts(self.measurements)
        header = ("", "median", "ratio", "interval", "verdict")
        return Table(header, rows, *with_doubts(caption, doubts))

    def _agreement_caption(self) -> str:
        """A sentence on whether the calls computed the same."""
        text = f"Different on purpose: {', '.join(self.varied)}. " if self.varied else ""
        if self.agreement:
            text += f"Their answers agree within {self.agreement.largest_difference:.1g}."
        elif not self.varied:
            text += "They return no numbers, so their answers were not compared."
        return text.rstrip()

    def _notes(self) -> str:
        """What prevents a verdict, and which ratio may mislead."""
        text = ""
        if self.rounds < self.needed:
            text += f" A verdict needs {self.needed} rounds: raise budget_s."
        for name in list(self.measurements)[1:]:
            ratio, other = self.ratio(name), self.ratio_of_medians(name)
            # The two definitions of the ratio differ by more than noise: several typical times.
            floor = 1 + max(self.noise_floor, SAME)
            if other > ratio.high * floor or other < ratio.low / floor:
                text += (
                    f" {name}: its median time ÷ that of {self.baseline!r} is {words(other, '×')}, "
                    f"not {words(ratio.value, '×')}: look at the single times."
                )
        return text

    def to_dict(self) -> dict[str, Any]:
        """The raw times, ratios and verdicts."""
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

    The first turn of a round may be slower than the others. With the reverse, each turn comes as
    often before another as after it, so this effect cancels in the ratio.
    """
    # A fixed seed, so that two runs of a notebook differ in their times only.
    draw = random.Random(0)
    while True:
        order = draw.sample(range(n), n)
        yield order
        yield order[::-1]


def ratios(comparisons: Mapping[Any, Comparison], varied: str) -> Table:
    """One row per comparison: the ratio of its last call to its baseline, and the verdict.

    Explained in lesson 03.
    """
    rows = [
        (str(value), repr(each.ratio()), words(each.noise_floor, "%"), each.verdict())
        for value, each in comparisons.items()
    ]
    *_, last = comparisons.values()
    least = sum(each.noise_floor <= LAYOUT_NOISE for each in comparisons.values())
    header = (varied, f"{[*last.measurements][-1]} ÷ {last.baseline}", "noise floor", "verdict")
    rule = f"The noise floor is the minimum, {words(LAYOUT_NOISE, '%')},"
    caption = f"{rule} in {least} of {len(rows)} rows." if least else ""
    timed = {f"{varied} {at}": [*each.measurements.values()] for at, each in comparisons.items()}
    doubts = [f"{at}: {m.doubts[0]}" for at, calls in timed.items() for m in calls if m.doubts]
    return Table(header, rows, *with_doubts(caption, list(dict.fromkeys(doubts))))


def compare(
    calls: Mapping[str, Call],
    *unnamed: object,
    varied: str | Collection[str] = (),
    predicted: Any = None,
    budget_s: float = 2.0,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> Comparison:
    """Time calls in turns and say which is faster, or that the times cannot tell.

    First each is called once and the answers are compared: two ways to compute something must
    give the same. Then every call is timed twice in each round, in a random order that the next
    round reverses. All calls are treated alike, and the ratio of a call's two times shows the
    noise of this machine.

    Parameters
    ----------
    calls
        Name -> callable without arguments; the first is the baseline.
    unnamed
        Not allowed: a result needs the name of each call.
    varied
        What differs on purpose. Of the answers: "answer", "shape", "dtype", "device", "mode"
        (whether gradients are recorded). Of the calls: "threads" if they set that number, or
        "work" if they do different tasks.
    predicted
        Your guess of the last call's ratio (a number, or a `kit.guess`), shown in the caption.
    budget_s
        Seconds for warm-up and rounds together, without the first calls. If the warm-up takes
        long, the rounds still get half the budget. Slow calls get ten rounds if these fit into
        ten budgets; a verdict needs six (eight for five calls).
    device
        Where the calls compute.

    Raises
    ------
    NotComparable
        The calls do unequal work: which condition differs, and how to allow it.
    CallFailed
        A call raised: its name, and the original error as the cause.

    Examples
    --------
    >>> x = torch.rand(64, 64)
    >>> found = compare({"mm": lambda: x @ x, "einsum": lambda: torch.einsum("ij,jk", x, x)},
    ...                 budget_s=0.02)
    >>> found.agreement.ok, found.baseline
    (True, 'mm')

    Explained in lesson 02, and proven in lesson 03.
    """
    if unnamed or not isinstance(calls, Mapping):
        needs = "needs functions by name: kit.compare({'one': f, 'other': g})"
        given = f"{1 + len(unnamed)} arguments" if unnamed else f"a {type(calls).__name__}"
        raise BadValue(f"kit.compare: given {given}; {needs}.")
    for name, call in calls.items():
        check_call(f"kit.compare: {name!r}", call)
    if len(calls) < 2:
        given = f"kit.compare: given {list(calls)}"
        raise BadValue(f"{given}; needs at least two calls. For a single call use kit.measure.")
    check_budget(budget_s)
    varied = varied_names(varied)
    watch = stopwatch or Stopwatch(device)
    # Every call stands in this list twice; a round times the whole list in some order.
    turns = [*calls.items()] * TURNS
    taken: list[list[float]] = [[] for _ in turns]
    # Counters are read before the first call, so that the doubts cover the warm-up as well.
    observer = Observer(watch)
    # Calls that vary the number of threads leave theirs behind.
    with no_collection(), devices.threads(devices.threads_here()):
        answers: dict[str, Any] = {}
        firsts, warm = [], []
        # Agreement before timing: a faster way to a wrong answer is not faster.
        for name, call in calls.items():
            with labelled(name):
                firsts.append(watch.time(lambda: answers.update({name: call()})))  # noqa: B023
                answers[name] = tensors_of(answers[name] if "work" not in varied else None)
        agreement = check_equal_work(answers, varied)
        # Free the answers: several of them may be as large as the model's activations.
        answers.clear()
        for name, call in calls.items():
            with labelled(name):
                # Each call gets the same share of the budget, however slow it is.
                warm.append(warm_up(call, watch, budget_s / len(calls)))
        # What the warm-up left over, but never less than half: the rounds are the measurement.
        left_s = max(budget_s - sum(each.spent_s for each in warm), budget_s / 2)
        # An untimed call comes before each timed one, because the call before it was another and
        # filled the caches with its own data. Slow calls skip this: it would halve their rounds.
        settle = 2 * TURNS * sum(each.call_s for each in warm) < budget_s
        # Rounds are equal in number for all calls, so that every ratio has as many observations.
        for _, order in zip(rounds(left_s, watch, budget_s), _orders(len(turns)), strict=False):
            for i in order:
                (name, call), block = turns[i], warm[i % len(calls)].block
                with labelled(name):
                    if settle:
                        call()
                    # A block is timed as a whole: its mean is one timing.
                    taken[i].append(watch.time(call, block) / block)
    conditions = observer.conditions()
    if "threads" in varied and conditions.surroundings:  # each call uses other cores
        surroundings = replace(conditions.surroundings, busy_here=None)
        conditions = replace(conditions, surroundings=surroundings)
    together = {}
    for i, (name, (block, warmup_s, steady, _)) in enumerate(zip(calls, warm, strict=True)):
        # Every len(calls)-th entry belongs to this call: interleave its two turns by round.
        times = tuple(np.transpose(taken[i :: len(calls)]).ravel().tolist())
        together[name] = Measurement(name, times, block, firsts[i], warmup_s, steady, conditions)
    # `kit.guess` returns an object that holds the number.
    guess = getattr(predicted, "value", predicted)
    return Comparison(together, agreement, varied, guess)
