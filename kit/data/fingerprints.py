"""Fingerprints of data, loss and score: does a resumed training continue with the same ones?

A split: the number, shapes and dtypes of its examples, and a digest of their bytes. Above 16 MB
(a text mapped into memory), the digest covers 1,024 examples at equal distances, so that little of
the file is read. A change between those examples that keeps the size goes unnoticed.

A function: its name, code, constants, defaults and the variables that it encloses. For functions
of PyTorch and the kit only the name, because another version may implement them differently.
Global variables are not covered.
"""

from __future__ import annotations

import sys
from dis import get_instructions
from hashlib import sha256
from types import CellType, CodeType
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from kit.data.batching import version
from kit.data.dataset import Task

MOST_BYTES = 2**24  # a digest of this many takes about 20 ms
SAMPLE = 1024  # examples
MAX_DEPTH = 6  # of enclosed values inside enclosed values
PUBLISHED = ("torch", "kit")  # packages whose functions the name identifies
PYTHON = f"Python {sys.version_info[0]}.{sys.version_info[1]}"  # bytecode differs by version

EMPTY = CellType()  # equal to each enclosed variable that has no value yet

_KNOWN = WeakTensorKeyDictionary()  # a tensor -> its version and its digest


def fingerprint(workload: Task) -> dict[str, str]:
    """Of the data: "training split", "validation split" and, if there are any, "classes".

    In a workload without `.data`, the first batch stands for all examples.
    """
    found = {}
    data: Any = getattr(workload, "data", None)
    for split in ("train", "validation"):
        size = workload.size(split)
        if data is None:
            parts = next(iter(workload.batches(split, min(SAMPLE, size))))
        else:
            parts = data[split]
        text = ", ".join(_describe(part) for part in parts)
        found["training split" if split == "train" else f"{split} split"] = f"{size:,}: {text}"
    if classes := getattr(data, "classes", ()):
        digest = sha256(repr(tuple(classes)).encode()).hexdigest()
        found["classes"] = f"{len(classes):,}: {digest[:16]}"
    return found


def _describe(part: Tensor) -> str:
    dtype = str(part.dtype).removeprefix("torch.")
    return f"{dtype} {tuple(part.shape[1:])} {_digest(part)}"


def _digest(part: Tensor) -> str:
    known, digest = _KNOWN.get(part, (None, ""))
    if known != version(part):
        some = part
        if part.nbytes > MOST_BYTES and len(part) > SAMPLE:
            indices = torch.arange(SAMPLE) * (len(part) - 1) // (SAMPLE - 1)
            some = part.index_select(0, indices.to(part.device))
        data = some.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        digest = sha256(data).hexdigest()[:16]
        _KNOWN[part] = version(part), digest
    return digest


def metric_fingerprints(workload: Task) -> dict[str, str]:
    """Of the loss and the score: the name, and a digest of the code and values that they use."""
    trial = getattr(workload, "trial", None)
    tried = (workload.score, trial) if trial else workload.score
    return {
        "loss": _identify(workload.loss, workload.loss),
        "score": _identify(workload.score, tried),
    }


def same_metric(saved: str, mine: str) -> bool:
    """Whether both are the same function. Under another Python, only the names are compared."""
    if (PYTHON in saved) == (PYTHON in mine):
        return saved == mine
    return saved.partition(" (")[0] == mine.partition(" (")[0]


def qualified_name(given: Any) -> str:
    """Module and name of a class or function, or of the class of anything else."""
    named = given if hasattr(given, "__qualname__") else type(given)
    return f"{named.__module__}.{named.__qualname__}"


def _identify(metric: Any, parts: Any) -> str:
    digest = sha256(_serialise(parts).encode()).hexdigest()[:16]
    return f"{qualified_name(metric)} ({PYTHON}: {digest})"


def _serialise(value: Any, depth: int = 0) -> str:
    """A value as text that is the same in each process, with everything it computes with."""
    if depth > MAX_DEPTH:
        return "…"
    if isinstance(value, Tensor):
        return _describe(value) if value.layout == torch.strided else repr(value)
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        pairs = value.items() if isinstance(value, dict) else value
        each = [_serialise(part, depth + 1) for part in pairs]
        if isinstance(value, (set, frozenset)):
            each.sort()
        return f"{type(value).__name__}{each}"
    if isinstance(value, CodeType):
        return _serialise((value.co_code.hex(), value.co_names, value.co_consts), depth)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    name = qualified_name(value)
    inner = getattr(value, "__func__", value)  # the function of a method, without its object
    published = hasattr(value, "__qualname__") and name.split(".")[0] in PUBLISHED
    if isinstance(value, type) or (published and name.startswith("torch")):
        return name
    if code := getattr(inner, "__code__", None):
        counters = {each.argval for each in get_instructions(code) if each.opname == "STORE_DEREF"}
        cells = zip(code.co_freevars, inner.__closure__ or (), strict=True)
        enclosed = [c.cell_contents for n, c in cells if n not in counters and c != EMPTY]
        own = [] if published else [code, inner.__defaults__, inner.__kwdefaults__]
        return name + _serialise([enclosed, *own], depth + 1)
    if hasattr(value, "tobytes"):  # NumPy's
        return name + sha256(value.tobytes()).hexdigest()
    if hasattr(value, "loss") and hasattr(value, "score"):
        # A workload: its data have their own digest.
        return name + _serialise((value.loss, value.score), depth + 1)
    held = getattr(value, "__dict__", {})
    held = {name: part for name, part in held.items() if not name.startswith("_kit_")}
    if hasattr(value, "func"):  # functools.partial
        held = {**held, "func": value.func, "args": value.args, "keywords": value.keywords}
    return name + _serialise(held, depth + 1)
