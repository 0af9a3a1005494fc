"""Where the time of one request goes: connection, HTTP, parsing, queue, model, reply.

The server tells its own parts in the header `Server-Timing`, if a request asks for it by the
parameter `timing`. The client times the connection and the whole. The difference is HTTP: bytes
through sockets, their parsing by the server's protocol, and the changes between processes.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kit.core.checks import check_whole
from kit.core.errors import BadValue, KitError
from kit.measurement import Measurement, Observer, Parts, Stopwatch

PARTS = ("connect", "HTTP", "parse", "queue", "predict", "reply")
TIMING = re.compile(r"(\w+);dur=([0-9.]+)")
WARM_UP = 5
TIMEOUT_S = 30.0


def request_parts(
    address: tuple[str, int],
    path: str,
    inputs: Any,
    specs: Sequence[Any],
    *,
    n: int,
    token: str | None,
    threads: int,
) -> Parts:
    """The parts of `n` requests, one after the other, each on a connection of its own.

    Parameters
    ----------
    address, path
        Host and port, and the path of infer.
    inputs
        A tensor or array (B, …), a tuple of them in the order of `specs`, or a dict by name; None
        takes one row of ones.
    specs
        The model's inputs, as the protocol's metadata list them.
    n
        How many requests.
    token, threads
        Of the server.

    Raises
    ------
    KitError
        The server refused a request: what it said.
    """
    check_whole("n", n, 10)
    observer = Observer(Stopwatch("cpu"))
    request = _request(path, address, named_arrays(inputs, specs), specs, token)
    began = time.perf_counter()
    first = _one(address, request)
    for _ in range(WARM_UP - 1):
        _one(address, request)
    warmed_s = time.perf_counter() - began
    times = [_one(address, request) for _ in range(n)]
    conditions = replace(
        observer.conditions(), threads=threads
    )  # of the server, not of this client
    found = {}
    for name in PARTS:
        each = tuple(one[name] for one in times)
        found[name] = Measurement(name, each, 1, first[name], warmed_s, True, conditions)
    return Parts(found)


def named_arrays(inputs: Any, specs: Sequence[Any]) -> dict[str, np.ndarray]:
    """The inputs by name, in the datatypes of the model.

    >>> from kit.serving.served_model import TensorSpec
    >>> named_arrays(None, [TensorSpec("input", "FP32", (-1, 3))])
    {'input': array([[1., 1., 1.]], dtype=float32)}
    """
    if inputs is None:
        return {s.name: np.ones([max(1, n) for n in s.shape], s.dtype) for s in specs}
    if not isinstance(inputs, Mapping):
        many = inputs if isinstance(inputs, tuple) else (inputs,)
        if len(many) != len(specs):
            raise BadValue(
                f"given {len(many)} inputs; the model takes {len(specs)}: "
                f"{', '.join(spec.name for spec in specs)}."
            )
        inputs = {spec.name: value for spec, value in zip(specs, many, strict=True)}
    if missing := {spec.name for spec in specs} - set(inputs):
        raise BadValue(f"inputs: {sorted(missing)} missing.")
    return {s.name: np.ascontiguousarray(np.asarray(inputs[s.name]), s.dtype) for s in specs}


def _request(
    path: str,
    address: tuple[str, int],
    arrays: dict[str, np.ndarray],
    specs: Sequence[Any],
    token: str | None,
) -> bytes:
    """The bytes of a whole HTTP request, with raw tensors."""
    parts = [
        {
            "name": spec.name,
            "shape": list(arrays[spec.name].shape),
            "datatype": spec.datatype,
            "parameters": {"binary_data_size": arrays[spec.name].nbytes},
        }
        for spec in specs
    ]
    head = json.dumps({"inputs": parts, "parameters": {"timing": True}}).encode()
    body = b"".join([head, *(arrays[spec.name].tobytes() for spec in specs)])
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {address[0]}:{address[1]}",
        f"Content-Length: {len(body)}",
        f"Inference-Header-Content-Length: {len(head)}",
        *([f"Authorization: Bearer {token}"] if token else []),
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _one(address: tuple[str, int], request: bytes) -> dict[str, float]:
    """The seconds of each part of one request."""
    began = time.perf_counter()
    with socket.create_connection(address, TIMEOUT_S) as connection:
        connected = time.perf_counter()
        connection.sendall(request)
        reply = b""
        while part := connection.recv(65536):  # until the server closes
            reply += part
    whole = time.perf_counter() - connected
    head, _, body = reply.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise KitError(f"the server answered {head[9:12].decode()}: {body[:300].decode()}")
    parts = {name: float(ms) / 1000 for name, ms in TIMING.findall(head.decode("latin-1"))}
    return {"connect": connected - began, "HTTP": whole - sum(parts.values()), **parts}
