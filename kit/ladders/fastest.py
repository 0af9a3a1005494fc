"""The fastest form of a trained model that one may use, found in a given time."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from kit.core.checks import check_budget, is_number
from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.data.arguments import check_pair
from kit.inference import device_of, predict
from kit.ladders.inference import CALIBRATION, InferenceLadder
from kit.ladders.model_forms import Form, is_legal
from kit.measurement import Comparison, compare
from kit.plots import Picture, Table
from kit.techniques import SHELF, Technique
from kit.workloads import Workload

LOOK_S = 0.25  # seconds for a first look at a form, in turns with the model as in training
NEAR = 1.3  # forms up to so many times as slow as the best look are timed against each other
FINAL_S = 1.0  # seconds for that


# Those that need no training afterwards.
TRIED: dict[str, Technique] = {
    name: technique for name, technique in SHELF.items() if technique.tolerance is not None
}


@dataclass(frozen=True)
class Fastest(Result):
    """The fastest form within the limits, and all that were tried."""

    name: str
    model: nn.Module = field(repr=False)
    ladder: InferenceLadder
    finals: Comparison | None  # the nearest ones against each other; None: there was one
    tied: tuple[str, ...]  # finals that may be as fast, as far as can be told
    untried: tuple[str, ...]  # because the time was over
    max_score_loss: float | None
    max_bytes: float | None
    spent_s: float

    @property
    def form(self) -> Form:
        """What was measured of it."""
        return self.ladder[self.name]

    @property
    def speedup(self) -> Estimate | None:
        """How many times as fast as the model as in training."""
        return self.form.speedup()

    def __repr__(self) -> str:
        told = f"{self.name}: {words(self.form.latency.value, 's')}"
        if self.speedup:
            told += f", {self.speedup} as fast as in training"
        if self.tied:
            told += f"; tied with {', '.join(self.tied)}"
        return f"{told}; {len(self.ladder.present)} forms tried in {words(self.spent_s, 's')}"

    def table(self) -> Table:
        """What people see: all that were tried, and why this one."""
        whole = self.ladder.table()
        limits = {"score lost": self.max_score_loss, "bytes": self.max_bytes}
        units = {"score lost": "%", "bytes": "B"}
        told = [f"{name} at most {words(v, units[name])}" for name, v in limits.items() if v]
        within = f" with {' and '.join(told)}" if told else ""
        caption = f"Fastest{within}: {self.name}. {whole.caption}"
        if self.finals:
            near = ", ".join(
                f"{name} {words(m.median_s, 's')}" for name, m in self.finals.measurements.items()
            )
            caption += f" The nearest, timed in turns with each other: {near}."
        if self.tied:
            caption += (
                f" Tied, since the difference is within the interval: {', '.join(self.tied)}."
            )
        if self.untried:
            caption += f" Not tried, since the time was over: {', '.join(self.untried)}."
        return Table(whole.header, whole.rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of all that were tried."""
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
        """All forms, the limits, and the one chosen."""
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

    Each technique that works here makes a form, which is timed in turns with the model as it was
    in training, weighed, and judged. Those that come near the fastest are then timed in turns
    with each other. A form whose answers lie too far from the model's own refuses to be made.

    Parameters
    ----------
    model
        A trained one; it stays as it is.
    workload
        Gives real inputs, and judges the forms. Or inputs alone, (B, …) on the model's device, as
        many as will be asked for at once: then nobody judges.
    batch_size
        How many examples will be asked for at once, where a workload gives them.
    max_score_loss
        How much of the score may be lost, a share: 0.005 is half a point. As measured, on the
        split's examples; needs a workload.
    max_bytes
        How large the form may be on disk.
    split
        By which forms are chosen; not the one by which you tell how good the chosen one is.
    budget_s
        After so many seconds no further form is begun. One that is being made is finished.
    techniques
        Names of those to try, from `kit.techniques.SHELF`; None: all that need no training.

    Raises
    ------
    BadValue
        A limit that makes no sense, or that no form keeps: what the nearest ones have.
    UnknownName
        There is no such technique, or it needs training.

    Explained in lesson 09.
    """
    if not isinstance(model, nn.Module) or not isinstance(workload, Tensor):
        check_pair("kit.fastest", model, workload)
    judge: Workload | None = None if isinstance(workload, Tensor) else workload
    _check(max_score_loss, max_bytes, budget_s, judge)
    began, names = time.perf_counter(), tuple(TRIED if techniques is None else techniques)
    for name in names:
        if name not in TRIED:
            raise UnknownName("technique to try", name, TRIED)
    if isinstance(workload, Tensor):
        real = example = workload
    else:
        sizes = (CALIBRATION, batch_size)
        real, example = (workload.example(n, device_of(model))[0] for n in sizes)
    bare = InferenceLadder(model, real, judge, (len(example),), split, LOOK_S)
    ladder = bare.begun("as in training").then("none", SHELF["none"])
    untried = []
    for name in names:
        if name == "none":
            continue
        if time.perf_counter() - began > budget_s:
            untried.append(name)
        else:
            ladder = ladder.then(name, TRIED[name])
    legal = [form for form in ladder.present if is_legal(form, max_bytes, max_score_loss)]
    if not legal:
        raise _none_is_legal(ladder, max_bytes, max_score_loss)
    name, tied, finals = _finals(legal, example)
    chosen = ladder[name].model
    assert chosen is not None
    spent_s = time.perf_counter() - began
    limits = (max_score_loss, max_bytes)
    return Fastest(name, chosen, ladder, finals, tied, tuple(untried), *limits, spent_s)


def _finals(legal: list[Form], example: Tensor) -> tuple[str, tuple[str, ...], Comparison | None]:
    """The fastest, those tied with it, and the nearest ones timed in turns with each other."""
    near = sorted(legal, key=lambda form: form.latency.value)
    near = [form for form in near if form.latency.value <= NEAR * near[0].latency.value]
    if len(near) == 1:
        return near[0].name, (), None
    calls = {form.name: _call(form.model, example) for form in near}
    timed = compare(calls, varied=("answer", "dtype"), budget_s=FINAL_S, device=example.device)
    return *winners(timed), timed


def winners(timed: Comparison) -> tuple[str, tuple[str, ...]]:
    """The fastest of calls that took turns, and those that are not slower beyond the noise.

    Their ratios to the first call hold all at once. A call is tied with the fastest if its ratio
    could be as low as the fastest one's could be high.
    """
    names = list(timed.measurements)
    ratios = {name: timed.ratio(name) for name in names[1:]}
    ratios[names[0]] = Estimate(1.0, 1.0, 1.0, "×")
    name = min(names, key=lambda each: ratios[each].value)
    most = ratios[name].high * (1 + timed.noise_floor)
    return name, tuple(n for n in names if n != name and ratios[n].low <= most)


def _call(model: nn.Module | None, example: Tensor) -> Any:
    assert model is not None
    return lambda: predict(model, example)


def _check(
    max_score_loss: float | None, max_bytes: float | None, budget_s: float, workload: Any
) -> None:
    """Refuse limits that make no sense, before anything is made."""
    if max_score_loss is not None:
        if not is_number(max_score_loss) or not 0 <= max_score_loss < 1:
            raise BadValue(
                f"max_score_loss={max_score_loss!r}: needs a share from 0 to 1; 0.005 is half a "
                f"point of a hundred."
            )
        if workload is None:
            raise BadValue("max_score_loss needs a workload, which knows what an answer is worth.")
    if max_bytes is not None and not (is_number(max_bytes) and max_bytes > 0):
        raise BadValue(f"max_bytes={max_bytes!r}: needs a number above 0.")
    check_budget(budget_s)


def _none_is_legal(
    ladder: InferenceLadder, max_bytes: float | None, max_score_loss: float | None
) -> BadValue:
    """What to say where no form keeps the limits: the smallest that loses little enough."""
    good = [form for form in ladder.present if is_legal(form, None, max_score_loss)]
    smallest = min(good or ladder.present, key=lambda form: form.bytes or 0)
    return BadValue(
        f"no form keeps within max_bytes={max_bytes and f'{max_bytes:,.0f}'}: the smallest, "
        f"{smallest.name!r}, has {smallest.bytes:,}. Allow more, or make the model smaller first: "
        f"kit.techniques.pruned, then train it on."
    )


__all__ = ["Fastest", "fastest"]
