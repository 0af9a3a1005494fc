"""One form of a trained model: how fast it is, how large, and how good."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.inference import Score
from kit.measurement.comparison import SAME
from kit.plots import Table

SMALLER = 0.95  # of the bytes: less of a difference is none


@dataclass(frozen=True)
class Form(Result):
    """What was measured of one form of a model."""

    name: str
    model: nn.Module | None = field(default=None, repr=False)
    bytes: int | None = None  # on disk
    times: dict[int, Estimate] = field(default_factory=dict)  # batch size -> seconds per call
    # Time ÷ that of the first form, with intervals that hold for all forms at once.
    ratios: dict[int, Estimate] = field(default_factory=dict)
    noise: dict[int, float] = field(default_factory=dict)  # how far from 1 a ratio means nothing
    score: Score | None = None
    lost: Estimate | None = None  # of the first form's score, on the same examples; a share
    made_s: float = 0.0  # seconds to make it, compilers included
    absent: str = ""  # why it cannot be had here

    @property
    def batch_size(self) -> int:
        """The smallest that was timed: what its latency is."""
        return min(self.times)

    @property
    def latency(self) -> Estimate:
        """Seconds of a call with the smallest batch."""
        return self.times[self.batch_size]

    def throughput(self, batch_size: int | None = None) -> float:
        """Examples per second, in batches of that size; None: the largest timed."""
        n = max(self.times) if batch_size is None else batch_size
        return n / self.times[n].value

    def speedup(self, batch_size: int | None = None) -> Estimate | None:
        """How many times as fast as the first form; None for the first itself."""
        n = self.batch_size if batch_size is None else batch_size
        ratio = self.ratios.get(n)
        return ratio and replace(1 / ratio, unit="×")

    def pace(self, batch_size: int | None = None) -> str:
        """*faster*, *slower*, *as fast* within 5 %, or *cannot tell*: against the first form."""
        n = self.batch_size if batch_size is None else batch_size
        ratio, floor = self.ratios[n], self.noise[n]
        if ratio.high < 1 / (1 + floor):
            return "faster"
        if ratio.low > 1 + floor:
            return "slower"
        margin = max(SAME, floor)
        return "as fast" if 1 - margin <= ratio.low and ratio.high <= 1 + margin else "cannot tell"

    @property
    def worse(self) -> bool:
        """Whether it surely has lost some of the score."""
        return self.lost is not None and self.lost.low > 0

    def __repr__(self) -> str:
        if self.absent:
            return f"{self.name}: not here: {self.absent}"
        told = f"{self.name}: {words(self.latency.value, 's')}, {words(self.bytes, 'B')}"
        return f"{told}, {self.score.mean} {self.score.measure}" if self.score else told

    def table(self) -> Table:
        """What people see: its times, size and score."""
        return Table(*rows_of([self], None), self._caption())

    def _caption(self) -> str:
        if self.absent:
            return f"Not here: {self.absent}"
        made = f"Made in {words(self.made_s, 's')}. " if self.made_s else ""
        if not self.ratios:
            return f"{made}The form that all others are held against."
        times = "; ".join(
            f"{self.speedup(n)} as fast in batches of {n:,}" for n in sorted(self.ratios)
        )
        lost = f", score lost {self.lost}" if self.lost else ""
        return f"{made}Against the first form: {times}{lost}."

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers."""
        return {
            "name": self.name,
            "absent": self.absent,
            "bytes": self.bytes,
            "made_s": self.made_s,
            "time_s": {n: t.to_dict() for n, t in self.times.items()},
            "time_ratio": {n: r.to_dict() for n, r in self.ratios.items()},
            "noise_floor_share": self.noise,
            "score": self.score.to_dict() if self.score else None,
            "score_lost_share": self.lost.to_dict() if self.lost else None,
        }


def is_legal(form: Form, max_bytes: float | None, max_score_loss: float | None) -> bool:
    """Whether a form keeps within the limits that there are."""
    small = max_bytes is None or (form.bytes or 0) <= max_bytes
    return small and (max_score_loss is None or loss_of(form) <= max_score_loss)


def loss_of(form: Form) -> float:
    """The share of the first form's score that it has lost, as measured; below 0: it gained."""
    return form.lost.value if form.lost else 0.0


def rows_of(forms: list[Form], first: Form | None) -> tuple[list[str], list[tuple[str, ...]]]:
    """Header and rows: times and speed-ups per batch size, size, score, and what that says."""
    present = [form for form in forms if not form.absent]
    sizes = list(present[0].times) if present else []
    judged = bool(present and present[0].score)
    header = ["form"]
    for n in sizes:
        header += [f"time for {n:,}", "× as fast"]
    header += ["on disk"]
    if judged:
        header += [present[0].score.measure, "lost"]  # type: ignore[union-attr]
    header += ["compared with the first"]
    rows: list[tuple[str, ...]] = []
    for form in forms:
        if form.absent:
            blank = ["—"] * (len(header) - 2)
            rows.append((form.name, *blank, f"not here: {form.absent}"))
            continue
        cells = [form.name]
        for n in sizes:
            faster = form.speedup(n)
            cells += [words(form.times[n].value, "s"), words(faster.value) if faster else "1"]
        cells += [words(form.bytes, "B")]
        if judged and form.score:
            lost = f"{words(form.lost.value, '%')} [{form.lost.interval}]" if form.lost else ""
            cells += [words(form.score.mean.value, "%"), lost]
        rows.append((*cells, _verdict(form, first)))
    return header, rows


def _verdict(form: Form, first: Form | None) -> str:
    """Smaller or not, faster or not, worse or not, in words."""
    if not form.ratios or first is None:
        return "where we start" if not form.ratios else form.pace()
    pace, share = form.pace(), (form.bytes or 0) / (first.bytes or 1)
    small = share < SMALLER
    size = "smaller" if small else "larger" if share > 1 / SMALLER else "as large"
    joint = "and" if small == (pace == "faster") else "but"
    told = f"{size}, cannot tell if faster" if pace == "cannot tell" else f"{size} {joint} {pace}"
    return f"{told}{', and worse' if form.worse else ''}"
