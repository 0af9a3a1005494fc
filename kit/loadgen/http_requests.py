"""The bytes of the requests, made before the run, and what the server says that it needs.

inputs                              the request
bytes, or a list of bytes           any body, to the address as given
an array (N, …), or name -> array   Open Inference Protocol v2, `batch_size` rows per request, as
                                    binary tensors after the JSON (Inference-Header-Content-Length)
a text, or a list of texts          OpenAI's completions, one prompt per request
nothing                             random rows of the shapes that the server's metadata names, or
                                    a short prompt if its model is for text

Sources: Open Inference Protocol, `specification/protocol/inference_rest.md`, with Triton's binary
tensor extension; OpenAI's API reference, "Completions".
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from kit.core.errors import BadValue, CallFailed

EXAMPLES = 16  # different requests, if the inputs are random
ASK_S = 10.0  # for the server's answer about its models
DATATYPES = {
    **{
        np.dtype(f"{kind}{bits}"): f"{name}{bits}"
        for kind, name in (("int", "INT"), ("uint", "UINT"))
        for bits in (8, 16, 32, 64)
    },
    **{np.dtype(f"float{bits}"): f"FP{bits}" for bits in (16, 32, 64)},
    np.dtype(bool): "BOOL",
}
DTYPES = {name: dtype for dtype, name in DATATYPES.items()}
PROMPT = "The "
Body = tuple[dict[str, str], bytes]  # headers that belong to it, and the bytes


@dataclass(frozen=True)
class Target:
    """Where the requests go, and what each of them is."""

    host: str
    port: int
    path: str
    model: str | None
    text: bool  # whether the answers are completions
    requests: list[bytes] = field(repr=False)


def address(url: str) -> tuple[str, int, str]:
    """Host, port and path of a URL.

    >>> address("http://127.0.0.1:8000"), address("http://[::1]:80/predict?x=1")
    (('127.0.0.1', 8000, ''), ('::1', 80, '/predict?x=1'))
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except (ValueError, AttributeError, TypeError):
        host, parts = None, None
    if parts is None or parts.scheme != "http" or not host:
        raise BadValue(f'url={url!r}: needs http:// and an address, e.g. "http://127.0.0.1:8000".')
    path = parts.path.rstrip("/") if parts.path == "/" else parts.path
    return host, port, path + (f"?{parts.query}" if parts.query else "")


def prepare(
    url: str,
    inputs: Any,
    *,
    model: str | None,
    batch_size: int,
    deadline_s: float | None,
    stream: bool | None,
    max_tokens: int,
    headers: Mapping[str, str],
    seed: int,
) -> Target:
    """The address and the requests; the server is asked for what is not given."""
    host, port, path = address(url)
    server = _Server(host, port, headers)
    texts = _texts(inputs)
    if _is_body(inputs):
        bodies: list[Body] = [
            ({}, bytes(b)) for b in ([inputs] if isinstance(inputs, bytes) else inputs)
        ]
        path, text = path or "/", False
    else:
        text = texts is not None or (inputs is None and server.has_text(model))
        found = None if text else server.tensors(path, model)
        if not text and found is None:
            raise BadValue(
                f"{url}: describes no model{f' {model!r}' if model else ''} at /v2/models. Give "
                f"model=NAME; or inputs: a text for a text model, bytes for any other server."
            )
        if text:
            model = model or server.text_model()
            path = path or "/v1/completions"
            bodies = _completions(texts or [PROMPT], model, stream is not False, max_tokens)
        else:
            assert found is not None
            model = found["name"]
            path = path or f"/v2/models/{model}/infer"
            rows = _rows(inputs, found["inputs"], batch_size, seed)
            bodies = [_infer(row, deadline_s) for row in rows]
    requests = [_request(host, port, path, {**more, **headers}, body) for more, body in bodies]
    return Target(host, port, path, model, text, requests)


# --- What the server says ------------------------------------------------------------------------


class _Server:
    """Asks a server about its models."""

    def __init__(self, host: str, port: int, headers: Mapping[str, str]):
        self.host, self.port, self.headers = host, port, headers

    def tensors(self, path: str, model: str | None) -> dict[str, Any] | None:
        """The metadata of a model of tensors; None if the server has none."""
        if path.startswith("/v2/models/"):
            model = path.split("/")[3]
        if model is None:
            reply = self._get("/v2") or {}
            names = reply.get("models") or ["model"]
            model = str(names[0]["name"] if isinstance(names[0], dict) else names[0])
        found = self._get(f"/v2/models/{model}")
        return found if found and found.get("inputs") else None

    def has_text(self, model: str | None) -> bool:
        """Whether it has a model of text, or this one is."""
        names = self._text_models()
        return bool(names) if model is None else model in names

    def text_model(self) -> str | None:
        """The name of the first model of text."""
        return next(iter(self._text_models()), None)

    def _text_models(self) -> list[str]:
        reply = self._get("/v1/models") or {}
        return [str(each.get("id")) for each in reply.get("data") or ()]

    def _get(self, path: str) -> dict[str, Any] | None:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=ASK_S)
        try:
            connection.request("GET", path, headers=dict(self.headers))
            answer = connection.getresponse()
            body = answer.read(1 << 24)
            if answer.status in (401, 403):
                raise BadValue(f"GET {path}: answered {answer.status}. Give token=…, or headers.")
            reply = json.loads(body) if answer.status == 200 else None
        except (OSError, http.client.HTTPException) as error:
            raise CallFailed(
                f"http://{self.host}:{self.port}{path}: no answer ({error}). Is the server running?"
            ) from error
        except ValueError:
            return None
        finally:
            connection.close()
        return reply if isinstance(reply, dict) else None


# --- Bodies --------------------------------------------------------------------------------------


def _is_body(inputs: Any) -> bool:
    several = isinstance(inputs, (list, tuple)) and len(inputs)
    return isinstance(inputs, bytes) or bool(
        several and all(isinstance(each, bytes) for each in inputs)
    )


def _texts(inputs: Any) -> list[str] | None:
    if isinstance(inputs, str):
        return [inputs]
    if isinstance(inputs, (list, tuple)) and inputs and all(isinstance(t, str) for t in inputs):
        return list(inputs)
    return None


def _rows(
    inputs: Any, specs: list[dict[str, Any]], batch_size: int, seed: int
) -> list[dict[str, np.ndarray]]:
    """Name -> array of each request."""
    if inputs is None:
        generator = np.random.default_rng(seed)
        return [
            {spec["name"]: _random(spec, batch_size, generator) for spec in specs}
            for _ in range(EXAMPLES)
        ]
    if not isinstance(inputs, Mapping):
        if len(specs) > 1:
            names = [spec["name"] for spec in specs]
            raise BadValue(f"given one array; the model has the inputs {names}: give a dict.")
        inputs = {specs[0]["name"]: inputs}
    dtypes = {spec["name"]: DTYPES.get(spec["datatype"]) for spec in specs}
    arrays = {name: _array(value, dtypes.get(name)) for name, value in inputs.items()}
    count = min(len(each) for each in arrays.values()) if arrays else 0
    if count < batch_size:
        raise BadValue(f"given {count} rows; needs at least batch_size={batch_size}.")
    return [
        {name: each[at : at + batch_size] for name, each in arrays.items()}
        for at in range(0, count - batch_size + 1, batch_size)
    ]


def _array(value: Any, dtype: np.dtype[Any] | None) -> np.ndarray:
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype in DATATYPES and dtype is not None:
        array = array.astype(dtype)
    if not array.ndim or array.dtype not in DATATYPES:
        raise BadValue(
            f"inputs of type {array.dtype}, shape {array.shape}: needs rows of numbers (N, …)."
        )
    return np.ascontiguousarray(array)


def _random(spec: dict[str, Any], batch_size: int, generator: np.random.Generator) -> np.ndarray:
    """Rows of the shape that the metadata names; numbers that any model takes."""
    shape = [batch_size, *(1 if size < 0 else size for size in spec["shape"][1:])]
    dtype = DTYPES.get(spec["datatype"])
    if dtype is None:
        raise BadValue(f"input {spec['name']!r} has the type {spec['datatype']}: give inputs.")
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)  # a class, a token: 0 and 1 exist


def _infer(arrays: dict[str, np.ndarray], deadline_s: float | None) -> Body:
    """A request of the Open Inference Protocol: its headers, and its JSON with tensors behind."""
    raw = {name: array.tobytes() for name, array in arrays.items()}
    reply: dict[str, Any] = {
        "inputs": [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": DATATYPES[array.dtype],
                "parameters": {"binary_data_size": len(raw[name])},
            }
            for name, array in arrays.items()
        ],
        "parameters": {"binary_data_output": True},
    }
    if deadline_s is not None:
        reply["parameters"]["timeout"] = max(1, round(1e6 * deadline_s))  # microseconds
    text = json.dumps(reply).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(text)),
    }
    return headers, b"".join([text, *raw.values()])


def _completions(texts: list[str], model: str | None, stream: bool, max_tokens: int) -> list[Body]:
    asked: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "stream": stream}
    if stream:
        asked["stream_options"] = {"include_usage": True}
    headers = {"Content-Type": "application/json"}
    return [(headers, json.dumps({**asked, "prompt": text}).encode()) for text in texts]


def _request(host: str, port: int, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A whole request of HTTP/1.1."""
    name = f"[{host}]" if ":" in host else host
    lines = {"Host": f"{name}:{port}", **headers, "Content-Length": str(len(body))}
    for key, value in lines.items():
        if {"\r", "\n"} & set(f"{key}{value}"):
            raise BadValue(f"header {key!r}: needs one line.")
    head = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body
