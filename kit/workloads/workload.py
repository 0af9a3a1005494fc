"""A workload: data + models + loss + score + target, under one name.

Shapes: N examples, B batch.
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
from kit.data.dataset import example_batch
from kit.models import Autoencoder
from kit.workloads.scores import variance_explained

Predict = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Workload:
    """One kind of work, ready to train and to use. The data are read when first needed."""

    name: str
    stands_for: str
    differs: str  # from the production thing that it stands for
    load: Callable[[], Dataset] = field(repr=False)
    models: Mapping[str, Callable[[Dataset], nn.Module]]  # made for the data; the first: default
    loss: Callable[[Tensor, Tensor], Tensor] = field(repr=False)
    score: Callable[[Tensor, Tensor], Tensor] = field(repr=False)
    measure: str  # what the score is a share of: "right", "of the fraud found" …
    target: float  # the score on `test` that a training by `recipe` reaches
    recipe: Mapping[str, Any] = field(default_factory=dict)  # arguments of `kit.train`
    trial: Callable[[Predict, str], Tensor] | None = field(default=None, repr=False)
    needs: tuple[str, ...] = ()  # modules of an optional extra, without which `load` cannot work
    extra: str = ""  # the extra that brings them

    @cached_property
    def data(self) -> Dataset:
        """Its examples, in splits; read or made at the first use.

        Raises
        ------
        NotInstalled
            They need an optional extra that is not here: which, and how to get it.
        """
        self.check_installed()
        return self.load()

    def check_installed(self) -> None:
        """Refuse, before any work, what cannot be made here."""
        missing = [name for name in self.needs if find_spec(name) is None]
        if missing:
            raise NotInstalled(f"the workload {self.name!r}", missing, self.extra)

    def model(self, name: str | None = None) -> nn.Module:
        """A fresh, untrained model: the default one, or the one named."""
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
        """The same work with other targets in one split: to see what wrong ones do."""
        inputs, true = self.data[split]
        if targets.shape != true.shape:
            raise ShapeMismatch(
                f"given targets {tuple(targets.shape)}; the split {split!r} needs "
                f"{tuple(true.shape)}, one per example."
            )
        return self.with_split(split, Split(inputs, targets))

    def with_split(self, split: str, examples: Split) -> Workload:
        """The same work with other examples in one split: fewer, spoilt, or otherwise written."""
        for what, part in zip(("inputs", "targets"), examples, strict=True):
            if not isinstance(part, Tensor):
                kind = type(part).__name__
                raise BadValue(f"given {what} as {kind}; needs a tensor: torch.as_tensor(…).")
        data = replace(self.data, splits={**self.data.splits, split: examples})
        return replace(self, load=lambda: data)

    def unlabelled(self) -> Workload:
        """The same images without their labels: each is its own target, to be drawn again.

        Explained in lesson 06.
        """
        given = self.data.splits.items()
        splits = {name: Split(part.inputs, part.inputs) for name, part in given}
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
        """How many examples the split has."""
        return len(self.data[split].inputs)

    def example(
        self, batch_size: int = 1, device: torch.device | str = "cpu"
    ) -> tuple[Tensor, Tensor]:
        """A batch of any size to time or count with: training examples, repeated if need be."""
        inputs, targets = self.data["train"]
        return (
            example_batch(inputs, batch_size).to(device),
            example_batch(targets, batch_size).to(device),
        )
