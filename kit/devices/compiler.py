"""PyTorch's compiler: how the kit calls it, what it needs, and where it stores its programs."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch

from kit.core.files import cache_folder, private_folder
from kit.devices.backends import backend_of

FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # PyTorch's own setting


def compiling() -> dict[str, Any]:
    """The options with which the kit calls `torch.compile`; programs go to the kit's cache.

    Each compiled model has its own programs. Otherwise a second model in the same process would
    make the first one's programs slower, and from the ninth on PyTorch would not compile at all.
    """
    keep_programs()
    isolated = "isolate_recompiles" in signature(torch.compile).parameters  # PyTorch 2.13
    return {"isolate_recompiles": True} if isolated else {}


def keep_programs() -> None:
    """Make the compiler store its programs in a folder where only this user can write.

    The compiler runs the programs that it finds there. Its default folder has a name that others
    can guess, in a folder where they can write. A folder that the user has set stays set.
    """
    if not os.environ.get(FOLDER):
        os.environ[FOLDER] = _own_folder()


@contextmanager
def no_earlier_programs() -> Iterator[None]:
    """Inside, the compiler finds no programs of earlier runs: the wait is that of a first run."""
    before = os.environ.get(FOLDER)
    with tempfile.TemporaryDirectory(prefix="kit-compiled-", ignore_cleanup_errors=True) as empty:
        os.environ[FOLDER] = empty
        try:
            yield
        finally:
            if before is None:
                del os.environ[FOLDER]
            else:
                os.environ[FOLDER] = before


def _own_folder() -> str:
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""  # users may share the cache
    try:
        return str(private_folder(cache_folder() / f"compiled{user}"))
    except PermissionError as error:
        warnings.warn(f"compiled programs are stored for this process only: {error}", stacklevel=4)
    except OSError:  # the home folder is full or read-only
        pass
    folder = tempfile.mkdtemp(prefix="kit-compiled-")  # mode 0700, and a name nobody can guess
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def lacks_compiler(device: torch.device) -> str:
    """Why PyTorch cannot compile for the device; an empty text if it can."""
    return backend_of(device).lacks_compiler()
