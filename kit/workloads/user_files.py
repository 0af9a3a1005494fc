"""A workload from a Python file of the user's own, given as FILE.py:NAME.

Such a file is a program, and loading it runs it. Only a file that the user names is loaded. The
name of the workload contains the digest of the file, so every record says what was run.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from kit.core.errors import BadValue, KitError, UnknownName
from kit.core.files import user_path
from kit.data.arguments import described
from kit.workloads.workload import Workload

DIGITS = 12  # of the digest


def from_file(given: str) -> Workload:
    """The workload NAME of FILE.py: a `Workload`, or the result of a function without arguments.

    A relative path is relative to the folder of the command.

    Raises
    ------
    BadValue
        The file does not exist or raises an error, or NAME is not a workload.
    UnknownName
        The file has nothing of that name.
    """
    path, name = located(given)
    return _made(path, name, source_of(path, given))


def located(given: str) -> tuple[Path, str]:
    """The path and the name in "FILE.py:NAME"."""
    file, _, name = given.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise BadValue(
            f"workload={given!r}: needs a workload's name, or FILE.py:NAME for the NAME in a file "
            f"of your own, such as mine.py:shapes."
        )
    return user_path(file), name


def source_of(path: Path, given: str) -> bytes:
    """The bytes of the file."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: not a possible file name
        reason = getattr(error, "strerror", None) or error
        raise BadValue(
            f"workload={_cut(repr(given))}: {_cut(str(path.absolute()))} cannot be read "
            f"({reason}). Give the path from the current folder, or the absolute path."
        ) from error


def _cut(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}…"


def file_digest(given: str) -> str:
    """The first digits of the SHA-256 of the file in "FILE.py:NAME"."""
    return _digest(source_of(located(given)[0], given))


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()[:DIGITS]


@cache
def _made(path: Path, name: str, source: bytes) -> Workload:
    """The workload, made from the bytes of the digest; the same file runs once."""
    module = _run(path, source)
    if not hasattr(module, name):
        imported = {n for n, v in vars(module).items() if isinstance(v, ModuleType) or n[0] == "_"}
        known = [each for each in vars(module) if each not in imported]
        raise UnknownName(f"workload in {path.name}", name, known)
    found = getattr(module, name)
    if not isinstance(found, Workload) and callable(found) and not isinstance(found, type):
        found = _call(path, found)
    if not isinstance(found, Workload):
        raise BadValue(
            f"{name} in {path.name} is {described(found)}; needs a workload, or a function without "
            f"arguments that returns one: return kit.workloads.from_data(train=…, model=…)."
        )
    return replace(found, name=f"{path.name}:{name}@{_digest(source)}")


def _run(path: Path, source: bytes) -> ModuleType:
    """The file as a module; it can import files beside it, like a script."""
    module = ModuleType(f"{path.stem}_{_digest(source)}")
    module.__file__ = str(path.absolute())
    sys.modules[module.__name__] = module  # dataclasses look it up here
    beside = str(path.absolute().parent)
    sys.path.insert(0, beside)
    try:
        _call(path, lambda: exec(compile(source, str(path), "exec"), vars(module)))
    except BaseException:
        del sys.modules[module.__name__]
        raise
    finally:
        sys.path.remove(beside)
    return module


def _call(path: Path, call: Any) -> Any:
    """The result of the call; an error in the user's code becomes a message with its line."""
    try:
        return call()
    except KitError:
        raise
    except Exception as error:  # a user's program can raise anything
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)
        ]
        where = f", line {getattr(error, 'lineno', None) or (lines or [0])[-1]}"
        raise BadValue(f"{path.name}{where}: {type(error).__name__}: {error}") from error
