"""The fastest form of a trained model within your limits, found in a given time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from kit.core.checks import check_budget, check_share, is_number
from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.data.arguments import check_pair
from kit.inference import device_of
from kit.ladders.inference import CALIBRATION, InferenceLadder
from kit.ladders.ladder import SAME_TIME
from kit.ladders.model_form import ModelForm
from kit.measurement import Comparison
from kit.plots import Picture, Table
from kit.techniques import TECHNIQUES, Technique
from kit.workloads import Workload

TRIAL_S = 0.25  # seconds to time each form, in turns with the model itself
NEAR = 1.3  # forms at most this many times as slow as the fastest trial enter the final
FINAL_S = 1.0  # seconds for the final, in which they are timed in turns with each other

# The techniques that need no training afterwards.
TRIED: dict[str, Technique] = {
    name: technique for name, technique in TECHNIQUES.items() if technique.tolerance is not None
}


@dataclass(frozen=True)
class Fastest(Result):
    """The fastest form within the limits, and all forms that were tried."""

    name: str
    model: nn.Module = field(repr=False)
    ladder: InferenceLadder
    finals: Comparison | None  # of the forms near the fastest; None: there was only one
    tied: tuple[str, ...]  # forms that may be as fast: the difference is within the interval
    untried: tuple[str, ...]  # techniques for which no time was left
    max_score_loss: float | None
    max_bytes: float | None
    spent_s: float

    @property
    def form(self) -> ModelForm:
        """What was measured of the fastest form."""
        return self.ladder[self.name]

    @property
    def speedup(self) -> Estimate | None:
        """Time of the model in PyTorch ÷ time of the fastest form. None: that is the fastest."""
        return self.form.speedup()

    def __repr__(self) -> str:
        text = f"{self.name}: {words(self.form.latency.value, 's')}"
        if self.speedup:
            text += f", {self.speedup} as fast as plain PyTorch"
        if self.tied:
            text += f"; tied with {', '.join(self.tied)}"
        return f"{text}; {len(self.ladder.present)} forms tried in {words(self.spent_s, 's')}"

    def table(self) -> Table:
        """All forms that were tried, and why this one was chosen."""
        tried = self.ladder.table()
        given = (("score lost", self.max_score_loss, "points"), ("bytes", self.max_bytes, "B"))
        limits = [f"{name} at most {words(most, unit)}" for name, most, unit in given if most]
        within = f" with {' and '.join(limits)}" if limits else ""
        caption = f"Fastest{within}: {self.name}. {tried.caption}"
        if self.finals:
            near = ", ".join(
                f"{name} {words(m.median_s, 's')}" for name, m in self.finals.measurements.items()
            )
            caption += f" Those near it, timed in turns with each other: {near}."
        if self.tied:
            tied = ", ".join(self.tied)
            caption += f" Tied, since the difference is within the interval: {tied}."
        if self.untried:
            caption += f" Not tried, since no time was left: {', '.join(self.untried)}."
        return Table(tried.header, tried.rows, caption, tried.details)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of all forms that were tried."""
        return {
            "fastest": self.name,
            "max_score_loss_share": self.max_score_loss,
            "max_bytes": self.max_bytes,
            "spent_s": self.spent_s,
            "tied": list(self.tied),
            "untried": list(self.untried),
            "finals": self.finals and self.finals.to_dict(),
            "ladder": self.ladder.to_dict(),
        }

    def plot(self) -> Picture:
        """All forms, the limits, and the chosen form."""
        return self.ladder.plot(max_bytes=self.max_bytes, max_score_loss=self.max_score_loss)


def fastest(
    model: nn.Module,
    workload: Workload | Tensor,
    *,
    batch_size: int = 1,
    max_score_loss: float | None = None,
    max_bytes: float | None = None,
    split: str = "validation",
    budget_s: float = 60.0,
    techniques: tuple[str, ...] | None = None,
) -> Fastest:
    """The fastest form of a trained model for one batch size, within limits.

    Each technique that works here makes a form. It is timed in turns with the model as it was
    trained, 'none', its size is measured, and it is scored. Forms near the fastest are then timed
    in turns with each other. A technique raises if a form's outputs differ too much from the
    model's.

    Forms that PyTorch runs without its compiler are called within `torch.inference_mode`, if they
    work alike there. Call yours so, too: `kit.predict` only leaves out gradients, and may take
    longer.

    Parameters
    ----------
    model
        A trained model. It does not change.
    workload
        Provides real inputs, and scores the forms. Or only inputs, (B, …) on the model's device,
        with the batch size to be fast for: then forms have no scores.
    batch_size
        Examples per call, if a workload provides them.
    max_score_loss
        The most that a form may lose of the score, a share: 0.005 is half a point. As measured on
        the examples of `split`; needs a workload.
    max_bytes
        The most that the form may have on disk.
    split
        The split on which forms are chosen. Do not report the chosen form's score on it: the
        best of many is partly lucky.
    budget_s
        After this time no further form is started. A form in progress is finished.
    techniques
        Names of the techniques to try, from `kit.techniques.TECHNIQUES`. None: all that need no
        training.

    Raises
    ------
    BadValue
        If a limit makes no sense, or no form is within the limits: what the nearest form has.
    UnknownName
        If a technique does not exist, or needs training.

    Examples
    --------
    >>> import torch
    >>> from kit.models import MLP
    >>> found = fastest(MLP(), torch.zeros(1, 1, 8, 8), techniques=("half",), max_bytes=60_000)
    >>> found.name
    'half'

    Explained in lesson 09.
    """
    if not isinstance(model, nn.Module) or not isinstance(workload, Tensor):
        check_pair("kit.fastest", model, workload)
    scorer: Workload | None = None if isinstance(workload, Tensor) else workload
    _check(max_score_loss, max_bytes, budget_s, scorer)
    began, names = time.perf_counter(), tuple(TRIED if techniques is None else techniques)
    for name in names:
        if name not in TRIED:
            raise UnknownName("technique to try", name, TRIED)
    if isinstance(workload, Tensor):
        real = example = workload
    else:
        sizes = (CALIBRATION, batch_size)
        real, example = (workload.example(n, device_of(model))[0] for n in sizes)
    itself = TECHNIQUES["none"](model, real)  # a copy, in evaluation mode
    start = InferenceLadder(itself, real, scorer, (len(example),), split, TRIAL_S).start("none")
    ladder, untried = _tried(start, [n for n in names if n != "none"], began + budget_s)
    allowed = [form for form in ladder.present if form.within(max_bytes, max_score_loss)]
    if not allowed:
        raise _none_allowed(ladder, max_bytes, max_score_loss)
    name, tied, finals = _finals(ladder, allowed)
    chosen = ladder[name].model
    assert chosen is not None
    spent_s = time.perf_counter() - began
    limits = (max_score_loss, max_bytes)
    return Fastest(name, chosen, ladder, finals, tied, untried, *limits, spent_s)


def _tried(
    ladder: InferenceLadder, names: list[str], end: float
) -> tuple[InferenceLadder, tuple[str, ...]]:
    """The ladder with these techniques, and the names for which no time was left."""
    for i, name in enumerate(names):
        if time.perf_counter() > end:
            return ladder, tuple(names[i:])
        ladder = ladder.then(name, TRIED[name])
    return ladder, ()


def _finals(
    ladder: InferenceLadder, allowed: list[ModelForm]
) -> tuple[str, tuple[str, ...], Comparison | None]:
    """The fastest form, the forms tied with it, and the comparison that decided."""
    near = sorted(allowed, key=lambda form: form.latency.value)
    near = [form for form in near if form.latency.value <= NEAR * near[0].latency.value]
    if len(near) == 1:
        return near[0].name, (), None
    timed = ladder.in_turns(near, ladder.batch_sizes[0], FINAL_S)
    return *winners(timed), timed


def winners(timed: Comparison) -> tuple[str, tuple[str, ...]]:
    """The fastest call of a comparison, and the calls that are not slower beyond the noise.

    The intervals of all ratios hold at once. A call is tied with the fastest if its interval
    overlaps the fastest call's, noise floor included.
    """
    names = list(timed.measurements)
    ratios = {name: timed.ratio(name) for name in names[1:]}
    ratios[names[0]] = SAME_TIME
    name = min(names, key=lambda each: ratios[each].value)
    most = ratios[name].high * (1 + timed.noise_floor)
    return name, tuple(n for n in names if n != name and ratios[n].low <= most)


def _check(
    max_score_loss: float | None, max_bytes: float | None, budget_s: float, workload: Any
) -> None:
    """Raise if a limit makes no sense, before any form is made."""
    if max_score_loss is not None:
        hint = "Give 0.005 for half a point of a hundred."
        check_share("max_score_loss", max_score_loss, "a share", hint=hint)
        if workload is None:
            raise BadValue(
                f"max_score_loss={max_score_loss!r}: needs a workload, which scores the forms: "
                f"kit.fastest(model, work, max_score_loss=…)."
            )
    if max_bytes is not None and not (is_number(max_bytes) and max_bytes > 0):
        raise BadValue(f"max_bytes={max_bytes!r}: needs a number of bytes above 0.")
    check_budget(budget_s)


def _none_allowed(
    ladder: InferenceLadder, max_bytes: float | None, max_score_loss: float | None
) -> BadValue:
    """The error if no form is within the limits. It names the smallest with a good enough score."""
    good = [form for form in ladder.present if form.within(None, max_score_loss)]
    smallest = min(good or ladder.present, key=lambda form: form.bytes or 0)
    return BadValue(
        f"no form is within max_bytes={max_bytes and f'{max_bytes:,.0f}'}: the smallest, "
        f"{smallest.name!r}, has {smallest.bytes:,}. Allow more, or make the model smaller first: "
        f"use kit.techniques.pruned and train the result further."
    )


__all__ = ["Fastest", "fastest"]
