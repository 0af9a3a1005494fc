"""The memory of a running model: tensors that operations create, and what autograd saves."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kit.models.custom import tensors_in


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """The bytes of all entries of these tensors."""
    return sum(t.numel() * t.element_size() for t in tensors)


class MemoryTracker(TorchDispatchMode):
    """Records the operations that run, and the bytes that their results occupy while alive.

    Memory is counted by storage, not by tensor: a view shares its storage and costs nothing.
    """

    def __init__(self, present: Iterable[Tensor]):
        super().__init__()
        self.operations: set[Any] = set()
        self.known: dict[int, tuple[weakref.ref[torch.UntypedStorage], int]] = {}
        self.live_bytes = self.peak_bytes = 0
        for tensor in present:
            self._record(tensor, created=False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # PyTorch calls this for each operation, below autograd: backward operations come here too.
        kwargs = kwargs or {}
        self.operations.add(func)
        for tensor in tensors_in([args, kwargs]):
            self._record(tensor, created=False)  # existed before, such as targets
        results = func(*args, **kwargs)
        for tensor in tensors_in(results):
            self._record(tensor, created=True)
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        return results

    def created(self, storage: torch.UntypedStorage) -> bool:
        """Whether an operation created this storage while the tracker was active."""
        return self.known.get(storage._cdata, (None, 0))[1] > 0

    def _record(self, tensor: Tensor, *, created: bool) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.known:
            size = storage.nbytes() if created else 0
            # A weak reference: the tracker must not keep alive what it measures.
            self.known[key] = weakref.ref(storage, lambda _: self._forget(key)), size
            self.live_bytes += size

    def _forget(self, key: int) -> None:
        self.live_bytes -= self.known.pop(key)[1]


class SavedTensors:
    """Adds up the bytes that autograd saves for the backward pass, without weights and buffers."""

    def __init__(self, weights: Iterable[Tensor], tracker: MemoryTracker):
        self.weights = {t.untyped_storage()._cdata for t in weights}
        self.tracker = tracker
        self.created: dict[int, int] = {}  # bytes by storage, so each counts once
        self.given: dict[tuple[int, int], int] = {}  # by storage and offset: batch, targets

    def hooks(self) -> Any:
        """A context in which each tensor that autograd saves is recorded."""
        return torch.autograd.graph.saved_tensors_hooks(self._save, lambda t: t)

    def _save(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if self.tracker.created(storage):
            self.created[key] = storage.nbytes()
        elif key not in self.weights:
            # A batch may be a slice of a whole dataset: then the slice counts, not the storage.
            part = key, int(tensor.storage_offset())
            size = min(bytes_of([tensor]), storage.nbytes())
            self.given[part] = max(size, self.given.get(part, 0))
        return tensor

    @property
    def created_bytes(self) -> int:
        """Bytes of saved tensors that the forward pass created."""
        return sum(self.created.values())

    @property
    def given_bytes(self) -> int:
        """Bytes of saved tensors that existed before: batch and targets."""
        return sum(self.given.values())
