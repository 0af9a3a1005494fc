"""What the outputs for a whole split are worth, with the interval that a finite split leaves.

Shapes: B batch, N examples that count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.statistics import Estimate, average, proportion
from kit.core.units import words
from kit.data import Task
from kit.data.arguments import check_pair
from kit.data.output_checks import check_scores, checked_loss, checked_scores
from kit.inference.prediction import device_of, predict
from kit.models.custom import output_tensor
from kit.plots import Table


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
        return average(self.total, self.squares, self.n, "%", limits=(0, 1))

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
        The split is empty; or loss or score gave something else than one number and one value
        from 0 to 1 per example.

    Explained in lesson 01.
    """
    return judge(model, workload, split, batch_size=batch_size)[0]


def judge(
    model: nn.Module, workload: Task, split: str = "test", *, batch_size: int = 256
) -> tuple[Score, Tensor]:
    """The score, and (N,) what each example was worth: to compare two models example by example."""
    check_pair("kit.evaluate", model, workload)
    n = workload.size(split)
    if n == 0:
        raise BadValue(f"the split {split!r} of {workload.name!r} has no examples to score.")
    batches = list(workload.batches(split, min(batch_size, n), device_of(model)))
    outputs = torch.cat([output_tensor(predict(model, inputs), model) for inputs, _ in batches])
    targets = torch.cat([targets for _, targets in batches])
    loss = float(checked_loss(workload.loss, outputs, targets))
    if workload.trial is None:
        worth = checked_scores(workload.score, outputs, targets)
    else:
        home = device_of(model)
        tried = workload.trial(lambda inputs: predict(model, inputs.to(home)), split)
        worth = check_scores(tried)
    total, squares = float(worth.sum()), float(worth.square().sum())
    return Score(total, squares, len(worth), split, loss, workload.measure), worth
