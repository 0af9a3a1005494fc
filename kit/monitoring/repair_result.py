"""What `kit.monitoring.repairs` returns: what each repair costs, regains and forgets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import (
    Estimate,
    average_of_trainings,
    difference,
    paired_difference,
    quotient,
)
from kit.core.units import UNKNOWN, words
from kit.plots import Picture, Table, multiples


@dataclass(frozen=True)
class Repair:
    """One repair of S models, with the score of each test example: (S, N)."""

    name: str
    labels: int  # labelled examples from now that it used
    new: np.ndarray = field(repr=False)  # on drifted data
    old: np.ndarray = field(repr=False)  # on data from before
    seconds: tuple[float, ...]  # of each repair
    joules: tuple[float | None, ...]  # None where there is no counter
    sent_bytes: int  # what differs from the deployed model, as it would be sent to a device

    @property
    def repair_s(self) -> float:
        """The median time of a repair."""
        return float(np.median(self.seconds))

    @property
    def energy_j(self) -> float | None:
        """The median energy of a repair; None without a counter."""
        known = [each for each in self.joules if each is not None]
        return float(np.median(known)) if known else None


def share_of(gain: Estimate, lost: Estimate) -> Estimate:
    """A gain as a share of what was lost; the interval is unknown if nothing surely was lost.

    A gain may be negative. Then the interval combines the ends of both, and is a little too wide.

    >>> share_of(Estimate(0.1, 0.05, 0.15), Estimate(0.2, 0.15, 0.25))
    50.0 % [24.1 to 82.2 %]
    >>> share_of(Estimate(0.0, -0.02, 0.02), Estimate(0.2, 0.16, 0.24))
    0 % [-12.5 to 12.5 %]
    """
    if lost.low <= 0:
        share = gain.value / lost.value if lost.value else math.nan
        return Estimate(share, -math.inf, math.inf, "%")
    if gain.low > 0:
        return quotient(gain, lost, "%")
    ends = [end / by for end in (gain.low, gain.high) for by in (lost.low, lost.high)]
    return Estimate(gain.value / lost.value, min(ends), max(ends), "%")


@dataclass(frozen=True)
class Repairs(Result):
    """Repairs of the same models after the same drift; the first row repairs nothing."""

    repairs: tuple[Repair, ...]
    drift: str  # what happened, in words
    models: int

    def __getitem__(self, name: str) -> Repair:
        """The repair of that name."""
        names = {each.name: each for each in self.repairs}
        if name not in names:
            raise UnknownName("repair of this result", name, names)
        return names[name]

    @property
    def names(self) -> list[str]:
        """The repairs that do something, in their order."""
        return [each.name for each in self.repairs[1:]]

    @property
    def lost(self) -> Estimate:
        """What the drift took: the score on old data − on new data, before any repair.

        It is paired by model and example. If the drift leaves out examples, as another mix of
        classes does, both scores are taken as independent.
        """
        old, new = self.repairs[0].old, self.repairs[0].new
        if old.shape == new.shape:
            return paired_difference(old, new)
        return difference(average_of_trainings(old), average_of_trainings(new))

    def regained(self, name: str) -> Estimate:
        """The score on new data, after − before the repair, paired by model and example."""
        return paired_difference(self[name].new, self.repairs[0].new)

    def forgotten(self, name: str) -> Estimate:
        """The score on old data, before − after the repair, paired by model and example."""
        return paired_difference(self.repairs[0].old, self[name].old)

    def forgets_more(self, name: str, than: str) -> Estimate:
        """The score on old data after another repair − after this one, paired as in `ahead`."""
        return paired_difference(self[than].old, self[name].old)

    def ahead(self, name: str, of: str) -> Estimate:
        """The score on new data after one repair − after another, paired by model and example."""
        return paired_difference(self[name].new, self[of].new)

    def regained_share(self, name: str) -> Estimate:
        """The score regained ÷ the score that the drift took; 1 is all of it."""
        return share_of(self.regained(name), self.lost)

    def best(self, names: Sequence[str] | None = None) -> str:
        """The repair with the best mean score on new data."""
        return max(names or self.names, key=lambda name: float(self[name].new.mean()))

    def __repr__(self) -> str:
        best = self.best()
        gain = f"{best} regains {self.regained(best)}"
        return f"Repairs of {self.models} models after {self.drift}: {gain}"

    def ranking(self) -> str:
        """Two sentences: which repair regains most, and which forgets most, if that is sure."""
        most = self._foremost(self.ahead)
        said = f"{_quoted(most)} regains most."
        if len(most) > 1:
            said = f"Which of {_quoted(most)} regains most, we cannot tell."
        worst = self._foremost(self.forgets_more)
        if len(worst) == 1:
            return f"{said} {_quoted(worst)} forgets most."
        if any(self.forgotten(name).low > 0 for name in self.names):
            return f"{said} Which of {_quoted(worst)} forgets most, we cannot tell."
        return f"{said} Of no repair can we tell that it forgets anything."

    def _foremost(self, difference: Callable[[str, str], Estimate]) -> list[str]:
        """The repairs that no other one surely exceeds, pair by pair."""
        return [
            name
            for name in self.names
            if not any(difference(other, name).low > 0 for other in self.names if other != name)
        ]

    def table(self, note: str = "") -> Table:
        """A row per repair: labels, time, energy, bytes, score on new data, lost on old data."""
        header = (
            *("repair", "labels", "time", "energy", "to send"),
            *("score on new", "regained", "forgotten of old"),
        )
        caption = (
            f"After {self.drift}, which took {self.lost}. {self.models} models; paired by model "
            f"and example. Regained is on new data, forgotten on old data. {self.ranking()} {note}"
        ).rstrip()
        rows = [self._row(each) for each in self.repairs]
        known = [i for i in range(len(header)) if any(row[i] != UNKNOWN for row in rows)]
        shown = [tuple(row[i] for i in known) for row in rows]
        return Table(tuple(header[i] for i in known), shown, caption)

    def _row(self, each: Repair) -> tuple[str, ...]:
        nothing = each is self.repairs[0]
        score = average_of_trainings(each.new)
        return (
            each.name,
            f"{each.labels:,}",
            words(each.repair_s, "s") if each.sent_bytes else UNKNOWN,  # nothing was repaired
            words(each.energy_j, "J"),
            # A fix before the model is a program, whose size nobody knows here.
            words(each.sent_bytes, "B") if each.sent_bytes or nothing else UNKNOWN,
            f"{words(score.value, '%')} [{score.interval}]",
            UNKNOWN if nothing else repr(self.regained(each.name)),
            UNKNOWN if nothing else repr(self.forgotten(each.name)),
        )

    def plot(self) -> Picture:
        """What each repair regains on new data beside what it forgets of old data."""

        def pane(measure: Any) -> list[tuple[float, float, float]]:
            found = [measure(name) for name in self.names]
            return [(e.value, e.low, e.high) for e in found]

        panes = {
            "regained on new": (pane(self.regained), "points"),
            "forgotten of old": (pane(self.forgotten), "points"),
        }
        best = self.best()
        caption = f"After {self.drift}: {best} regains {self.regained(best)}."
        return multiples(self.names, panes, caption=caption, log=False)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Repairs:
        """The result that a stored notebook has in its record.

        Raises
        ------
        BadValue
            It is another record, or one without the answer to each example.
        """
        try:
            repairs = tuple(_from_record(each) for each in record["repairs"])
            return cls(repairs, str(record["drift"]), int(record["models"]))
        except (KeyError, TypeError, ValueError) as error:
            raise BadValue(
                f"not a record of repairs ({error!r}). It needs to come from a notebook that "
                f"showed kit.monitoring.repairs or text_repairs: run that notebook again."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Times, energies, bytes and scores."""
        return {
            "drift": self.drift,
            "models": self.models,
            "lost_points": self.lost.to_dict(),
            "repairs": [self._record(each) for each in self.repairs],
        }

    def _record(self, each: Repair) -> dict[str, Any]:
        return {
            "repair": each.name,
            "labels": each.labels,
            "repair_s": list(each.seconds),
            "energy_j": list(each.joules),
            "sent_bytes": each.sent_bytes,
            "new_share": average_of_trainings(each.new).to_dict(),
            "old_share": average_of_trainings(each.old).to_dict(),
            "regained_points": self.regained(each.name).to_dict(),
            "forgotten_points": self.forgotten(each.name).to_dict(),
            "new_right": _answers(each.new),
            "old_right": _answers(each.old),
        }


def _answers(scores: np.ndarray) -> list[str]:
    """A text of zeros and ones for each model; none if scores are shares."""
    if not np.isin(scores, (0, 1)).all():
        return []
    return ["".join(map(str, row)) for row in scores.astype(int).tolist()]


def _from_record(record: Mapping[str, Any]) -> Repair:
    new, old = (
        np.array([[float(each) for each in row] for row in record[name]])
        for name in ("new_right", "old_right")
    )
    if new.ndim != 2 or old.ndim != 2:
        raise ValueError("no answers")
    return Repair(
        record["repair"],
        int(record["labels"]),
        new,
        old,
        tuple(record["repair_s"]),
        tuple(record["energy_j"]),
        int(record["sent_bytes"]),
    )


def _quoted(names: Sequence[str]) -> str:
    """`“a”`, or `“a”, “b” and “c”`."""
    *others, last = [f"“{name}”" for name in names]
    return f"{', '.join(others)} and {last}" if others else last
