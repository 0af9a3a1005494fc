"""By what data and judges are known again: whether a training goes on with what it began with.

Of each split the number, shapes and dtypes of its examples count, and a digest of their bytes:
of all of them up to 16 MB; of larger data (a text that is mapped into memory) 1,024 examples at
equal distances, so that no more of a file is read. There, a change that leaves the size as it
was and falls between those examples is not noticed.

Of a function count its name, code, constants, defaults and what it encloses; of one of PyTorch's or
the kit's the name alone, since another version may write it otherwise. Globals are not looked at.
"""

from __future__ import annotations

import sys
from dis import get_instructions
from hashlib import sha256
from types import CodeType
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from kit.data.batching import version
from kit.data.dataset import Task

MOST_BYTES = 2**24  # a digest of so many takes some 20 ms
SAMPLE = 1024  # examples
DEEP = 6  # how far what a function encloses is followed
PUBLISHED = ("torch", "kit")  # packages whose functions their names tell
PYTHON = f"Python {sys.version_info[0]}.{sys.version_info[1]}"  # another compiles to other code

_KNOWN = WeakTensorKeyDictionary()  # a tensor -> its version and its digest


def fingerprint(workload: Task) -> dict[str, str]:
    """What is compared: "training split", "validation split" and, if there are any, "classes".

    Of a workload without `.data`, the first batch stands for all examples.
    """
    found = {}
    data: Any = getattr(workload, "data", None)
    for split in ("train", "validation"):
        size = workload.size(split)
        if data is None:
            parts = next(iter(workload.batches(split, min(SAMPLE, size))))
        else:
            parts = data[split]
        told = ", ".join(_told(part) for part in parts)
        found["training split" if split == "train" else f"{split} split"] = f"{size:,}: {told}"
    if classes := getattr(data, "classes", ()):
        digest = sha256(repr(tuple(classes)).encode()).hexdigest()
        found["classes"] = f"{len(classes):,}: {digest[:16]}"
    return found


def _told(part: Tensor) -> str:
    dtype = str(part.dtype).removeprefix("torch.")
    return f"{dtype} {tuple(part.shape[1:])} {_digest(part)}"


def _digest(part: Tensor) -> str:
    known, digest = _KNOWN.get(part, (None, ""))
    if known != version(part):
        some = part
        if part.nbytes > MOST_BYTES and len(part) > SAMPLE:
            places = torch.arange(SAMPLE) * (len(part) - 1) // (SAMPLE - 1)
            some = part.index_select(0, places.to(part.device))
        data = some.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        digest = sha256(data).hexdigest()[:16]
        _KNOWN[part] = version(part), digest
    return digest


def metric_fingerprints(workload: Task) -> dict[str, str]:
    """What the loss and the score are known by: a name, and a digest of what they compute with."""
    trial = getattr(workload, "trial", None)
    tried = (workload.score, trial) if trial else workload.score
    return {
        "loss": _known_by(workload.loss, workload.loss),
        "score": _known_by(workload.score, tried),
    }


def same_metric(kept: str, mine: str) -> bool:
    """Whether they are one judge, as far as can be said: under another Python, by the name."""
    if (PYTHON in kept) == (PYTHON in mine):
        return kept == mine
    return kept.partition(" (")[0] == mine.partition(" (")[0]


def qualified_name(given: Any) -> str:
    """Module and name of a class or function, or of the class of anything else."""
    named = given if hasattr(given, "__qualname__") else type(given)
    return f"{named.__module__}.{named.__qualname__}"


def _known_by(judge: Any, parts: Any) -> str:
    digest = sha256(_written(parts).encode()).hexdigest()[:16]
    return f"{qualified_name(judge)} ({PYTHON}: {digest})"


def _written(value: Any, deep: int = 0) -> str:
    """All that a value says of how it computes, as text that is the same in each process."""
    if deep > DEEP:
        return "…"
    if isinstance(value, Tensor):
        return _told(value) if value.layout == torch.strided else repr(value)
    if isinstance(value, (list, tuple, set, frozenset, dict)):
        pairs = value.items() if isinstance(value, dict) else value
        each = [_written(part, deep + 1) for part in pairs]
        return (
            f"{type(value).__name__}{sorted(each) if isinstance(value, (set, frozenset)) else each}"
        )
    if isinstance(value, CodeType):
        return _written((value.co_code.hex(), value.co_names, value.co_consts), deep)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    told = qualified_name(value)
    inner = getattr(value, "__func__", value)  # of a method the function, without its object
    published = hasattr(value, "__qualname__") and told.split(".")[0] in PUBLISHED
    if isinstance(value, type) or (published and told.startswith("torch")):
        return told
    if code := getattr(inner, "__code__", None):
        counters = {each.argval for each in get_instructions(code) if each.opname == "STORE_DEREF"}
        cells = zip(code.co_freevars, inner.__closure__ or (), strict=True)
        kept = [c.cell_contents for name, c in cells if name not in counters and _is_full(c)]
        parts = [kept] if published else [kept, code, inner.__defaults__, inner.__kwdefaults__]
        return told + _written(parts, deep + 1)
    if hasattr(value, "tobytes"):  # NumPy's
        return told + sha256(value.tobytes()).hexdigest()
    if hasattr(value, "loss") and hasattr(value, "score"):  # a workload, whose data are told apart
        return told + _written((value.loss, value.score), deep + 1)
    held = getattr(value, "__dict__", {})
    if hasattr(value, "func"):  # functools.partial
        held = {**held, "func": value.func, "args": value.args, "keywords": value.keywords}
    return told + _written(held, deep + 1)


def _is_full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
