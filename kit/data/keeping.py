"""Data that take long to make, kept in the user's cache after the first time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from kit.places import cache_folder, contents, whole


def kept(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors kept under this name; made if there are none, or if their file is damaged.

    Where nothing can be written, nothing is kept, and they are made again the next time.
    """
    tensors = _read(_path(name))
    if tensors is None:
        tensors = make()
        with suppress(OSError):
            _keep(_path(name), tensors)
    return tensors


def is_kept(name: str) -> bool:
    """Whether there is a file of that name; only reading tells whether it is whole."""
    return _path(name).is_file()


def _path(name: str) -> Path:
    return cache_folder() / "data" / f"{name}.safetensors"


def _read(path: Path) -> dict[str, Tensor] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load

    # Not there, cut short, or not what was written:
    with suppress(OSError, ValueError, LookupError, TypeError, SafetensorError):
        data = contents(path)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        tensors = load(data)
        if header["__metadata__"]["digest"] == _digest(tensors):
            return tensors
    return None


def _keep(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write them down with their digest."""
    from safetensors.torch import save

    with whole(path) as draft:
        draft.write_bytes(save(tensors, {"digest": _digest(tensors)}))


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of each tensor's name, dtype, shape and bytes."""
    total = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
