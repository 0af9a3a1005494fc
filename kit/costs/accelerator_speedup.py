"""Published trainings on this computer at its peak: how much faster one accelerator was, at least.

The time there is published: the hours of all accelerators together are what one of them needs. The
time here is a bound, not a measurement: 6 FLOPs per parameter and token ÷ the highest rate that
this computer reached in a product of two matrices, with any dtype. A training never runs at that
rate, and most of these models do not fit into the memory here. So the ratio is a lower end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.statistics import Estimate, at_least
from kit.core.statistics import smallest as smallest_of
from kit.core.units import plural, words
from kit.costs.planning_check import Checked, PlanCheck
from kit.costs.published import amount, published
from kit.measurement import Peaks
from kit.plots import Picture, Table, dots, with_doubts

HOUR_S, YEAR_S = 3_600, 365 * 86_400
HEADER = (
    "",
    "accelerator",
    "published",
    "this computer, at least",
    "this computer ÷ one accelerator, at least",
)


@dataclass(frozen=True)
class AcceleratorSpeedups(Result):
    """Each published training: accelerator-hours, and the least time that this computer needs."""

    rows: tuple[Checked, ...]
    flops_per_s: float  # the highest rate of this computer's matmuls
    dtype: str  # with which it is reached
    threads: int
    doubts: tuple[str, ...] = ()  # about that rate

    def __getitem__(self, name: str) -> Estimate:
        """How many times as fast one accelerator was in this training, at least."""
        return self._ratio(self._row(name))

    def years(self, name: str) -> Estimate:
        """The least years that this training takes here, to three digits: it is a bound."""
        return self._years(self._row(name))

    @property
    def largest(self) -> Estimate:
        """The ratio of the training with the most FLOPs."""
        return self._ratio(max(self.rows, key=lambda row: row.flops))

    @property
    def smallest(self) -> Estimate:
        """The smallest ratio of all trainings."""
        return smallest_of(map(self._ratio, self.rows))

    def _row(self, name: str) -> Checked:
        published(name)  # an unknown name gets its list
        return next(row for row in self.rows if row.card.name == name)

    def _seconds(self, row: Checked) -> float:
        return row.flops / self.flops_per_s

    def _years(self, row: Checked) -> Estimate:
        return at_least(float(f"{self._seconds(row) / YEAR_S:.3g}"), "years")

    def _ratio(self, row: Checked) -> Estimate:
        return at_least(self._seconds(row) / (row.published_h * HOUR_S), "×")

    @property
    def peak(self) -> str:
        """The highest rate of this computer, in words."""
        on = f"{self.dtype}, {plural(self.threads, 'thread')}"
        return f"{words(self.flops_per_s, 'FLOP/s')} ({on})"

    def __repr__(self) -> str:
        return (
            f"one accelerator trained {self.smallest} as fast as this computer could at "
            f"{self.peak}; in the largest of {len(self.rows)} trainings {self.largest}"
        )

    def table(self) -> Table:
        """A row per training: the published hours, the least years here, their ratio."""
        rows = [
            (
                row.card.name,
                row.card.accelerator,
                amount(row.published_h, "h"),
                words(self._years(row).value, "years"),
                words(self._ratio(row).value, "×"),
            )
            for row in self.rows
        ]
        caption = (
            f"Published: the hours of all accelerators together. This computer: 6ND ÷ its highest "
            f"rate, {self.peak}. A training here would take longer."
        )
        details = " ".join(f"{row.card.name}: {row.card['hours'].source}." for row in self.rows)
        return Table(HEADER, rows, *with_doubts(caption, self.doubts, details))

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of each training, and the rate of this computer."""
        return {
            "flops_per_s": self.flops_per_s,
            "dtype": self.dtype,
            "threads": self.threads,
            "doubts": list(self.doubts),
            "runs": [
                {
                    "model": row.card.name,
                    "accelerator": row.card.accelerator,
                    "published_h": row.published_h,
                    "least_here_s": self._seconds(row),
                    "least_ratio": self._ratio(row).value,
                }
                for row in self.rows
            ],
        }

    def plot(self) -> Picture:
        """The ratio of each training, the largest first."""
        ranked = sorted(self.rows, key=lambda row: -self._ratio(row).value)
        rows = {row.card.name: (self._ratio(row).value, None, None) for row in ranked}
        return dots(rows, HEADER[-1], caption=f"{self!r}.", unit="×")


def accelerator_speedups(check: PlanCheck, peaks: Peaks) -> AcceleratorSpeedups:
    """Published trainings beside this computer at its peak.

    Parameters
    ----------
    check
        The published trainings, from `planning_check.against_published`.
    peaks
        Of this computer's processor: `kit.peaks("cpu")`, measured with the threads of all cores.

    Raises
    ------
    BadValue
        The peaks are those of an accelerator.

    Examples
    --------
    >>> from kit.costs.planning_check import against_published
    >>> slow = Peaks({"float32": 1e11, "bfloat16": 2e12}, 1e10, {}, device="cpu", threads=2)
    >>> found = accelerator_speedups(against_published(), slow)
    >>> found["llama-3.1-8b"], found.years("llama-3.1-8b")
    (at least 68.8 ×, at least 11,500 years)

    Explained in lesson 14.
    """
    if peaks.device != "cpu":
        raise BadValue(f"peaks of {peaks.device!r}: needs those of the CPU, kit.peaks('cpu').")
    rates = peaks.newest.matmul_flops_per_s
    dtype = max(rates, key=lambda each: rates[each])
    return AcceleratorSpeedups(check.rows, rates[dtype], dtype, peaks.threads, peaks.doubts)
