"""The two halves of a model's bill, side by side: a prediction, and a training step by phase.

Counted (FLOPs, bytes) and timed, on the same batch, in the same rounds.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kit import techniques
from kit.core.errors import UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate, median
from kit.core.units import words
from kit.costs.counting import Count, count
from kit.data.arguments import check_pair, is_workload
from kit.devices.selection import check_present
from kit.inference import device_of, predict
from kit.measurement import Parts, measure_parts
from kit.models.custom import copy_model, output_tensor, training_copy
from kit.plots import Picture, Table, bars
from kit.training import PRECISIONS, Optimizer, optimizer_for, step
from kit.training.engine import check_learns
from kit.workloads import Workload

STEP = ["forward", "backward", "optimizer"]
RULE_OF_THREE = 3.0  # forward 1, backward 2: what articles assume, in FLOPs


@dataclass(frozen=True)
class StepCost(Result):
    """What one prediction and one training step of a model cost on one batch."""

    name: str
    batch_size: int
    count: Count
    parts: Parts
    served: Count | None = None  # of what predicts, if it is another form of the model

    @property
    def used(self) -> Count:
        """What a prediction costs on paper, in the form in which the model is used."""
        return self.served or self.count

    @property
    def time_ratio(self) -> Estimate:
        """Time of a training step ÷ time of a prediction."""
        return self.parts.ratio(STEP, "predict")

    @property
    def flops_ratio(self) -> float | None:
        """FLOPs of a training step ÷ FLOPs of a prediction; None: no operation of it is counted."""
        flops = self.count.forward_flops
        return self.count.step_flops / flops if flops else None

    @property
    def traffic_ratio(self) -> float:
        """Least bytes moved by a training step ÷ by a prediction."""
        phases = self.count.phases
        return sum(phases[p].moved_bytes for p in STEP) / self.used.phases["predict"].moved_bytes

    @property
    def memory_ratio(self) -> float:
        """Bytes that training has in memory ÷ bytes that inference has."""
        return self.count.training_bytes / self.used.inference_bytes

    @property
    def adjusting_share(self) -> Estimate:
        """Backward and optimizer, as a share of what a step takes beyond a prediction."""
        return self._share_of_extra("backward", "optimizer")

    @property
    def optimizer_share_of_extra(self) -> Estimate:
        """The optimizer alone, as a share of what a step takes beyond a prediction."""
        return self._share_of_extra("optimizer")

    def _share_of_extra(self, *names: str) -> Estimate:
        times = {name: np.array(self.parts[name].times_s) for name in ("predict", *STEP)}
        extra = sum(times[name] for name in STEP) - times["predict"]
        return median(sum(times[name] for name in names) / extra, "%")

    def phases_s(self) -> dict[str, float]:
        """Median seconds of each phase of a training step."""
        return {name: self.parts[name].median_s for name in STEP}

    @property
    def step(self) -> Estimate:
        """Median seconds of a training step, its phases added up within each round."""
        return median(np.sum([self.parts[name].times_s for name in STEP], axis=0), "s")

    def step_s(self) -> float:
        """Median seconds of a training step: the sum of its phases' medians."""
        return sum(self.phases_s().values())

    def __repr__(self) -> str:
        return (
            f"{self.name}, batch {self.batch_size}: a training step takes {self.time_ratio} the "
            f"time and {words(self.flops_ratio, '×')} the FLOPs of a prediction"
        )

    def table(self) -> Table:
        """What people see: one row per phase, then step against prediction."""
        phases = self.count.phases
        rows = []
        for name in ("predict", *STEP):
            median = self.parts[name].median
            work = self.used.phases[name] if name == "predict" else phases[name]
            rows.append(
                (
                    "prediction" if name == "predict" else f"· {name}",
                    words(median.value, "s"),
                    median.interval,
                    words(work.flops, "FLOP"),
                    words(work.moved_bytes, "B"),
                    words(work.flops / median.value if work.flops else None, "FLOP/s"),
                )
            )
        ratio, flops = self.time_ratio, self.count.step_flops
        moved = sum(phases[p].moved_bytes for p in STEP)
        step = (
            "training step",
            words(self.step_s(), "s"),
            "",
            words(flops, "FLOP"),
            words(moved, "B"),
            words(flops / self.step_s(), "FLOP/s"),
        )
        rows.insert(1, step)
        rows.append(
            (
                "step ÷ prediction",
                words(ratio.value, "×"),
                ratio.interval,
                words(self.flops_ratio, "×"),
                words(self.traffic_ratio, "×"),
                "",
            )
        )
        one = self.parts["predict"]
        caption = (
            f"{self.count.model}; batch of {self.batch_size}; {one.n} rounds on "
            f"{one.conditions}. Median time and its 95 % interval in this run; bytes: "
            f"the least that must be moved. {self.count.rule[0].upper()}{self.count.rule[1:]}."
        )
        if self.count.uncounted:
            caption += f" Not counted: {', '.join(self.count.uncounted)}."
        header = ("", "time", "interval", "work", "bytes moved", "rate")
        return Table(header, rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw times and counts."""
        return {
            "name": self.name,
            "batch_size": self.batch_size,
            "count": self.count.to_dict(),
            **self.parts.to_dict(),
            "time_ratio": self.time_ratio.to_dict(),
            "flops_ratio": self.flops_ratio,
            "traffic_ratio": self.traffic_ratio,
            "memory_ratio": self.memory_ratio,
        }

    def plot(self) -> Picture:
        """A prediction's bar above a training step's, the latter by phase."""
        stacks = {
            "a prediction": {"forward": self.parts["predict"].median_s},
            "a training step": self.phases_s(),
        }
        told = ", ".join(f"{name} {words(s, 's')}" for name, s in self.phases_s().items())
        caption = (
            f"{self.name}, batch {self.batch_size}: a prediction takes "
            f"{words(self.parts['predict'].median_s, 's')}; a training step {told}; "
            f"{words(self.time_ratio.value, '×')} in all."
        )
        return bars(stacks, "time", caption=caption, unit="s")


def step_cost(
    model: nn.Module | str,
    workload: Workload,
    *,
    batch_size: int = 32,
    budget_s: float = 1.0,
    device: torch.device | str = "cpu",
    optimizer: Optimizer = "adamw",
    precision: str = "fp32",
    served: nn.Module | None = None,
) -> StepCost:
    """What a prediction and a training step cost: time, FLOPs and bytes, by phase.

    The model given stays as it is: a copy is trained, and a copy in evaluation mode predicts.

    Parameters
    ----------
    model
        Any model, or the name of one of the workload's.
    workload
        Gives the batch and the loss.
    batch_size
        Examples per batch, for the prediction and the step alike.
    budget_s
        Seconds for the timings.
    device
        Where to compute, if the model is made here.
    optimizer
        A name or a class, see `kit.train`; the count assumes AdamW's two moments.
    precision
        "fp32" or "bf16", for the prediction and the step alike; see `kit.train`.
    served
        What predicts, if it is another form of the model: compiled, narrowed.

    Explained in lesson 02.
    """
    name = model if isinstance(model, str) else type(model).__name__.lower()
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    if isinstance(model, str) and is_workload(workload):
        check_present(torch.device(device))
        model = workload.model(model).to(device)
    check_pair("kit.step_cost", model, workload)
    assert isinstance(model, nn.Module)
    inputs, targets = workload.example(batch_size, device_of(model))
    check_learns(model)
    narrow = PRECISIONS[precision]

    def cast() -> AbstractContextManager[Any]:
        return torch.autocast(inputs.device.type, narrow) if narrow else nullcontext()

    with cast():
        learner, _ = training_copy(model, inputs)  # `count` says which layers cannot train on one
        server = copy_model(learner).eval() if served is None else served
        output_tensor(predict(server, inputs), server)  # refuses what no loss can be computed from
    update = optimizer_for(learner, optimizer, lr=1e-4)

    def infer(_: Any) -> Tensor:
        with cast():
            return predict(server, inputs)

    def forward(_: Any) -> Tensor:
        with cast():
            return workload.loss(output_tensor(learner(inputs), learner), targets)

    def apply(_: Any) -> None:
        update.step()
        update.zero_grad()  # what `step` does first; no time to speak of, but it is part of it

    def backward(loss: Tensor) -> None:
        loss.backward()

    # Each half runs twice in a round and its second time counts: a call that follows one of its
    # own kind finds its code and data in the caches, as it would in service or in training.
    parts = {
        "first predict": infer,
        "predict": infer,
        "first step": lambda _: step(learner, update, inputs, targets, workload.loss, narrow),
        "forward": forward,
        "backward": backward,
        "optimizer": apply,
    }
    with cast():
        counted = count(
            model, inputs, lambda outputs: workload.loss(output_tensor(outputs, learner), targets)
        )
    timed = measure_parts(parts, budget_s=budget_s, device=device_of(model))
    return StepCost(name, batch_size, counted, timed, _counted(served, inputs))


def _counted(served: nn.Module | None, inputs: Tensor) -> Count | None:
    """The count of another form of the model, if it can be taken apart; else the model's stands."""
    if served is None or not techniques.is_open(served):
        return None
    return count(getattr(served, "_orig_mod", served), inputs)
