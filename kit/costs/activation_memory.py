"""The memory of a model at work: what operations make, and what autograd keeps of it."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kit.models.custom import tensors_in


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of all their entries together."""
    return sum(t.numel() * t.element_size() for t in tensors)


class Watch(TorchDispatchMode):
    """Notes which operations run, and adds up the bytes of what they make, as long as it lives."""

    def __init__(self, present: Iterable[Tensor]):
        super().__init__()
        self.operations: set[Any] = set()
        self.known: dict[int, tuple[weakref.ref[torch.UntypedStorage], int]] = {}
        self.now = self.most = 0
        for tensor in present:
            self._note(tensor, made=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.operations.add(func)
        for tensor in tensors_in([args, kwargs]):
            self._note(tensor, made=False)  # from outside, such as targets: a view makes nothing
        results = func(*args, **kwargs)
        for tensor in tensors_in(results):
            self._note(tensor, made=True)
        self.most = max(self.most, self.now)
        return results

    def made(self, storage: torch.UntypedStorage) -> bool:
        """Whether an operation made it while we watched."""
        return self.known.get(storage._cdata, (None, 0))[1] > 0

    def _note(self, tensor: Tensor, *, made: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.known:
            size = storage.nbytes() if made else 0
            self.known[key] = weakref.ref(storage, lambda _: self._gone(key)), size
            self.now += size

    def _gone(self, key: int) -> None:
        self.now -= self.known.pop(key)[1]


class Kept:
    """Adds up what autograd keeps for backward, each once; weights and buffers not."""

    def __init__(self, weights: Iterable[Tensor], watch: Watch):
        self.weights = {t.untyped_storage()._cdata for t in weights}
        self.watch = watch
        self.made: dict[int, int] = {}  # bytes by storage: what is kept stays until backward
        self.given: dict[tuple[int, int], int] = {}  # by storage and offset: batch, targets

    def hooks(self) -> Any:
        """Within, whatever autograd keeps is noted."""
        return torch.autograd.graph.saved_tensors_hooks(self._keep, lambda t: t)

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if self.watch.made(storage):
            self.made[key] = storage.nbytes()
        elif key not in self.weights:
            # A batch may be a slice of a whole dataset: then the slice counts, not the storage.
            place = key, int(tensor.storage_offset())
            size = min(bytes_of([tensor]), storage.nbytes())
            self.given[place] = max(size, self.given.get(place, 0))
        return tensor

    @property
    def made_bytes(self) -> int:
        """Of what was made while we watched."""
        return sum(self.made.values())

    @property
    def given_bytes(self) -> int:
        """Of what was there before: batch and targets."""
        return sum(self.given.values())
