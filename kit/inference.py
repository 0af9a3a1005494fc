"""Using the weights: predict and evaluate. Nothing here can change a weight.

This room does not know that training exists: a deployed model needs nothing else of the kit.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kit.data import Task
from kit.errors import BadValue, DeviceMismatch
from kit.estimates import Estimate, average, proportion
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
    """What n examples were worth on average, with the interval that a finite n leaves."""

    total: float  # what the examples were worth together: right answers, where each is 0 or 1
    squares: float  # the sum of their squares: the interval needs it
    n: int
    split: str
    loss: float
    measure: str = "right"

    @property
    def mean(self) -> Estimate:
        """The share; Wilson's 95 % interval for right and wrong, Student's for shares."""
        if self.squares == self.total and float(self.total).is_integer():  # x² = x: all 0 or 1
            return proportion(int(self.total), self.n)
        mean = average(self.total, self.squares, self.n, "%")  # which knows of no limits
        return replace(mean, low=max(0.0, mean.low), high=min(1.0, mean.high))

    @property
    def accuracy(self) -> Estimate:
        """Share of the examples answered right.

        Raises
        ------
        BadValue
            The score counts something else; its `.mean` is the share of that.
        """
        if self.measure != "right":
            raise BadValue(f"this score is a share {self.measure}, not an accuracy: use .mean.")
        return self.mean

    def __repr__(self) -> str:
        told = f"{self.mean} {self.measure} on {self.n:,} {self.split} examples"
        return f"{told}, loss {self.loss:.4f}"

    def table(self) -> Table:
        """What people see."""
        share = self.mean
        row = (words(share.value, "%"), share.interval, f"{self.loss:.4f}")
        rule = "Wilson's" if self.squares == self.total else "Student's"
        caption = f"Mean of {self.n:,} {self.split} examples; {rule} 95 % interval."
        return Table((self.measure, "interval", "loss"), [row], caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw sums."""
        return {
            "total": self.total,
            "squares": self.squares,
            "n": self.n,
            "split": self.split,
            "loss": self.loss,
            "measure": self.measure,
            "mean_share": self.mean.to_dict(),
        }


def evaluate(
    model: nn.Module, workload: Task, split: str = "test", *, batch_size: int = 256
) -> Score:
    """The model's score on a split: each example is looked at once, then all answers are judged.

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
    batches = list(workload.batches(split, min(batch_size, n), device_of(model)))
    outputs = torch.cat([predict(model, inputs) for inputs, _ in batches])
    targets = torch.cat([targets for _, targets in batches])
    loss = float(workload.loss(outputs, targets))
    if workload.trial is None:
        worth = workload.score(outputs, targets)
    else:
        home = device_of(model)
        worth = workload.trial(lambda inputs: predict(model, inputs.to(home)), split)
    worth = worth.cpu().double()
    total, squares = float(worth.sum()), float(worth.square().sum())
    return Score(total, squares, len(worth), split, loss, workload.measure)
