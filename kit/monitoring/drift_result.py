"""What `kit.drift` returns: each detector beside what chance alone brings, and the score."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate, median, proportion
from kit.core.units import UNKNOWN, digits, words
from kit.monitoring.two_samples import Finding
from kit.monitoring.views import LEAST
from kit.plots import Picture, Table, bars, lines

if TYPE_CHECKING:
    from kit.monitoring.detectors import Detector

SIGNED = ("classifier", "confidence")  # their effect may lie on either side of "no drift"
CHANCE = 95  # percent of the A/A trials whose effect lies below the level shown
POWER = 0.8  # the share of draws in which a drift has to be noticed


@dataclass(frozen=True)
class Tried:
    """How often a detector alarmed with this many examples from now, drawn again and again."""

    examples: int
    alarms: int
    draws: int

    @property
    def enough(self) -> bool:
        """Whether the detector alarms in 80 % of the draws."""
        return self.alarms / self.draws >= POWER


@dataclass(frozen=True)
class Detection:
    """What one detector found, and what it finds where nothing has drifted."""

    detector: Detector
    found: Finding
    p: float  # corrected for all detectors
    chance: tuple[Finding, ...] = field(default=(), repr=False)  # of the A/A trials
    times_s: tuple[float, ...] = field(default=(), repr=False)  # of the A/A trials
    power: tuple[Tried, ...] = field(default=(), repr=False)  # this drift, by number of examples

    @property
    def needed(self) -> int | None:
        """The smallest number of examples tried that notices this drift in 80 % of the draws."""
        return next((each.examples for each in self.power if each.enough), None)

    @property
    def comparison(self) -> Estimate | None:
        """Seconds that this detector computes for one comparison, the median of the A/A trials."""
        return median(self.times_s, "s") if self.times_s else None

    @property
    def effect(self) -> float:
        """How far apart then and now are, in the detector's own unit."""
        return self.found.effect

    @property
    def size(self) -> float | None:
        """The effect ÷ the effect that 95 % of the A/A trials stay below; None without trials."""
        usual = self.usual
        return self._from_nothing(self.found) / usual if usual else None

    @property
    def usual(self) -> float | None:
        """The distance from "no drift" that 95 % of the A/A trials stay below."""
        if not self.chance:
            return None
        return float(np.percentile([self._from_nothing(each) for each in self.chance], CHANCE))

    def false_alarms(self, alpha: float) -> Estimate | None:
        """The share of the A/A trials in which this detector alone would alarm."""
        if not self.chance:
            return None
        return proportion(sum(each.p < alpha for each in self.chance), len(self.chance))

    def _from_nothing(self, found: Finding) -> float:
        return abs(found.effect - self.detector.nothing)


@dataclass(frozen=True)
class Change:
    """The score where labels are known: then, now, and the difference."""

    then: Estimate
    now: Estimate
    difference: Estimate  # now − then, in points


@dataclass(frozen=True)
class Drift(Result):
    """Detectors of drift beside the score; `alarm` is what they say together."""

    detections: tuple[Detection, ...]
    alpha: float
    n_reference: int
    n_now: int
    change: Change | None = None  # of the score, if there are labels
    largest_tried: int = 0  # examples, in the search for how many are needed

    def __getitem__(self, name: str) -> Detection:
        """What the detector of that name found."""
        names = {each.detector.name: each for each in self.detections}
        if name not in names:
            raise UnknownName("detector of this result", name, names)
        return names[name]

    @property
    def alarm(self) -> bool:
        """Whether any corrected p-value is below alpha."""
        return any(each.p < self.alpha for each in self.detections)

    @property
    def false_alarms(self) -> Estimate | None:
        """The share of the A/A trials in which any detector alarms, after the correction."""
        from kit.monitoring.detectors import holm

        trials = list(zip(*(each.chance for each in self.detections), strict=True))
        if not trials:
            return None
        alarms = sum(min(holm([found.p for found in row])) < self.alpha for row in trials)
        return proportion(alarms, len(trials))

    def __repr__(self) -> str:
        found = [each.detector.name for each in self.detections if each.p < self.alpha]
        alarm = f"alarm by {', '.join(found)}" if found else "no alarm"
        return f"Drift: {alarm}; {self._score_in_words()}"

    def _score_in_words(self) -> str:
        if self.change is None:
            return "the score is unknown without labels."
        return f"score {self.change.now}, {self.change.difference} against the reference."

    def table(self) -> Table:
        """A row per detector: effect, that of chance, p, false alarms, examples needed, time."""
        header = ("detector", "effect", "chance (95 %)", "p", "alarm", "false alarms", "needed")
        caption = f"{self.n_now:,} examples now, {self.n_reference:,} in the reference. "
        return Table(
            (*header, "time"),
            [self._row(each) for each in self.detections],
            caption + self._score_in_words().capitalize(),
            self._details(),
        )

    def _row(self, each: Detection) -> tuple[str, ...]:
        rate = each.false_alarms(self.alpha)
        most = f"> {self.largest_tried:,}" if self.largest_tried else UNKNOWN
        return (
            f"{each.detector.name}: {each.detector.effect}",
            digits(each.effect),
            _usual(each),
            p_in_words(each.p),
            "yes" if each.p < self.alpha else "no",
            UNKNOWN if rate is None else f"{words(rate.value, '%')} [{rate.interval}]",
            most if each.needed is None else f"{'≤ ' * (each.needed == LEAST)}{each.needed:,}",
            words(each.comparison.value if each.comparison else None, "s"),
        )

    def _details(self) -> str:
        together = self.false_alarms
        trials = len(self.detections[0].chance)
        text = (
            f"p is corrected for the columns that a detector looks at (Bonferroni) and for the "
            f"{len(self.detections)} detectors (Holm); alarm: p < {self.alpha:g}. "
        )
        if together is not None:
            text += (
                f"Chance and false alarms: {trials} times, two random parts of the reference. Each "
                f"detector alone; all together, corrected, alarm in {together}. Time: the median "
                f"of these trials, without the model's predictions. "
            )
        return text + "Needed: examples from now with which the detector alarms in 80 % of draws."

    def plot(self) -> Picture:
        """Each effect as a multiple of what chance alone brings: beyond 1 is rare without drift."""
        sizes = {each.detector.name: each.size or 0.0 for each in self.detections}
        caption = "Effect ÷ the effect that 95 % of the trials without drift stay below: "
        caption += ", ".join(f"{name} {words(size, '×')}" for name, size in sizes.items())
        stacks = {name: {"effect": size} for name, size in sizes.items()}
        return bars(stacks, "effect, in multiples of chance", unit="×", caption=f"{caption}.")

    def power_plot(self) -> Picture:
        """The share of the draws in which each detector alarms, over the examples in a draw.

        Raises
        ------
        BadValue
            Nothing was drawn: `kit.drift(…, trials=…)` had fewer than four trials.
        """
        if not any(each.power for each in self.detections):
            raise BadValue(
                "power was not measured for any number of examples. Use kit.drift(…, trials=40), "
                "and at least 20 examples from now."
            )
        series, bands = {}, {}
        for each in self.detections:
            shares = [proportion(at.alarms, at.draws) for at in each.power]
            values = [share.value for share in shares]
            series[each.detector.name] = ([at.examples for at in each.power], values)
            # Rounding may put an end of the interval on the wrong side of a share of 0 or 1.
            lows = [min(share.low, share.value) for share in shares]
            bands[each.detector.name] = (lows, [max(share.high, share.value) for share in shares])
        most, draws = f"more than {self.largest_tried:,}", self.detections[0].power[0].draws
        needs = ", ".join(f"{d.detector.name} {d.needed or most}" for d in self.detections)
        return lines(
            series,
            "examples from now",
            "share of the draws with an alarm",
            caption=f"{draws} draws of each size. Examples needed for an alarm in {POWER:.0%} of "
            f"them: {needs}.",
            log="x",
            bands=bands,
            level=("wanted", POWER),
        )

    def to_dict(self) -> dict[str, Any]:
        """Effects, p-values, A/A trials and scores."""
        return {
            "n_reference": self.n_reference,
            "n_now": self.n_now,
            "alpha": self.alpha,
            "alarm": self.alarm,
            "detections": [self._record(each) for each in self.detections],
            "false_alarm_share": _of(self.false_alarms),
            "score_then_share": _of(self.change.then if self.change else None),
            "score_now_share": _of(self.change.now if self.change else None),
            "score_difference_points": _of(self.change.difference if self.change else None),
        }

    def _record(self, each: Detection) -> dict[str, Any]:
        return {
            "detector": each.detector.name,
            "effect": each.effect,
            "chance_effect": each.usual,
            "p": each.p,
            "p_alone": each.found.p,
            "false_alarm_share": _of(each.false_alarms(self.alpha)),
            "needed_examples": each.needed,
            "power": [vars(at) for at in each.power],
            "comparison_s": _of(each.comparison),
        }


def _usual(each: Detection) -> str:
    """The effects that chance alone brings; a distance is never below 0."""
    nothing, usual = each.detector.nothing, each.usual
    if usual is None:
        return UNKNOWN
    if each.detector.name in SIGNED:
        return f"{digits(nothing)} ± {digits(usual)}"
    return f"up to {digits(nothing + usual)}"


def p_in_words(p: float) -> str:
    """A p-value; below 0.0001 only that.

    >>> p_in_words(0.0312), p_in_words(1e-9)
    ('0.0312', '< 0.0001')
    """
    return digits(p) if p >= 1e-4 else "< 0.0001"


def _of(estimate: Estimate | None) -> dict[str, Any] | None:
    return None if estimate is None else estimate.to_dict()
