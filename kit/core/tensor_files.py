"""Tensors and text in one file: safetensors with a digest, checked before it is used.

The file may come from a stranger. So its header is parsed within limits first, and each tensor
must lie where the header says and inside the file. Reading never takes more memory than a few
times the size of the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kit.core.errors import CheckpointRefused

AGAIN = "It was cut off or altered: copy it again, or save it again."
MOST_HEADER_BYTES = 2**25  # 300,000 tensors; safetensors allows three times that
MOST_VALUES = 2**21  # in JSON: 2 bytes of the file can become a value of 250 bytes in memory
# At least one byte per number: PyTorch has no ordinary arithmetic for smaller ones.
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
# The errors that a malformed file can cause, wherever it is noticed.
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError)


def pack(tensors: Mapping[str, Tensor], text: str = "", **note: str) -> bytes:
    """The bytes of a file with these tensors, a digest of them and the text, and notes."""
    from safetensors.torch import save

    plain = {name: plain_tensor(value) for name, value in tensors.items()}
    return save(plain, {**note, "digest": digest(plain, text)})


def plain_tensor(value: Tensor) -> Tensor:
    """The tensor on the CPU, contiguous, in memory of its own."""
    value = value.detach().resolve_conj().resolve_neg().cpu()
    own = value.is_contiguous() and value.untyped_storage().nbytes() == value.nbytes
    return value if own else value.clone(memory_format=torch.contiguous_format)


def unpack(path: Path, data: bytes, text: str = "") -> dict[str, Tensor]:
    """The tensors in a file's bytes, which must have been written with this text.

    Raises
    ------
    CheckpointRefused
        "format", "complete" or "digest".
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(data)
        right = digest(tensors, text) == header(path, data)["__metadata__"]["digest"]
    except (SafetensorError, *MALFORMED) as error:
        raise _refused("format", path, one_line(error)) from error
    if not right:
        raise _refused("digest", path, "its content was changed after it was saved. Save it again.")
    return tensors


def read(path: Path) -> bytes:
    """The bytes of a file whose size agrees with its header.

    Raises
    ------
    CheckpointRefused
        "exists", "format" or "complete".
    """
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError
            found = status.st_size
            size = int.from_bytes(start := file.read(8), "little")
            needed = _needed(path, start + file.read(min(size, MOST_HEADER_BYTES)), found)
            if found != needed:
                raise _refused("complete", path, f"{found:,} bytes, needs {needed:,}. {AGAIN}")
            file.seek(0)
            return file.read(needed)
    except CheckpointRefused:
        raise
    except PermissionError as error:
        raise _refused("exists", path, "you have no permission to read it.") from error
    except IsADirectoryError as error:
        raise _refused("exists", path, "it is a folder. Give a file in it.") from error
    except (OSError, ValueError) as error:  # a folder, a pipe, a name that no file can have
        raise _refused("exists", path, "no such file. Save one with kit.save(...).") from error


def header(path: Path, data: bytes) -> dict[str, Any]:
    """The header's entries, after a check that each tensor lies inside the file."""
    size = int.from_bytes(data[:8], "little")
    try:
        if not 2 <= size <= MOST_HEADER_BYTES:
            raise ValueError("no header")
        about = parse_json(data[8 : 8 + size].decode())
        at = 0
        entries = {name: each for name, each in about.items() if name != "__metadata__"}
        for each in sorted(entries.values(), key=lambda each: each["data_offsets"]):
            shape, (begin, end) = each["shape"], each["data_offsets"]
            numbers = [*shape, begin, end]
            if any(type(n) is not int or not 0 <= n < 2**62 for n in numbers) or len(shape) > 64:
                raise ValueError("sizes that no tensor can have")
            if begin != at or end - begin != prod(shape) * DTYPES[each["dtype"]].itemsize:
                raise ValueError("tensors that do not follow each other without gaps")
            at = end
        if not all(isinstance(text, str) for text in about["__metadata__"].values()):
            raise ValueError("notes that are not text")
    except (*MALFORMED, RecursionError) as error:
        problem = f"not a file of this kit ({one_line(error)}). Give one that kit.save(...) wrote."
        raise _refused("format", path, problem) from error
    return about


def parse_json(text: str) -> Any:
    """The value of a JSON text, within limits.

    Raises
    ------
    ValueError
        It is not JSON, has a name twice, or has too many values.
    """
    if text.count(",") + text.count("[") + text.count("{") > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    return json.loads(text, object_pairs_hook=_refuse_repeats)


def digest(tensors: Mapping[str, Tensor], text: str = "") -> str:
    """SHA-256 of the text and of each tensor's name, dtype, shape and bytes."""
    total = hashlib.sha256(text.encode())
    for name, value in sorted(tensors.items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def one_line(message: object) -> str:
    """Text from a file or an error as one short line of ASCII, safe for a terminal."""
    text = " ".join(str(message).split())
    return ascii(text if len(text) <= 200 else f"{text[:200]}…")[1:-1]


def _needed(path: Path, start: bytes, found: int) -> int:
    """The bytes that the file must have according to its header."""
    size = int.from_bytes(start[:8], "little")
    if found <= 8 or (found < 8 + size <= MOST_HEADER_BYTES and start[8:9] == b"{"):
        raise _refused("complete", path, f"{found:,} bytes without a readable header. {AGAIN}")
    entries = {k: v for k, v in header(path, start).items() if k != "__metadata__"}
    return 8 + size + max((each["data_offsets"][1] for each in entries.values()), default=0)


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # at a pipe


def _refused(check: str, path: Path, message: str) -> CheckpointRefused:
    return CheckpointRefused(check, f"{path}: {message}")
