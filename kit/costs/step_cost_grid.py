"""Step costs of several models and batch sizes: where the ratio to a prediction changes."""

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
from kit.costs.step_cost import RULE_OF_THREE, StepCost, step_cost
from kit.data.arguments import described
from kit.plots import Picture, Table, lines, with_doubts
from kit.training import Optimizer
from kit.workloads import Workload


@dataclass(frozen=True)
class StepCosts(Result):
    """Step costs of several models and batch sizes."""

    costs: tuple[StepCost, ...]

    def __getitem__(self, which: tuple[str, int]) -> StepCost:
        known = {(cost.name, cost.batch_size): cost for cost in self.costs}
        if which not in known:
            raise UnknownName("step cost", which, map(str, known))
        return known[which]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.costs)

    def __repr__(self) -> str:
        return "; ".join(map(repr, self.costs))

    def table(self) -> Table:
        """Per model and batch size: a step in predictions of the same batch."""

        def row(cost: StepCost) -> tuple[str, ...]:
            return (
                f"{cost.name}, batch {cost.batch_size}",
                words(cost.parts["predict"].median_s, "s"),
                words(cost.time_ratio.value, "×"),
                cost.time_ratio.interval,
                words(cost.flops_ratio, "×"),
                words(cost.memory_ratio, "×"),
            )

        header = ("", "prediction", "step ÷ prediction: time", "interval", "FLOPs", "memory")
        caption = "A training step, in predictions on the same batch."
        details = f"{self.costs[0].parts['predict'].conditions}."
        rows = [row(cost) for cost in self.costs]
        doubts = [f"{rows[i][0]}: {c.doubts[0]}" for i, c in enumerate(self.costs) if c.doubts]
        return Table(header, rows, *with_doubts(caption, doubts, details))

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of each step cost."""
        return {"bills": [cost.to_dict() for cost in self.costs]}

    def plot(self) -> Picture:
        """The measured ratio over the batch size, beside the rule of three."""
        series, bands = {}, {}
        for name in dict.fromkeys(cost.name for cost in self.costs):
            own = [cost for cost in self.costs if cost.name == name]
            ratios = [cost.time_ratio for cost in own]
            series[name] = ([cost.batch_size for cost in own], [r.value for r in ratios])
            bands[name] = ([r.low for r in ratios], [r.high for r in ratios])
        changes = "; ".join(
            f"{name} from {words(ys[0], '×')} at batch {xs[0]} to {words(ys[-1], '×')} at {xs[-1]}"
            for name, (xs, ys) in series.items()
        )
        return lines(
            series,
            "batch size (examples)",
            "training step ÷ prediction (time)",
            caption=f"Time of a training step in predictions: {changes}.",
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
    """A step cost for each model and batch size, with `budget_s` seconds for each.

    `models` are models, or names of the workload's models, such as `work.models`.

    Raises
    ------
    BadValue
        If the first argument is a single model, or the workload.
    """
    if isinstance(models, (str, nn.Module)) or not isinstance(models, Iterable):
        raise BadValue(
            f"kit.step_costs: given {described(models)} first; needs several models first: "
            f"kit.step_costs(work.models, work). For one model use kit.step_cost."
        )
    options: dict[str, Any] = {"budget_s": budget_s, "device": device, "optimizer": optimizer}
    pairs = product(models, list(batch_sizes))
    return StepCosts(
        tuple(step_cost(model, workload, batch_size=n, **options) for model, n in pairs)
    )
