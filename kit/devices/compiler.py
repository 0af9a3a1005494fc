"""PyTorch's compiler: how it is called here, what it needs, and where it keeps its programs."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import warnings
from inspect import signature
from typing import Any

import torch

from kit.core.files import cache_folder, private_folder
from kit.devices.backends import backend_of

FOLDER = "TORCHINDUCTOR_CACHE_DIR"  # PyTorch's own setting


def compiling() -> dict[str, Any]:
    """How `torch.compile` is called here; its programs are kept in the kit's cache from now on.

    Each compiled thing keeps its programs to itself. Else a second one in the same process would
    make the first one's programs slower, or after eight not be compiled.
    """
    keep_programs()
    isolated = "isolate_recompiles" in signature(torch.compile).parameters  # PyTorch 2.13
    return {"isolate_recompiles": True} if isolated else {}


def keep_programs() -> None:
    """Have the compiler keep its programs where no other user can put one.

    It runs what it finds there. Its default is a folder with a name that others can guess, in a
    folder where they can write. A place that the user has set is left as it is.
    """
    if not os.environ.get(FOLDER):
        os.environ[FOLDER] = _own_folder()


def _own_folder() -> str:
    user = f"-{os.getuid()}" if hasattr(os, "getuid") else ""  # a class may share the cache
    try:
        return str(private_folder(cache_folder() / f"compiled{user}"))
    except PermissionError as error:
        warnings.warn(f"compiled programs are kept for this process only: {error}", stacklevel=4)
    except OSError:  # a home that is full or read-only: nothing is kept there
        pass
    folder = tempfile.mkdtemp(prefix="kit-compiled-")  # mode 0700, and a name nobody can guess
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def lacks_compiler(device: torch.device) -> str:
    """Why it cannot compile for that device; nothing if it can."""
    return backend_of(device).lacks_compiler()
