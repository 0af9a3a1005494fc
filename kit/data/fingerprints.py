"""By what data are known again: whether a training goes on with those that it began with.

Of each split the number, shapes and dtypes of its examples count, and a digest of their bytes:
of all of them up to 16 MB; of larger data (a text that is mapped into memory) 1,024 examples at
equal distances, so that no more of a file is read. There, a change that leaves the size as it
was and falls between those examples is not noticed.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from kit.data.dataset import Task
from kit.data.feeding import version

MOST_BYTES = 2**24  # a digest of so many takes some 20 ms
SAMPLE = 1024  # examples

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
