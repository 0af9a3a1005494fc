"""A dataset: examples with their targets, in splits that have no example in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kit.core.checks import check_whole
from kit.core.errors import UnknownName
from kit.core.tables import Note
from kit.data.batching import as_tokens, feed


class Split(NamedTuple):
    """Inputs (N, …) and targets (N, …) of N examples, on the CPU."""

    inputs: Tensor
    targets: Tensor

    def batches(
        self, batch_size: int, device: torch.device | str = "cpu", seed: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The split in batches, each (B, …) and (B, …), on the device.

        Instead of a data loader, several batches are gathered into a chunk of a few megabytes. A
        batch is a view of it, which costs about a microsecond. On CUDA nothing waits: small
        data stay on the GPU, and for larger data the next chunk is copied during the computation.
        Bytes (uint8) are tokens of a text: their batches are int64.

        Parameters
        ----------
        batch_size
            Examples per batch.
        seed
            None: in the stored order, and the last batch may be smaller. This gives each example
            once. With a seed: shuffled by it, without the rest that does not fill a batch. Then
            all training steps do equal work, and a seed always gives the same batches.

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

    def _repr_html_(self) -> str:
        return Note(repr(self))._repr_html_()  # JupyterLab breaks plain text inside its words


class Task(Protocol):
    """What inference and training need of a workload."""

    @property
    def name(self) -> str:
        """Its name, as in results and checkpoints."""

    def batches(
        self,
        split: str,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of inputs and targets."""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """A scalar that training minimises: the mean per target, in nats."""

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """From a complete split, one value per example: 1 right, 0 wrong, or a share in between."""

    @property
    def measure(self) -> str:
        """What the score is a share of, as the end of a sentence."""

    @property
    def trial(self) -> Callable[[Callable[[Tensor], Tensor], str], Tensor] | None:
        """A test by use that replaces the score: from a predict function to a value per attempt."""

    def size(self, split: str) -> int:
        """The number of examples in the split."""


def example_batch(inputs: Tensor, batch_size: int) -> Tensor:
    """A batch (B, …) of the first examples, repeated if there are fewer than `batch_size`."""
    batch_size = check_whole("batch_size", batch_size)
    repeats = -(-batch_size // len(inputs))
    few = torch.cat([inputs] * repeats)[:batch_size] if repeats > 1 else inputs[:batch_size]
    return as_tokens(few)
