"""Data that take long to make, kept in the user's cache after the first time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from kit.core import tensor_files
from kit.core.errors import CheckpointRefused
from kit.core.files import atomic_write, cache_folder, read_file


def kept(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors kept under this name; made if there are none, or if their file is damaged.

    Where nothing can be written, nothing is kept, and they are made again the next time.
    """
    tensors = _read(_path(name))
    if tensors is None:
        tensors = make()
        with suppress(OSError), atomic_write(_path(name)) as draft:
            draft.write_bytes(tensor_files.pack(tensors))
    return tensors


def is_kept(name: str) -> bool:
    """Whether there is a file of that name; only reading tells whether it is whole."""
    return _path(name).is_file()


def _path(name: str) -> Path:
    return cache_folder() / "data" / f"{name}.safetensors"


def _read(path: Path) -> dict[str, Tensor] | None:
    with suppress(OSError, CheckpointRefused):  # not there, cut short, or not what was written
        return tensor_files.unpack(path, read_file(path))
    return None
