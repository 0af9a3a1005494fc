"""Bills of several models and batch sizes: where the ratio of the two halves changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import nn

from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.units import words
from kit.costs.step_cost import RULE_OF_THREE, STEP, StepCost, step_cost
from kit.data.arguments import described
from kit.plots import Picture, Table, lines
from kit.training import Optimizer
from kit.workloads import Workload


@dataclass(frozen=True)
class StepCosts(Result):
    """Bills of several models and batch sizes."""

    bills: tuple[StepCost, ...]

    def __getitem__(self, which: tuple[str, int]) -> StepCost:
        known = {(b.name, b.batch_size): b for b in self.bills}
        if which not in known:
            raise UnknownName("bill", which, map(str, known))
        return known[which]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.bills)

    def __repr__(self) -> str:
        return "; ".join(map(repr, self.bills))

    def table(self) -> Table:
        """What people see: per model and batch, each phase in predictions of that batch."""

        def row(b: StepCost) -> tuple[str, ...]:
            phases = (words(b.parts.ratio(name, "predict").value, "×") for name in STEP)
            r = b.time_ratio
            return (
                f"{b.name}, batch {b.batch_size}",
                words(b.parts["predict"].median_s, "s"),
                *phases,
                words(r.value, "×"),
                r.interval,
                words(b.flops_ratio, "×"),
                words(b.memory_ratio, "×"),
                words(b.traffic_ratio, "×"),
            )

        header = ("", "prediction", *STEP, "step: time", "interval", "FLOPs", "memory", "traffic")
        one = self.bills[0].parts["predict"]
        caption = (
            "All but the first column as multiples of the prediction on the same batch. "
            f"{one.conditions}."
        )
        return Table(header, [row(b) for b in self.bills], caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw bills."""
        return {"bills": [b.to_dict() for b in self.bills]}

    def plot(self) -> Picture:
        """The measured ratio over the batch size, beside the rule of three."""
        series, bands = {}, {}
        for name in dict.fromkeys(b.name for b in self.bills):
            own = [b for b in self.bills if b.name == name]
            ratios = [b.time_ratio for b in own]
            series[name] = ([b.batch_size for b in own], [r.value for r in ratios])
            bands[name] = ([r.low for r in ratios], [r.high for r in ratios])
        told = "; ".join(
            f"{name} from {words(ys[0], '×')} at batch {xs[0]} to {words(ys[-1], '×')} at {xs[-1]}"
            for name, (xs, ys) in series.items()
        )
        return lines(
            series,
            "batch size (examples)",
            "training step ÷ prediction (time)",
            caption=f"Time of a training step in predictions: {told}.",
            log="x",
            bands=bands,
            level=("the rule of three", RULE_OF_THREE),
        )


def step_costs(
    models: Iterable[str | nn.Module],
    workload: Workload,
    *,
    batch_sizes: Iterable[int] = (1, 8, 64, 256),
    budget_s: float = 0.5,
    device: torch.device | str = "cpu",
    optimizer: Optimizer = "adamw",
) -> StepCosts:
    """A bill per model and batch size of a workload; `budget_s` seconds each.

    `models` are names of the workload's, such as all of its `work.models`, or models.

    Raises
    ------
    BadValue
        What is given first is one model, or the workload.
    """
    if isinstance(models, (str, nn.Module)) or not isinstance(models, Iterable):
        one = (
            "needs several models first: kit.step_costs(work.models, work). Of one: kit.step_cost."
        )
        raise BadValue(f"kit.step_costs: given {described(models)} first; {one}")
    options: dict[str, Any] = {"budget_s": budget_s, "device": device, "optimizer": optimizer}
    pairs = product(models, list(batch_sizes))
    return StepCosts(
        tuple(step_cost(model, workload, batch_size=n, **options) for model, n in pairs)
    )
