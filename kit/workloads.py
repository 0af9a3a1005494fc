"""Data + model + loss + score + target, by one name: a thing one can train and use.

To add a workload: a function here that returns a `Workload`, and its name in `SHELF`; the tests
of this room then train it to its target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kit.data import Dataset, Split, digits
from kit.data.dataset import example_like
from kit.errors import ShapeMismatch, UnknownName
from kit.models import CNN, MLP


@dataclass(frozen=True)
class Workload:
    """One kind of work, ready to train and to use."""

    name: str
    stands_for: str
    differs: str  # from the production thing that it stands for
    data: Dataset
    models: Mapping[str, Callable[[], nn.Module]]  # the first is the default
    loss: Callable[[Tensor, Tensor], Tensor] = field(repr=False)
    score: Callable[[Tensor, Tensor], Tensor] = field(repr=False)
    target: float  # the score that a default training reaches

    def model(self, name: str | None = None) -> nn.Module:
        """A fresh, untrained model: the default one, or the one named."""
        if name is not None and name not in self.models:
            raise UnknownName("model", name, self.models)
        return self.models[name or next(iter(self.models))]()

    def batches(
        self,
        split: str,
        batch_size: int,
        device: torch.device | str = "cpu",
        order: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of (inputs, targets) of a split; see `kit.data.Split.batches`."""
        return self.data[split].batches(batch_size, device, order)

    def with_targets(self, split: str, targets: Tensor) -> Workload:
        """The same work with other targets in one split: to see what wrong ones do."""
        inputs, true = self.data[split]
        if targets.shape != true.shape:
            raise ShapeMismatch(
                f"given targets {tuple(targets.shape)}; the split {split!r} needs "
                f"{tuple(true.shape)}, one per example."
            )
        splits = {**self.data.splits, split: Split(inputs, targets)}
        return replace(self, data=replace(self.data, splits=splits))

    def size(self, split: str) -> int:
        """How many examples the split has."""
        return len(self.data[split].inputs)

    def example(
        self, batch_size: int = 1, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """A batch of any size to time or count with: training examples, repeated if need be."""
        inputs, targets = self.data["train"]
        return (
            example_like(inputs, batch_size).to(device),
            example_like(targets, batch_size).to(device),
        )


def is_right(logits: Tensor, targets: Tensor) -> Tensor:
    """(B,) whether the class with the largest logit (B, C) is the target (B,)."""
    return logits.argmax(-1) == targets


def vision() -> Workload:
    """Read handwritten digits: stands for image recognition, as in a phone's camera.

    >>> vision().model("mlp")
    MLP(hidden=128, layers=2): 26,122 parameters
    """
    return Workload(
        name="vision",
        stands_for="image and object recognition, a phone's camera",
        differs="8×8 grey images of ten classes, already cut out and centred; a camera sees "
        "megapixels, colours, thousands of classes, and has to find the object first",
        data=digits(),
        models={"cnn": CNN, "mlp": MLP},
        loss=cross_entropy,
        score=is_right,
        target=0.97,
    )


SHELF: dict[str, Callable[[], Workload]] = {"vision": vision}


def get(name: str) -> Workload:
    """The workload of that name, as a notebook's parameter gives it."""
    if name not in SHELF:
        raise UnknownName("workload", name, SHELF)
    return SHELF[name]()
