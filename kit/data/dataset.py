"""A dataset: examples with their targets, in splits that never share an example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from kit.core.checks import check_whole
from kit.core.errors import UnknownName
from kit.data.batching import as_tokens, feed


class Split(NamedTuple):
    """Examples and what is to be said of each: (N, …) and (N, …), on the CPU."""

    inputs: Tensor
    targets: Tensor

    def batches(
        self, batch_size: int, device: torch.device | str = "cpu", seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The split in batches, each (B, …) and (B, …), on the device.

        There is no loader: some batches at a time are gathered into a chunk of a few megabytes,
        and a batch is a view of it, which costs about a microsecond. On CUDA nothing waits: small
        data stay on the GPU, of others the next chunk is copied while one is computed on. Bytes
        (uint8) are tokens of a text: their batches are int64.

        Parameters
        ----------
        batch_size
            Examples per batch.
        seed
            None: as stored, the last batch may be smaller (to look at each example once).
            A seed: shuffled by it, the rest that does not fill a batch left out (for training:
            all steps do equal work, and the same seed always gives the same batches).

        Raises
        ------
        BadValue
            The batch is larger than the split, or not a whole number.
        """
        n = len(self.inputs)
        batch_size = check_whole("batch_size", batch_size, high=n)
        return feed(self, batch_size, torch.device(device), seed)


def cut(inputs: Tensor, targets: Tensor, sizes: Mapping[str, int]) -> dict[str, Split]:
    """The examples in their order, cut into splits of these sizes."""
    each = list(sizes.values())
    parts = zip(inputs.split(each), targets.split(each), strict=True)
    return {name: Split(*part) for name, part in zip(sizes, parts, strict=True)}


@dataclass(frozen=True)
class Dataset:
    """Splits by name, and where the data come from."""

    name: str
    splits: Mapping[str, Split]
    classes: tuple[str, ...]
    origin: str
    licence: str

    def __getitem__(self, split: str) -> Split:
        """The split of that name.

        >>> from kit.data import load_digits
        >>> load_digits()["test"].inputs.shape
        torch.Size([300, 1, 8, 8])
        """
        if split not in self.splits:
            raise UnknownName("split", split, self.splits)
        return self.splits[split]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(part.inputs):,}" for name, part in self.splits.items())
        classes = f"{len(self.classes):,} classes; " if self.classes else ""
        return f"Dataset {self.name}: {sizes}; {classes}{self.origin}"


class Task(Protocol):
    """What inference and training ask of a workload, and no more."""

    @property
    def name(self) -> str:
        """Its word."""

    def batches(
        self,
        split: str,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of inputs and targets."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """A scalar that training makes smaller: mean per target, nats."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """From all of a split: what each example (that counts) is worth, 0 to 1."""

    @property
    def measure(self) -> str:
        """What the score is a share of, in words."""

    @property
    def trial(self) -> Callable[[Callable[[Tensor], Tensor], str], Tensor] | None:
        """Instead of the score: from a way to predict to what each attempt is worth."""

    def size(self, split: str) -> int:
        """How many examples the split has."""


def example_batch(inputs: Tensor, batch_size: int) -> Tensor:
    """The first examples, repeated until there are `batch_size`: (B, …), as batches have them."""
    batch_size = check_whole("batch_size", batch_size)
    repeats = -(-batch_size // len(inputs))
    few = torch.cat([inputs] * repeats)[:batch_size] if repeats > 1 else inputs[:batch_size]
    return as_tokens(few)


__all__: list[Any] = ["Dataset", "Split", "Task", "example_batch"]
