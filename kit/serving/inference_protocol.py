"""The Open Inference Protocol, version 2: bytes of a request -> arrays, arrays -> bytes of a reply.

A request is JSON; its tensors are lists of numbers in it, or raw bytes behind it. All of a request
is checked before an array is made: what it claims must match the model and the bytes that came.

Source: the specification (kserve/open-inference-protocol), and Triton's extension for binary data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NoReturn

from kit.serving.refusals import RequestRefused
from kit.serving.served_model import Arrays, ServedModel, TensorSpec
from kit.serving.tensor_data import claimed_shape, from_bytes, from_json, parameters_of, refuse

LENGTH_HEADER = b"inference-header-content-length"  # the bytes of JSON in front of raw tensors
EXTENSIONS = ["binary_tensor_data", "schedule_policy"]
LONGEST_ID = 256
MOST_CLAIM_BYTES = 1024  # of JSON that is remembered
MICROSECOND = 1e-6


@dataclass(frozen=True, slots=True)
class Claim:
    """What the JSON of a request says; the bytes of raw tensors are not yet looked at."""

    id: str | None
    inputs: tuple[tuple[TensorSpec, tuple[int, ...], Any, Any], ...]  # spec, shape, bytes, data
    rows: int
    timeout_s: float | None  # the request's own deadline, from its arrival
    wanted: tuple[tuple[str, bool], ...]  # outputs: name, and whether as raw bytes
    timing: bool  # whether the reply shall say where the time went


@dataclass(slots=True)
class InferRequest:
    """A request that passed all checks."""

    claim: Claim
    arrays: Arrays


def _not_a_number(text: str) -> NoReturn:
    refuse(f"{text} is not JSON, and not a number that a model can take.")


_DECODER = json.JSONDecoder(parse_constant=_not_a_number)  # made once: that takes as long as
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))  # to read a small request


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
    known = len(raw) and len(text) <= MOST_CLAIM_BYTES
    claim = (_known_claim if known else _claim)(model, text, most_rows)
    return InferRequest(claim, _arrays(claim, raw))


def _claim(model: ServedModel, text: bytes, most_rows: int) -> Claim:
    """What the JSON says, compared with the model."""
    head = _json_object(text)
    given = head.get("inputs")
    if not isinstance(given, list):
        refuse('needs {"inputs": [{"name", "shape", "datatype", "data"}, …]}.')
    inputs = _inputs(model, given)
    rows = {shape[0] for _, shape, _, _ in inputs}
    if len(rows) > 1:
        refuse(f"the inputs have {sorted(rows)} rows; all need the same number.")
    count = rows.pop()
    if not 1 <= count <= most_rows:
        refuse(f"given {count} rows; needs 1 to {most_rows} per request.")
    parameters = parameters_of(head)
    binary = parameters.get("binary_data_output") is True
    return Claim(
        _id(head),
        inputs,
        count,
        _timeout_s(parameters.get("timeout")),
        _wanted(model, head.get("outputs"), binary),
        parameters.get("timing") is True,
    )


# Raw tensors change from request to request; the JSON in front of them is often the same.
_known_claim = lru_cache(maxsize=64)(_claim)


def _split(body: bytes, json_length: bytes | None) -> tuple[bytes, memoryview]:
    """The JSON, and the raw tensors behind it."""
    if json_length is None:
        return body, memoryview(b"")
    if not json_length.isdigit() or len(json_length) > 18:
        refuse("Inference-Header-Content-Length: needs the number of bytes of the JSON.")
    length = int(json_length)
    if length > len(body):
        refuse(f"Inference-Header-Content-Length: {length}; the body has {len(body)} bytes.")
    return body[:length], memoryview(body)[length:]


def _json_object(text: bytes) -> dict[str, Any]:
    try:
        found = _DECODER.decode(text.decode())
    except RecursionError:
        refuse("the JSON is nested too deeply.")
    except ValueError as error:  # also if it is not UTF-8, or a number has thousands of digits
        refuse(f"the body is not JSON: {str(error)[:100]}.")
    if not isinstance(found, dict):
        refuse("the body is JSON, but not an object.")
    return found


def _id(head: dict[str, Any]) -> str | None:
    found = head.get("id")
    if found is not None and (not isinstance(found, str) or len(found) > LONGEST_ID):
        refuse(f"id: needs a text of at most {LONGEST_ID} characters.")
    return found


def _timeout_s(timeout: Any) -> float | None:
    if timeout is None:
        return None
    if type(timeout) is not int or not 0 < timeout < 2**63:
        refuse(f"timeout: {timeout!r:.40}; needs a whole number of microseconds above 0.")
    return timeout * MICROSECOND


def _inputs(
    model: ServedModel, given: list[Any]
) -> tuple[tuple[TensorSpec, tuple[int, ...], Any, Any], ...]:
    """Of each input that is given: its spec, shape, and the number of raw bytes or the data."""
    specs = {spec.name: spec for spec in model.inputs}
    found = {}
    for part in given:
        if not isinstance(part, dict):
            refuse("inputs: each needs to be an object.")
        spec = specs.get(name) if isinstance(name := part.get("name"), str) else None
        if spec is None or spec.name in found:
            refuse(f"input {name!r:.60}: needs each of {list(specs)} once.")
        size = parameters_of(part).get("binary_data_size")
        data = part.get("data") if size is None else None
        found[spec.name] = (spec, claimed_shape(spec, part), size, data)
    if missing := specs.keys() - found.keys():
        refuse(f"inputs: {sorted(missing)} missing; needs {list(specs)}.")
    return tuple(found.values())


def _arrays(claim: Claim, raw: memoryview) -> Arrays:
    """Name -> array of each input; raw tensors follow each other in the order of the inputs."""
    arrays: Arrays = {}
    start = 0
    for spec, shape, size, data in claim.inputs:
        if size is None:
            arrays[spec.name] = from_json(spec, shape, data)
        else:
            arrays[spec.name] = from_bytes(spec, shape, size, raw, start)
            start += size
    if start != len(raw):
        refuse(f"{len(raw)} bytes follow the JSON; the inputs claim {start}.")
    return arrays


# --- Reply ---------------------------------------------------------------------------------------


def _wanted(model: ServedModel, given: Any, binary: bool) -> tuple[tuple[str, bool], ...]:
    """The outputs that the request asks for; all of them if it names none."""
    if given is None or given == []:
        return tuple((spec.name, binary) for spec in model.outputs)
    names, wanted = [spec.name for spec in model.outputs], []
    if not isinstance(given, list) or len(given) > len(names):
        refuse(f"outputs: needs a list of names among {names}.")
    for part in given:
        name = part.get("name") if isinstance(part, dict) else None
        if name not in names:
            refuse(f"output {name!r:.60}: needs one of {names}.")
        parameters = parameters_of(part)
        if "classification" in parameters:
            refuse(f"output {name!r}: classification is not supported; take the raw numbers.")
        wanted.append((name, parameters.get("binary_data", binary) is True))
    return tuple(wanted)


def reply(
    model: ServedModel, claim: Claim, outputs: Arrays
) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body and its headers: JSON, with raw tensors behind it if the request asks for them.

    Raises
    ------
    RequestRefused
        500: an output is NaN or infinite, which JSON cannot hold.
    """
    found = [(name, outputs[name], binary) for name, binary in claim.wanted]
    tail = [array.tobytes() for _, array, binary in found if binary]
    described = tuple((name, array.shape) for name, array, _ in found)
    if len(tail) == len(found):
        text = _known_text(model, claim.id, described)
    else:
        data = {name: array.ravel().tolist() for name, array, binary in found if not binary}
        text = _text(model, claim.id, described, data)
    if not tail:
        return text, [(b"content-type", b"application/json")]
    length = (LENGTH_HEADER, b"%d" % len(text))
    return b"".join((text, *tail)), [(b"content-type", b"application/octet-stream"), length]


def _text(
    model: ServedModel,
    id: str | None,
    described: tuple[tuple[str, tuple[int, ...]], ...],
    data: Mapping[str, list[Any]] = MappingProxyType({}),
) -> bytes:
    """The JSON of a reply: name and shape of each output; those without data follow as bytes."""
    specs, parts = {spec.name: spec for spec in model.outputs}, []
    for name, shape in described:
        spec = specs[name]
        part: dict[str, Any] = {"name": name, "shape": list(shape), "datatype": spec.datatype}
        if name in data:
            part["data"] = data[name]
        else:
            size = math.prod(shape) * spec.dtype.itemsize
            part["parameters"] = {"binary_data_size": size}
        parts.append(part)
    head: dict[str, Any] = {"model_name": model.name, "outputs": parts}
    if id is not None:
        head["id"] = id
    try:
        return _ENCODER.encode(head).encode()
    except ValueError:
        raise RequestRefused(
            500,
            "an output is NaN or infinite, which JSON cannot hold: ask for binary outputs.",
            reason="failed",
        ) from None


_known_text = lru_cache(maxsize=64)(_text)


def metadata(model: ServedModel) -> dict[str, Any]:
    """What the protocol says about the model."""
    return {
        "name": model.name,
        "platform": model.platform,
        "inputs": [spec.to_dict() for spec in model.inputs],
        "outputs": [spec.to_dict() for spec in model.outputs],
    }
