"""Using the weights: predict and evaluate. Nothing here can change a weight.

This room does not know that training exists: a deployed model needs nothing else of the kit.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kit.data import Task
from kit.errors import BadValue, DeviceMismatch
from kit.estimates import Estimate, proportion
from kit.figures import Table
from kit.results import Result
from kit.units import words


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode; each part's own mode is put back at the end."""
    parts = [model]
    for part in parts:  # grows while it is walked; `model.modules()` takes several times as long
        parts.extend(part.children())
    learning = [part for part in parts if part.training]
    for part in learning:
        part.training = False
    try:
        yield model
    finally:
        for part in learning:
            part.training = True


def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """The model's outputs for the inputs, e.g. (B, 1, 8, 8) -> logits (B, C).

    In evaluation mode (dropout off, running statistics used) and in inference mode: nothing is
    kept for a backward pass, so no weight can be changed by it. The mode it found is put back.

    Raises
    ------
    DeviceMismatch
        Model and inputs live on different devices: both, and the line that moves one.

    Explained in lesson 01.
    """
    with evaluating(model), torch.inference_mode():
        try:
            return model(inputs)
        except RuntimeError:
            check_same_device(model, inputs)  # asked only now: it would double a tiny call's time
            raise


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are; the CPU for a model without weights."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def check_same_device(model: nn.Module, inputs: Tensor) -> None:
    """Refuse inputs on another device than the model's."""
    home = device_of(model)
    if inputs.device.type != home.type:
        raise DeviceMismatch(
            f"the model is on {str(home)!r}, the inputs are on {str(inputs.device)!r}: "
            f"both must be on one device. Use inputs.to({str(home)!r})."
        )


@dataclass(frozen=True)
class Score(Result):
    """How many of n examples were answered right, with the interval that a finite n leaves."""

    right: int
    n: int
    split: str
    loss: float

    @property
    def accuracy(self) -> Estimate:
        """Share answered right, with Wilson's 95 % interval."""
        return proportion(self.right, self.n)

    def __repr__(self) -> str:
        return f"{self.accuracy} right on {self.n:,} {self.split} examples, loss {self.loss:.4f}"

    def table(self) -> Table:
        """What people see."""
        a = self.accuracy
        row = (words(a.value, "%"), a.interval)
        caption = f"{self.right:,} of {self.n:,} {self.split} examples; Wilson's 95 % interval."
        header = ("right", "interval", "loss (nats)")
        return Table(header, [(*row, f"{self.loss:.4f}")], caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw counts."""
        return {
            "right": self.right,
            "n": self.n,
            "split": self.split,
            "loss_nats": self.loss,
            "accuracy_share": self.accuracy.to_dict(),
        }


def evaluate(
    model: nn.Module, workload: Task, split: str = "test", *, batch_size: int = 256
) -> Score:
    """The model's score on a split, each example looked at once.

    Raises
    ------
    UnknownName
        There is no such split.
    BadValue
        The split is empty.

    Explained in lesson 01.
    """
    n = workload.size(split)
    if n == 0:
        raise BadValue(f"the split {split!r} of {workload.name!r} has no examples to score.")
    right, loss = 0, 0.0
    for inputs, targets in workload.batches(split, min(batch_size, n), device_of(model)):
        outputs = predict(model, inputs)
        right += int(workload.score(outputs, targets).sum())
        loss += float(workload.loss(outputs, targets)) * len(inputs)
    return Score(right, n, split, loss / n)
