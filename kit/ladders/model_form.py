"""One form of a trained model: how fast it is, how large, and how good."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from kit.core.statistics import Estimate, paired_difference, quotient
from kit.core.units import words
from kit.inference import Score
from kit.ladders.ladder import SAME_TIME, Rung
from kit.measurement.comparison import Decision, decide
from kit.plots import Table, with_doubts

UNKNOWN_RATIO = Estimate(math.nan, 0.0, math.inf, "×")
POINT = 0.01  # of the score
SMALLER = 0.95  # of the bytes: a smaller difference is not worth a word


@dataclass(frozen=True)
class ModelForm(Rung):
    """What was measured of one form of a model."""

    name: str
    model: nn.Module | None = field(default=None, repr=False)
    # To be called bare in inference mode, with the model's weights; None: `kit.predict` calls it.
    bare: nn.Module | None = field(default=None, repr=False, kw_only=True)
    is_reference: bool = field(default=False, kw_only=True)  # the model once more, called otherwise
    bytes: int | None = None  # on disk
    times: dict[int, Estimate] = field(default_factory=dict)  # batch size -> seconds per call
    # Batch size -> time ÷ that of the first form, with simultaneous intervals for all forms.
    ratios: dict[int, Estimate] = field(default_factory=dict)
    noise: dict[int, float] = field(default_factory=dict)  # batch size -> noise floor
    score: Score | None = None
    lost: Estimate | None = None  # share of the first form's score, on the same examples
    example_scores: Tensor | None = field(default=None, repr=False, compare=False)
    doubts: tuple[str, ...] = ()  # about its times, each with the batch size
    made_s: float = 0.0  # seconds to make it, with compilers
    absent: str = ""

    @property
    def batch_size(self) -> int:
        """The smallest batch size that was timed. `latency` is the time for it."""
        return min(self.times)

    @property
    def latency(self) -> Estimate:
        """Seconds of a call with the smallest batch."""
        return self.times[self.batch_size]

    def throughput(self, batch_size: int | None = None) -> float:
        """Examples per second, in batches of that size. None: the largest that was timed."""
        n = max(self.times) if batch_size is None else batch_size
        return n / self.times[n].value

    def speedup(self, batch_size: int | None = None) -> Estimate | None:
        """Time of the first form ÷ time of this one. None for the first form itself."""
        n = self.batch_size if batch_size is None else batch_size
        ratio = self.ratios.get(n)
        return ratio and (1 / ratio).with_unit("×")

    @property
    def many_to_one(self) -> Estimate:
        """Its ratio for the largest batch ÷ that for the smallest; below 1: many suit it better.

        Unknown if it is absent here, or the first form, which has no ratios.
        """
        if not self.ratios:
            return UNKNOWN_RATIO
        sizes = sorted(self.ratios)
        return quotient(self.ratios[sizes[-1]], self.ratios[sizes[0]]).with_unit("×")

    def pace(self, batch_size: int | None = None) -> Decision:
        """*faster*, *slower*, *same* or *cannot tell*, compared with the first form."""
        n = self.batch_size if batch_size is None else batch_size
        return decide(self.ratios[n], self.noise[n])

    @property
    def worse(self) -> bool:
        """Whether it certainly lost some of the score: the whole interval lies above zero."""
        return self.lost is not None and self.lost.low > 0

    @property
    def score_loss(self) -> float:
        """The share of the first form's score that it lost, as measured; below 0: it gained."""
        return self.lost.value if self.lost else 0.0

    def lost_against(self, other: ModelForm) -> Estimate | None:
        """The share of another form's score that it lost, on the same examples."""
        mine, theirs = self.example_scores, other.example_scores
        if mine is None or theirs is None:
            return None
        return paired_difference(theirs.numpy(), mine.numpy())

    def beats(self, other: ModelForm, batch_size: int) -> bool:
        """Whether it is surely better in time, size or score, and not worse in the others.

        Surely: the intervals do not overlap, or the sizes differ by 5 %. Worse: surely, or by more
        than 5 % (one point of score) as measured. So what is poorly known beats nothing by that.
        """
        n, better = batch_size, self._surely_better(other, batch_size)
        if not any(better) or any(other._surely_better(self, n)):
            return False
        time, to = (form.ratios.get(n, SAME_TIME).value for form in (self, other))
        lost = self.lost_against(other)
        return SMALLER * time <= to and not (lost and lost.value > POINT)

    def _surely_better(self, other: ModelForm, n: int) -> tuple[bool, bool, bool]:
        """In time, size and score."""
        lost = other.lost_against(self)
        return (
            self.surely_faster(other, n),
            (self.bytes or 0) < SMALLER * (other.bytes or 0),
            lost is not None and lost.low > 0,
        )

    def surely_faster(self, other: ModelForm, batch_size: int) -> bool:
        """Whether its interval lies below the other's, by more than the noise floor."""
        n = batch_size
        mine, theirs = (form.ratios.get(n, SAME_TIME) for form in (self, other))
        noise = max(self.noise.get(n, 0.0), other.noise.get(n, 0.0))
        return mine.high * (1 + noise) < theirs.low

    def within(self, max_bytes: float | None, max_score_loss: float | None) -> bool:
        """Whether it is within both limits, as far as they are given."""
        small = max_bytes is None or (self.bytes or 0) <= max_bytes
        return small and (max_score_loss is None or self.score_loss <= max_score_loss)

    def __repr__(self) -> str:
        if self.absent:
            return f"{self.name}: not here: {self.absent}"
        text = f"{self.name}: {words(self.latency.value, 's')}, {words(self.bytes, 'B')}"
        return f"{text}, {self.score.mean} {self.score.measure}" if self.score else text

    def table(self) -> Table:
        """The form's times, size and score."""
        return Table(*rows_of([self], None), *with_doubts(self._caption(), self.doubts))

    def _caption(self) -> str:
        if self.absent:
            return f"Not here: {self.absent}"
        made = f"Made in {words(self.made_s, 's')}. " if self.made_s else ""
        if not self.ratios:
            return f"{made}All other forms are compared with this one."
        times = "; ".join(
            f"{self.speedup(n)} as fast in batches of {n:,}" for n in sorted(self.ratios)
        )
        lost = f", score lost {self.lost}" if self.lost else ""
        return f"{made}Compared with the first form: {times}{lost}."

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
            "doubts": list(self.doubts),
            "score": self.score.to_dict() if self.score else None,
            "score_lost_share": self.lost.to_dict() if self.lost else None,
        }


def rows_of(
    forms: Sequence[ModelForm], first: ModelForm | None
) -> tuple[list[str], list[Sequence[str]]]:
    """Header and rows: time and speed-up per batch size, size, score, and a verdict in words."""
    present = [form for form in forms if not form.absent]
    sizes = list(present[0].times) if present else []
    score = present[0].score if present else None
    header = ["form"]
    for n in sizes:
        header += [f"time for {n:,}", *(["× as fast"] if len(sizes) == 1 else [])]
    header += [
        "on disk",
        *(["score lost"] if score else []),
        f"compared{f' for {sizes[0]:,}' if len(sizes) > 1 else ' with the first'}",
    ]
    return header, [_row(form, first, sizes, len(header)) for form in forms]


def _row(form: ModelForm, first: ModelForm | None, sizes: list[int], columns: int) -> list[str]:
    if form.absent:
        return [form.name, *["—"] * (columns - 2), f"not here: {form.absent}"]
    cells = [form.name]
    for n in sizes:
        faster = form.speedup(n)
        time = words(form.times[n].value, "s")
        if len(sizes) == 1:  # the header has the unit
            cells += [time, repr(faster.with_unit("")) if faster else "1"]
        else:
            cells += [f"{time}, {faster or '1 ×'} as fast"]
    cells += [words(form.bytes, "B")]
    if form.score:
        lost = form.lost and f"{words(form.lost.value, 'points')} [{form.lost.interval}]"
        cells += [lost or f"({words(form.score.mean.value, '%')} {form.score.measure})"]
    return [*cells, _verdict(form, first)]


def _verdict(form: ModelForm, first: ModelForm | None) -> str:
    """Whether it is smaller, faster and worse, in words."""
    if not form.ratios:
        return "where we start"
    pace = "as fast" if form.pace() == "same" else form.pace()
    if first is None:
        return pace
    share = (form.bytes or 0) / (first.bytes or 1)
    small = share < SMALLER
    size = "smaller" if small else "larger" if share > 1 / SMALLER else "as large"
    joint = "and" if small == (pace == "faster") else "but"
    text = f"{size}, cannot tell if faster" if pace == "cannot tell" else f"{size} {joint} {pace}"
    return f"{text}{', and worse' if form.worse else ''}"
