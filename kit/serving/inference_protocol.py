"""The Open Inference Protocol, version 2: bytes of a request -> arrays, arrays -> bytes of a reply.

A request is JSON; its tensors are lists of numbers in it, or raw bytes behind it. All of a request
is checked before an array is made: what it claims must match the model and the bytes that came.

Source: the specification (kserve/open-inference-protocol), and Triton's extension for binary data.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from kit.serving.refusals import RequestRefused
from kit.serving.served_model import Arrays, ServedModel, TensorSpec

LENGTH_HEADER = b"inference-header-content-length"  # the bytes of JSON in front of raw tensors
EXTENSIONS = ["binary_tensor_data", "schedule_policy"]
LONGEST_ID = 256
MICROSECOND = 1e-6


@dataclass(slots=True)
class InferRequest:
    """A request that passed all checks."""

    id: str | None
    arrays: Arrays
    rows: int
    timeout_s: float | None  # the request's own deadline, from its arrival
    wanted: list[tuple[str, bool]]  # outputs: name, and whether as raw bytes
    timing: bool  # whether the reply shall say where the time went


def _refuse(message: str) -> NoReturn:
    raise RequestRefused(400, message)


def _not_a_number(text: str) -> NoReturn:
    _refuse(f"{text} is not JSON, and not a number that a model can take.")


_DECODER = json.JSONDecoder(parse_constant=_not_a_number)


# --- Request -------------------------------------------------------------------------------------


def parse(
    model: ServedModel, body: bytes, json_length: bytes | None, most_rows: int
) -> InferRequest:
    """The arrays of an infer request.

    Parameters
    ----------
    body
        JSON, and raw tensors after it if the header `Inference-Header-Content-Length` says so.
    json_length
        The value of that header.
    most_rows
        Rows that fit into one batch.

    Raises
    ------
    RequestRefused
        400, with what was given and what is needed.
    """
    text, raw = _split(body, json_length)
    head = _json_object(text)
    given = head.get("inputs")
    if not isinstance(given, list):
        _refuse('needs {"inputs": [{"name", "shape", "datatype", "data"}, …]}.')
    arrays = _inputs(model, given, raw)
    rows = {len(each) for each in arrays.values()}
    if len(rows) > 1:
        _refuse(f"the inputs have {sorted(rows)} rows; all need the same number.")
    count = rows.pop()
    if not 1 <= count <= most_rows:
        _refuse(f"given {count} rows; needs 1 to {most_rows} per request.")
    parameters = _parameters(head)
    return InferRequest(
        _id(head),
        arrays,
        count,
        _timeout_s(parameters.get("timeout")),
        _wanted(model, head.get("outputs"), parameters.get("binary_data_output") is True),
        parameters.get("timing") is True,
    )


def _split(body: bytes, json_length: bytes | None) -> tuple[bytes, memoryview]:
    """The JSON, and the raw tensors behind it."""
    if json_length is None:
        return body, memoryview(b"")
    if not json_length.isdigit() or len(json_length) > 18:
        _refuse("Inference-Header-Content-Length: needs the number of bytes of the JSON.")
    length = int(json_length)
    if length > len(body):
        _refuse(f"Inference-Header-Content-Length: {length}; the body has {len(body)} bytes.")
    return body[:length], memoryview(body)[length:]


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        found = _DECODER.decode(text.decode())
    except RecursionError:
        _refuse("the JSON is nested too deeply.")
    except ValueError as error:  # also if it is not UTF-8, or a number has thousands of digits
        _refuse(f"the body is not JSON: {str(error)[:100]}.")
    if not isinstance(found, dict):
        _refuse("the body is JSON, but not an object.")
    return found


def _parameters(part: dict[str, Any]) -> dict[str, Any]:
    found = part.get("parameters", {})
    if not isinstance(found, dict):
        _refuse("parameters: needs an object.")
    return found


def _id(head: dict[str, Any]) -> str | None:
    found = head.get("id")
    if found is not None and (not isinstance(found, str) or len(found) > LONGEST_ID):
        _refuse(f"id: needs a text of at most {LONGEST_ID} characters.")
    return found


def _timeout_s(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if type(timeout) is not int or not 0 < timeout < 2**63:
        _refuse(f"timeout: {timeout!r:.40}; needs a whole number of microseconds above 0.")
    return timeout * MICROSECOND


def _inputs(model: ServedModel, given: list[Any], raw: memoryview) -> Arrays:
    """Name -> array of each input; raw tensors follow each other in the order of the inputs."""
    specs = {spec.name: spec for spec in model.inputs}
    arrays: Arrays = {}
    start = 0
    for part in given:
        if not isinstance(part, dict):
            _refuse("inputs: each needs to be an object.")
        spec = specs.get(name) if isinstance(name := part.get("name"), str) else None
        if spec is None or spec.name in arrays:
            _refuse(f"input {name!r:.60}: needs each of {list(specs)} once.")
        shape = _shape(spec, part)
        size = _parameters(part).get("binary_data_size")
        if size is None:
            arrays[spec.name] = _from_json(spec, shape, part.get("data"))
        else:
            arrays[spec.name] = _from_bytes(spec, shape, size, raw, start)
            start += size
    if missing := specs.keys() - arrays.keys():
        _refuse(f"inputs: {sorted(missing)} missing; needs {list(specs)}.")
    if start != len(raw):
        _refuse(f"{len(raw)} bytes follow the JSON; the inputs claim {start}.")
    return arrays


def _shape(spec: TensorSpec, part: dict[str, Any]) -> tuple[int, ...]:
    """The shape that a request claims, if it is the model's and the datatype is, too."""
    if part.get("datatype") != spec.datatype:
        _refuse(
            f"input {spec.name!r}: datatype {part.get('datatype')!r:.40}; needs {spec.datatype!r}."
        )
    shape = part.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int and 0 < n < 2**31 for n in shape):
        _refuse(f"input {spec.name!r}: shape {shape!s:.60}; needs a list of positive numbers.")
    fits = len(shape) == len(spec.shape) and all(
        b in (-1, a) for a, b in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        _refuse(
            f"input {spec.name!r}: shape {shape!s:.60}; needs {list(spec.shape)}, where -1 is "
            f"any size."
        )
    return tuple(shape)


def _from_bytes(
    spec: TensorSpec, shape: tuple[int, ...], size: Any, raw: memoryview, start: int
) -> np.ndarray:
    """The array in the raw bytes; no byte is copied."""
    needed = math.prod(shape) * spec.dtype.itemsize
    if type(size) is not int or size != needed:
        _refuse(
            f"input {spec.name!r}: binary_data_size {size!r:.40}; shape {list(shape)} of "
            f"{spec.datatype} needs {needed}."
        )
    if start + size > len(raw):
        _refuse(f"input {spec.name!r}: needs {size} bytes; {len(raw) - start} are left.")
    found = np.frombuffer(raw[start : start + size], spec.dtype).reshape(shape)
    if spec.dtype.kind == "b" and found.view(np.uint8).max() > 1:
        _refuse(f"input {spec.name!r}: a BOOL is a byte 0 or 1.")
    return _finite(spec, found)


def _from_json(spec: TensorSpec, shape: tuple[int, ...], data: Any) -> np.ndarray:
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
        _refuse(f"input {spec.name!r}: data of {spec.datatype}: {error}.")
    return _cast(spec, found, kind).reshape(shape)


def _cast(spec: TensorSpec, found: np.ndarray, kind: str) -> np.ndarray:
    """64-bit numbers in the datatype of the input, if they fit."""
    if kind == "f":
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            return _finite(spec, found.astype(spec.dtype))
    whole = found.view(np.uint64 if kind == "u" else np.int64)
    limits = np.iinfo(spec.dtype)
    if whole.min() < limits.min or whole.max() > limits.max:
        _refuse(f"input {spec.name!r}: {spec.datatype} holds {limits.min} to {limits.max}.")
    return whole.astype(spec.dtype)


def _flat(spec: TensorSpec, shape: Sequence[int], data: Any) -> list[Any]:
    """The numbers in one list."""
    if not isinstance(data, list):
        _refuse(f"input {spec.name!r}: needs data, a list, or binary_data_size.")
    if data and isinstance(data[0], list):
        for inner in shape[1:]:
            if any(type(row) is not list or len(row) != inner for row in data):
                _refuse(f"input {spec.name!r}: the lists do not have the shape {list(shape)}.")
            data = list(chain.from_iterable(data))
    if len(data) != math.prod(shape):
        _refuse(
            f"input {spec.name!r}: {len(data)} numbers; shape {list(shape)} needs "
            f"{math.prod(shape)}."
        )
    return data


def _finite(spec: TensorSpec, found: np.ndarray) -> np.ndarray:
    if spec.dtype.kind == "f" and not np.isfinite(found).all():
        _refuse(f"input {spec.name!r}: a number is NaN, infinite, or too large: needs finite ones.")
    return found


# --- Reply ---------------------------------------------------------------------------------------


def _wanted(model: ServedModel, given: Any, binary: bool) -> list[tuple[str, bool]]:
    """The outputs that the request asks for; all of them if it names none."""
    if given is None or given == []:
        return [(spec.name, binary) for spec in model.outputs]
    names, wanted = [spec.name for spec in model.outputs], []
    if not isinstance(given, list) or len(given) > len(names):
        _refuse(f"outputs: needs a list of names among {names}.")
    for part in given:
        name = part.get("name") if isinstance(part, dict) else None
        if name not in names:
            _refuse(f"output {name!r:.60}: needs one of {names}.")
        parameters = _parameters(part)
        if "classification" in parameters:
            _refuse(f"output {name!r}: classification is not supported; take the raw numbers.")
        wanted.append((name, parameters.get("binary_data", binary) is True))
    return wanted


def reply(
    model: ServedModel, request: InferRequest, outputs: Arrays
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body and its headers: JSON, with raw tensors behind it if the request asks for them.

    Raises
    ------
    RequestRefused
        500: an output is NaN or infinite, which JSON cannot hold.
    """
    parts, tail = [], []
    for name, binary in request.wanted:
        found = outputs[name]
        spec = next(s for s in model.outputs if s.name == name)
        part: dict[str, Any] = {"name": name, "shape": list(found.shape)}
        part["datatype"] = spec.datatype
        if binary:
            raw = found.tobytes()
            part["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            part["data"] = found.ravel().tolist()
        parts.append(part)
    head: dict[str, Any] = {"model_name": model.name, "outputs": parts}
    if request.id is not None:
        head["id"] = request.id
    try:
        text = json.dumps(head, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise RequestRefused(
            500,
            "an output is NaN or infinite, which JSON cannot hold: ask for binary outputs.",
            reason="failed",
        ) from None
    if not tail:
        return text, [(b"content-type", b"application/json")]
    length = (LENGTH_HEADER, b"%d" % len(text))
    return b"".join((text, *tail)), [(b"content-type", b"application/octet-stream"), length]


def metadata(model: ServedModel) -> dict[str, Any]:
    """What the protocol says about the model."""
    return {
        "name": model.name,
        "platform": model.platform,
        "inputs": [spec.to_dict() for spec in model.inputs],
        "outputs": [spec.to_dict() for spec in model.outputs],
    }
