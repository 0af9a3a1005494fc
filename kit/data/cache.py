"""Data that take long to make: made once, then read from the user's cache."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from kit.core import tensor_files
from kit.core.errors import CheckpointRefused
from kit.core.files import atomic_write, cache_folder, read_file


def cached(name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors cached under this name. If there are none, or the file is damaged, make them.

    If the cache cannot be written, they are made again the next time.
    """
    tensors = _read(_path(name))
    if tensors is None:
        tensors = make()
        with suppress(OSError), atomic_write(_path(name)) as draft:
            draft.write_bytes(tensor_files.pack(tensors))
    return tensors


def is_cached(name: str) -> bool:
    """Whether there is a file of that name; whether it is intact shows only when it is read."""
    return _path(name).is_file()


def _path(name: str) -> Path:
    return cache_folder() / "data" / f"{name}.safetensors"


def _read(path: Path) -> dict[str, Tensor] | None:
    with suppress(OSError, CheckpointRefused):  # missing, cut short, or damaged
        return tensor_files.unpack(path, read_file(path))
    return None
