"""Tensors in a request: the shape that it claims, and its numbers as JSON or as raw bytes.

A claim is compared with the model and with the bytes that came, before an array is made.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from kit.serving.refusals import RequestRefused
from kit.serving.served_model import TensorSpec


def refuse(message: str) -> NoReturn:
    """Refuse the request: it must change."""
    raise RequestRefused(400, message)


def parameters_of(part: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a request, or of a part."""
    found = part.get("parameters", {})
    if not isinstance(found, dict):
        refuse("parameters: needs an object.")
    return found


def claimed_shape(spec: TensorSpec, part: dict[str, Any]) -> tuple[int, ...]:
    """The shape that a request claims, if it is the model's and the datatype is, too."""
    if part.get("datatype") != spec.datatype:
        refuse(
            f"input {spec.name!r}: datatype {part.get('datatype')!r:.40}; needs {spec.datatype!r}."
        )
    shape = part.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and 0 < n < 2**31 for n in shape):
        refuse(f"input {spec.name!r}: shape {shape!s:.60}; needs a list of positive numbers.")
    fits = len(shape) == len(spec.shape) and all(
        b in (-1, a) for a, b in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        refuse(
            f"input {spec.name!r}: shape {shape!s:.60}; needs {list(spec.shape)}, where -1 is "
            f"any size."
        )
    return tuple(shape)


def from_bytes(
    spec: TensorSpec, shape: tuple[int, ...], size: Any, raw: memoryview, start: int
) -> np.ndarray:
    """The array in the raw bytes; no byte is copied."""
    needed = math.prod(shape) * spec.dtype.itemsize
    if type(size) is not int or size != needed:
        refuse(
            f"input {spec.name!r}: binary_data_size {size!r:.40}; shape {list(shape)} of "
            f"{spec.datatype} needs {needed}."
        )
    if start + size > len(raw):
        refuse(f"input {spec.name!r}: needs {size} bytes; {len(raw) - start} are left.")
    found = np.frombuffer(raw[start : start + size], spec.dtype).reshape(shape)
    if spec.dtype.kind == "b" and found.view(np.uint8).max() > 1:
        refuse(f"input {spec.name!r}: a BOOL is a byte 0 or 1.")
    return _finite(spec, found)


def from_json(spec: TensorSpec, shape: tuple[int, ...], data: Any) -> np.ndarray:
    """The array from numbers in lists, nested as the shape says, or all in one list."""
    numbers = _flat(spec, shape, data)
    kind = spec.dtype.kind
    try:
        if kind == "b":
            if not all(type(number) is bool for number in numbers):
                raise TypeError("a value is not true or false")
            return np.array(numbers, np.bool_).reshape(shape)
        # An array of the standard library takes numbers only, and refuses all else at once.
        found = np.frombuffer(array("d" if kind == "f" else "Q" if kind == "u" else "q", numbers))
    except (TypeError, OverflowError, ValueError) as error:
        refuse(f"input {spec.name!r}: data of {spec.datatype}: {error}.")
    return _cast(spec, found, kind).reshape(shape)


def _cast(spec: TensorSpec, found: np.ndarray, kind: str) -> np.ndarray:
    """64-bit numbers in the datatype of the input, if they fit."""
    if kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            return _finite(spec, found.astype(spec.dtype))
    whole = found.view(np.uint64 if kind == "u" else np.int64)
    limits = np.iinfo(spec.dtype)
    if whole.min() < limits.min or whole.max() > limits.max:
        refuse(f"input {spec.name!r}: {spec.datatype} holds {limits.min} to {limits.max}.")
    return whole.astype(spec.dtype)


def _flat(spec: TensorSpec, shape: Sequence[int], data: Any) -> list[Any]:
    """The numbers in one list."""
    if not isinstance(data, list):
        refuse(f"input {spec.name!r}: needs data, a list, or binary_data_size.")
    if data and isinstance(data[0], list):
        for inner in shape[1:]:
            if any(type(row) is not list or len(row) != inner for row in data):
                refuse(f"input {spec.name!r}: the lists do not have the shape {list(shape)}.")
            data = list(chain.from_iterable(data))
    if len(data) != math.prod(shape):
        refuse(
            f"input {spec.name!r}: {len(data)} numbers; shape {list(shape)} needs "
            f"{math.prod(shape)}."
        )
    return data


def _finite(spec: TensorSpec, found: np.ndarray) -> np.ndarray:
    if spec.dtype.kind == "f" and not np.isfinite(found).all():
        refuse(f"input {spec.name!r}: a number is NaN, infinite, or too large: needs finite ones.")
    return found
