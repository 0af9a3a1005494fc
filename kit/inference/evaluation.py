"""The score of a model on a split, with the interval that a finite number of examples leaves.

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
from kit.models.custom import check_inputs_unchanged, output_tensor, versions_of
from kit.plots import Table


@dataclass(frozen=True)
class Score(Result):
    """The mean score of n examples, with the interval that a finite n leaves.

    The sums are saved, and the rest is computed from them: two scores can then be pooled.
    """

    total: float  # the sum of the examples' scores; where each is 0 or 1, the right answers
    squares: float  # the sum of their squares, from which the interval follows
    n: int  # examples; the interval shrinks about with 1/√n
    split: str
    loss: float  # over all examples at once, as the workload defines it
    measure: str = "right"

    @property
    def mean(self) -> Estimate:
        """The share; Wilson's 95 % interval for right and wrong, Student's for shares.

        Near 0 or 100 % the usual ± interval is too short, or leaves the range; Wilson's does not.
        """
        # Values lie between 0 and 1, so both sums are equal only if each value is 0 or 1.
        if self.squares == self.total and float(self.total).is_integer():  # x² = x: all 0 or 1
            return proportion(int(self.total), self.n)
        return average(self.total, self.squares, self.n, "%", limits=(0, 1))

    @property
    def accuracy(self) -> Estimate:
        """The share of the examples that were answered right.

        Raises
        ------
        BadValue
            The score measures something else: its `.mean` is the share of that.
        """
        if self.measure != "right":
            raise BadValue(f"this score is a share {self.measure}, not an accuracy. Use .mean.")
        return self.mean

    def __repr__(self) -> str:
        share = f"{self.mean} {self.measure}"
        return f"{share} on {self.n:,} {self.split} examples, loss {self.loss:.4f}"

    def table(self) -> Table:
        """Share, interval and loss in one row."""
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
    """The model's score on a split, each example counted once.

    Parameters
    ----------
    model, workload
        What is scored, and the task that it is scored on.
    split
        "test", "validation" or "train".
    batch_size
        Examples per prediction: it changes memory and time, not the score.

    Raises
    ------
    UnknownName
        The split is unknown.
    BadValue
        The split is empty; or loss or score returned something else than one number, and one
        value from 0 to 1 per example.

    Examples
    --------
    >>> import kit
    >>> work = kit.workloads.vision()
    >>> score = kit.evaluate(work.model("mlp"), work)
    >>> score.n, score.split, score.measure
    (300, 'test', 'right')

    Explained in lesson 01.
    """
    return judge(model, workload, split, batch_size=batch_size)[0]


def judge(
    model: nn.Module, workload: Task, split: str = "test", *, batch_size: int = 256
) -> tuple[Score, Tensor]:
    """The score, and the score of each example (N,), to compare two models example by example."""
    check_pair("kit.evaluate", model, workload)
    n = workload.size(split)
    if n == 0:
        raise BadValue(f"the split {split!r} of {workload.name!r} has no examples to score.")
    # Without a seed: in the stored order, each example once. So example i of two models is the same
    # example, and a paired comparison is possible.
    batches = list(workload.batches(split, min(batch_size, n), device_of(model)))
    # All outputs first, then one call of loss and score: some scores, such as a ranking, need all
    # examples at once, and a mean of batches would give a smaller last batch too much weight.
    all_inputs = [inputs for inputs, _ in batches]
    versions = versions_of(all_inputs)
    outputs = torch.cat([output_tensor(predict(model, inputs), model) for inputs in all_inputs])
    check_inputs_unchanged(model, all_inputs, versions)
    targets = torch.cat([targets for _, targets in batches])  # (N, …)
    loss = float(checked_loss(workload.loss, outputs, targets))
    if workload.trial is None:
        scores = checked_scores(workload.score, outputs, targets)
    else:  # a score that must use the model itself, such as attempts to steer a cart
        home = device_of(model)
        scores = check_scores(workload.trial(lambda x: predict(model, x.to(home)), split))
    # In float64 (see `check_scores`): a float32 sum over many examples would lose digits.
    total, squares = float(scores.sum()), float(scores.square().sum())
    return Score(total, squares, len(scores), split, loss, workload.measure), scores
