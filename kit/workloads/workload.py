"""A workload: data + models + loss + score + target, under one name.

A score has one value per example: 1 for right, 0 for wrong, or a share in between. What the kit
reports is their mean.

Shapes: N examples, B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from kit.core.errors import BadValue, NotInstalled, ShapeMismatch, UnknownName
from kit.data import Dataset, Split
from kit.data.dataset import cut, example_batch
from kit.models import Autoencoder

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Workload:
    """One task, ready to train and to use. The data are read at the first use."""

    name: str
    stands_for: str
    differs: str  # how it differs from the real task that it stands for
    load: Callable[[], Dataset] = field(repr=False)
    models: Mapping[str, Callable[[Dataset], nn.Module]]  # name -> maker; the first is the default
    loss: Callable[[Tensor, Tensor], Tensor] = field(repr=False)
    score: Callable[[Tensor, Tensor], Tensor] = field(repr=False)
    measure: str  # the end of "97 % …": "right", "of the fraud found at 1 % false alarms"
    target: float  # the score on `test` that training by `recipe` reaches
    recipe: Mapping[str, Any] = field(default_factory=dict)  # arguments of `kit.train`
    trial: Callable[[Predict, str], Tensor] | None = field(default=None, repr=False)
    needs: tuple[str, ...] = ()  # modules of an optional extra that `load` needs
    extra: str = ""  # the extra that installs them

    @cached_property
    def data(self) -> Dataset:
        """Its examples in splits, read or generated at the first use.

        Raises
        ------
        NotInstalled
            They need an optional extra. The message says which, and how to install it.
        """
        self.check_installed()
        return self.load()

    def check_installed(self) -> None:
        """Refuse, before any work, a workload whose optional extra is not installed."""
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            raise NotInstalled(f"the workload {self.name!r}", missing, self.extra)

    def model(self, name: str | None = None) -> nn.Module:
        """A fresh, untrained model: the one of that name, or the default."""
        if name is not None and name not in self.models:
            raise UnknownName("model", name, self.models)
        return self.models[name or next(iter(self.models))](self.data)

    def batches(
        self,
        split: str,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of (inputs, targets) of a split; see `kit.data.Split.batches`."""
        return self.data[split].batches(batch_size, device, seed)

    def with_targets(self, split: str, targets: Tensor) -> Workload:
        """The same workload with other targets in one split, such as wrong ones."""
        inputs, true = self.data[split]
        if targets.shape != true.shape:
            raise ShapeMismatch(
                f"given targets {tuple(targets.shape)}; the split {split!r} needs "
                f"{tuple(true.shape)}, one per example."
            )
        return self.with_split(split, Split(inputs, targets))

    def with_split(self, split: str, examples: Split) -> Workload:
        """The same workload with other examples in one split: fewer, or changed ones."""
        for what, part in zip(("inputs", "targets"), examples, strict=True):
            if not isinstance(part, Tensor):
                kind = type(part).__name__
                raise BadValue(f"given {what} as {kind}; needs a tensor: torch.as_tensor(…).")
        return self._with_splits({**self.data.splits, split: examples})

    def with_inputs(self, change: Callable[[Tensor], Tensor]) -> Workload:
        """The same workload with the inputs of all splits changed by a function."""
        splits = {
            n: Split(change(part.inputs), part.targets) for n, part in self.data.splits.items()
        }
        return self._with_splits(splits)

    def with_sizes(self, **sizes: int) -> Workload:
        """The same examples in their stored order, cut again into splits of these sizes.

        Raises
        ------
        BadValue
            The sizes do not add up to the number of examples.
        """
        inputs, targets = map(torch.cat, zip(*self.data.splits.values(), strict=True))
        if sum(sizes.values()) != len(inputs):
            raise BadValue(f"given {sizes}; needs sizes that add up to {len(inputs):,} examples.")
        return self._with_splits(cut(inputs, targets, sizes))

    def _with_splits(self, splits: Mapping[str, Split]) -> Workload:
        data = replace(self.data, splits=splits)
        return replace(self, load=lambda: data)

    def unlabelled(self) -> Workload:
        """The same images without their labels: each is its own target, to be reconstructed.

        Explained in lesson 06.
        """
        splits = {n: Split(part.inputs, part.inputs) for n, part in self.data.splits.items()}
        data = replace(self.data, splits=splits, classes=())
        return replace(
            self,
            name=f"{self.name} without labels",
            load=lambda: data,
            models={"autoencoder": lambda _: Autoencoder()},
            loss=mse_loss,
            score=variance_explained,
            measure="of the variance explained",
            target=0.7,
        )

    def size(self, split: str) -> int:
        """The number of examples in the split."""
        return len(self.data[split].inputs)

    def example(
        self, batch_size: int = 1, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """A batch of any size, for timing and counting: training examples, repeated if needed."""
        inputs, targets = self.data["train"]
        return (
            example_batch(inputs, batch_size).to(device),
            example_batch(targets, batch_size).to(device),
        )


# --- Scores that several workloads share ---------------------------------------------------------


def is_right(logits: Tensor, targets: Tensor) -> Tensor:
    """(N,) whether the class with the largest logit (N, C) is the target (N,)."""
    return logits.argmax(-1) == targets


def variance_explained(outputs: Tensor, targets: Tensor) -> Tensor:
    """(N,) the share of each example's variance that its reconstruction explains, 0 to 1.

    1 − squared error ÷ squared distance from the mean example. The mean example itself gets 0, a
    perfect copy 1. Anything worse than the mean counts as 0.
    """
    mean = targets.mean(0, keepdim=True)
    error = (outputs - targets).square().flatten(1).sum(1)
    from_mean = (targets - mean).square().flatten(1).sum(1)
    return torch.clamp(1 - error / from_mean, min=0.0)
