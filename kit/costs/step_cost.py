"""What a training step costs, phase by phase, beside a prediction on the same batch.

FLOPs and bytes are counted. Times are measured in the same rounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
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
from kit.measurement import Parts, Peaks, all_doubts, measure_parts
from kit.models.custom import copy_model, output_tensor, training_copy
from kit.plots import Picture, Table, bars, with_doubts
from kit.training import PRECISIONS, Optimizer, optimizer_for, step
from kit.training.checks import check_learns
from kit.training.steps import casting
from kit.workloads import Workload

STEP = ["forward", "backward", "optimizer"]  # the phases of a training step, in order
RULE_OF_THREE = 3.0  # forward 1, backward 2: the FLOPs of a step that articles assume
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # precision -> matmul dtype


@dataclass(frozen=True)
class StepCost(Result):
    """What one prediction and one training step of a model cost on one batch."""

    name: str
    batch_size: int
    count: Count
    parts: Parts
    served: Count | None = None  # of the deployed form of the model, if it differs

    @property
    def inference_count(self) -> Count:
        """The count of a prediction, in the form in which the model is deployed."""
        return self.served or self.count

    @property
    def time_ratio(self) -> Estimate:
        """Time of a training step ÷ time of a prediction."""
        return self.parts.ratio(STEP, "predict")

    @property
    def flops_ratio(self) -> float | None:
        """FLOPs of a training step ÷ of a prediction. None: no operation has a formula."""
        flops = self.count.forward_flops  # a step has the optimizer's FLOPs too: not exactly 3
        return self.count.step_flops / flops if flops else None

    @property
    def traffic_ratio(self) -> float:
        """Least bytes moved by a training step ÷ by a prediction."""
        predict = self.inference_count.phases["predict"]
        return self.count.step_moved_bytes / predict.moved_bytes

    @property
    def memory_ratio(self) -> float:
        """Peak memory of training ÷ peak memory of inference."""
        return self.count.training_bytes / self.inference_count.inference_bytes

    @property
    def optimizer_share_of_extra(self) -> Estimate:
        """The optimizer alone, as a share of the time that a step takes beyond a prediction."""
        # Computed within each round: a slow moment of the machine touches both sides and cancels.
        times = {name: np.array(self.parts[name].times_s) for name in ("predict", *STEP)}
        return median(times["optimizer"] / (sum(times[n] for n in STEP) - times["predict"]), "%")

    @property
    def doubts(self) -> list[str]:
        """Of the count, then of the times."""
        return [*self.count.doubts, *all_doubts(self.parts.measurements)]

    def phases_s(self) -> dict[str, float]:
        """Median seconds of each phase of a training step."""
        return {name: self.parts[name].median_s for name in STEP}

    @property
    def step(self) -> Estimate:
        """Median seconds of a training step, with its phases added up within each round."""
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
        """One row per phase, and the ratio of a step to a prediction."""

        def row(name: str, seconds: float, interval: str, flops: int, moved: int) -> list[str]:
            rate = flops / seconds if flops else None
            work = words(flops, "FLOP"), words(moved, "B"), words(rate, "FLOP/s")
            return [name, words(seconds, "s"), interval, *work]

        costs = {**self.count.phases, "predict": self.inference_count.phases["predict"]}
        times = {name: self.parts[name].median for name in ("predict", *STEP)}
        phases = {
            name: (time.value, time.interval, costs[name].flops, costs[name].moved_bytes)
            for name, time in times.items()
        }
        moved = self.count.step_moved_bytes
        ratio = self.time_ratio
        rows = [
            row("prediction", *phases["predict"]),
            row("training step", self.step_s(), "", self.count.step_flops, moved),
            *(row(f"· {name}", *phases[name]) for name in STEP),
            ["step ÷ prediction", words(ratio.value, "×"), ratio.interval,
             words(self.flops_ratio, "×"), words(self.traffic_ratio, "×"), ""],
        ]  # fmt: skip
        one = self.parts["predict"]
        caption = (
            f"{self.count.model}; batch of {self.batch_size}: median times, with their 95 % "
            f"intervals in this run."
        )
        details = (
            f"{one.n} rounds on {one.conditions}. Last row: the ratio within each round, "
            f"and of all rounds the median. Bytes: the least that must be moved. "
            f"{self.count.rule[0].upper()}{self.count.rule[1:]}."
        )
        header = ("", "time", "interval", "work", "bytes moved", "rate")
        return Table(header, rows, *with_doubts(caption, self.doubts, details))

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
        """A bar for a prediction above a bar for a training step, divided into phases."""
        stacks = {
            "a prediction": {"forward": self.parts["predict"].median_s},
            "a training step": self.phases_s(),
        }
        phases = ", ".join(f"{name} {words(s, 's')}" for name, s in self.phases_s().items())
        caption = (
            f"{self.count.model}; batch {self.batch_size}: a prediction takes "
            f"{words(self.parts['predict'].median_s, 's')}; a training step {phases}."
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
    """The time, FLOPs and bytes of a prediction and a training step, by phase.

    Your model does not change: one copy is trained, another predicts in evaluation mode.

    Parameters
    ----------
    model
        Any model, or the name of one of the workload's models.
    workload
        Provides the batch and the loss.
    batch_size
        Examples per batch, the same for the prediction and the step.
    budget_s
        Seconds for the timings.
    device
        Where to compute, if `model` is a name.
    optimizer
        A name or a class, see `kit.train`. The count assumes AdamW's two moments.
    precision
        "fp32" or "bf16", the same for the prediction and the step; see `kit.train`.
    served
        The deployed form of the model, if it differs: compiled, or in bfloat16.

    Examples
    --------
    >>> from kit.workloads import vision
    >>> cost = step_cost("mlp", vision(), batch_size=32, budget_s=0.05)
    >>> round(cost.flops_ratio, 1)  # the time ratio depends on the machine
    2.9

    Explained in lesson 02.
    """
    name = model._get_name().lower() if isinstance(model, nn.Module) else str(model)
    if precision not in PRECISIONS:
        raise UnknownName("precision", precision, PRECISIONS)
    if isinstance(model, str) and is_workload(workload):
        model = workload.model(model).to(check_present(device))
    check_pair("kit.step_cost", model, workload)
    assert isinstance(model, nn.Module)
    inputs, targets = workload.example(batch_size, device_of(model))
    check_learns(model)
    narrow = PRECISIONS[precision]

    cast = partial(casting, inputs.device, narrow)
    with cast():
        learner, _ = training_copy(model, inputs)  # `count` reports layers that cannot train on one
        server = copy_model(learner).eval() if served is None else served
        output_tensor(predict(server, inputs), server)  # raises if no loss can be computed from it
    update = optimizer_for(learner, optimizer, lr=1e-4)  # small: the loss must stay finite

    def infer(_: Any) -> Tensor:
        with cast():
            return predict(server, inputs)

    def forward(_: Any) -> Tensor:
        with cast():
            return workload.loss(output_tensor(learner(inputs), learner), targets)

    def apply(_: Any) -> None:
        update.step()
        update.zero_grad()  # quick, but part of every step: `step` begins with it

    # Prediction and step each run twice in a round, and the second time counts. After a call of
    # its own kind, a call finds its code and data in the caches, as in service or in training.
    parts = {
        "first predict": infer,
        "predict": infer,
        "first step": lambda _: step(learner, update, inputs, targets, workload.loss, narrow),
        "forward": forward,
        "backward": Tensor.backward,
        "optimizer": apply,
    }
    with cast():
        counted = count(
            model, inputs, lambda outputs: workload.loss(output_tensor(outputs, learner), targets)
        )
    timed = measure_parts(parts, budget_s=budget_s, device=device_of(model))
    return StepCost(name, batch_size, counted, timed, _counted(served, inputs))


def peak_share(peaks: Peaks | None, flops: float, seconds: float, precision: str) -> float | None:
    """The share of this machine's best matmul rate in a precision; None if no rate is known."""
    dtype = DTYPES.get(precision, "")
    known = peaks is not None and dtype in peaks.matmul_flops_per_s
    return peaks.share(flops, seconds, dtype) if peaks and known else None


def _counted(served: nn.Module | None, inputs: Tensor) -> Count | None:
    """The count of another form of the model; None if its layers are not visible."""
    if served is None or not techniques.is_pytorch(served):
        return None
    return count(getattr(served, "_orig_mod", served), inputs)
