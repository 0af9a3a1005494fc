"""Read notebooks that other people wrote within limits; refuse the rest with a reason.

Students hand in files, and groups share folders. So only an ordinary file (no link, no pipe) is
opened, and only up to a size. Its records are checked before they are used: their shape, depth,
length and number. What passes is plain text without control characters, numbers, and booleans.
"""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

from kit.core.errors import BadValue
from kit.core.files import read_file

# A lesson of the course has 0.7 MB and 20 records of up to 300 values each.
NOTEBOOK_BYTES = 20_000_000  # as Python objects, JSON takes up to 25 times its size
NOTEBOOKS = 20_000  # in a folder
RECORDS = 1_000  # in a notebook
VALUES = 200_000  # in a notebook's records
DEPTH = 10  # of a record
TEXT = 2_000  # characters
NAME = 200  # characters

# Characters that control a terminal, or change the direction of the text after them.
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+")

NUMBER = (int, float, type(None))  # None: unknown
WORDS = (str, type(None))
OBJECT = (dict, type(None))
NEEDED: dict[Any, str] = {
    NUMBER: "a number",
    bool: "true or false",
    list: "a list",
    OBJECT: "an object",
}
ESTIMATE = {"value": NUMBER, "low": NUMBER, "high": NUMBER}

# What reports need, by kind of record. A record may have more fields; other kinds are unchecked.
SHAPES: dict[str, dict[str, Any]] = {
    "Machine": {
        **dict.fromkeys(("cpu", "accelerator", "torch", "system"), WORDS),
        **dict.fromkeys(("cores_allowed", "threads"), NUMBER),
    },
    "Verdict": {"claim_id": str, "claim": str, "verdict": str},
    "RunCost": {
        **dict.fromkeys(("workload", "model", "device", "precision", "technique"), str),
        **dict.fromkeys(("conditions", "score_measure"), str),
        **dict.fromkeys(("batch_size", "params", "target_share", "untrained_score_share"), NUMBER),
        "seed": NUMBER,
        "doubts": list,
        "reached": bool,
        "score_share": ESTIMATE,
        "training": dict.fromkeys(("seconds_s", "step_s", "memory_bytes"), NUMBER),
        "inference": {"one_example_s": ESTIMATE, "batch_s": ESTIMATE, "memory_bytes": NUMBER},
        "ratio": {"step_time": ESTIMATE, "step_flops": NUMBER},
        "limit": {"matmul_flops_per_s": OBJECT, "step_share": NUMBER},
    },
}


def find_notebooks(folder: Path) -> list[Path]:
    """All *.ipynb files in a folder and inside it, sorted.

    Hidden folders inside it, such as .venv, are left out; links to folders are not followed.

    Raises
    ------
    BadValue
        The folder does not exist, or it has more than `NOTEBOOKS` notebooks.
    """
    if not folder.is_dir():
        raise BadValue(f"{folder}: no such folder; give one with executed notebooks.")
    paths: list[Path] = []
    for where, inside, files in os.walk(folder):
        inside[:] = [name for name in inside if not name.startswith(".")]
        paths += [Path(where, name) for name in (*inside, *files) if name.endswith(".ipynb")]
        if len(paths) > NOTEBOOKS:
            raise BadValue(
                f"{folder}: has more than {NOTEBOOKS:,} notebooks; give a folder inside it."
            )
    return sorted(paths)


def read_json(path: Path) -> Any:
    """The JSON in a file; NaN becomes None, which means unknown.

    Raises
    ------
    OSError
        It is a link, not an ordinary file, or larger than `NOTEBOOK_BYTES`.
    ValueError
        It is not JSON in UTF-8.
    """
    text = read_file(path, NOTEBOOK_BYTES).decode("utf-8-sig")
    constants = {"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}
    return json.loads(text, parse_constant=constants.get)


def safe_line(given: Any, what: str, most: int = TEXT) -> str:
    r"""The text in one line, without control characters and lone surrogates, cut to a length.

    >>> safe_line("a\n\x1b[31mb", "error"), safe_line("abcdef", "name", 3)
    ('a [31mb', 'abc…')
    """
    if not isinstance(given, str):
        raise ValueError(f"{what} is {_called(given)}; needs text")
    text = " ".join(printable(given[: most + 1]).split())
    return f"{text[:most]}…" if len(given) > most else text


def printable(text: str) -> str:
    r"""The text without characters that control a terminal; its lines stay.

    >>> printable("a\x1b[2J\nb")
    'a [2J\nb'
    """
    text = re.sub(r"[\ud800-\udfff]", "\ufffd", text)
    return CONTROL.sub(" ", text)


def plain_object(given: Any, what: str) -> dict[str, Any]:
    """A JSON object in which all text is plain.

    Raises
    ------
    ValueError
        It is not an object, is nested too deeply, or has a number that is too large.
    """
    if not isinstance(given, dict):
        raise ValueError(f"{what} is {_called(given)}; needs an object")
    return {safe_line(key, what, NAME): _plain(value, what, DEPTH) for key, value in given.items()}


def _plain(given: Any, what: str, depth: int) -> Any:
    if depth == 0:
        raise ValueError(f"{what} is nested too deeply; needs at most {DEPTH} levels")
    if isinstance(given, dict):
        return {safe_line(k, what, NAME): _plain(v, what, depth - 1) for k, v in given.items()}
    if isinstance(given, list):
        return [_plain(value, what, depth - 1) for value in given]
    if isinstance(given, int) and abs(given) >= 2**63:  # booleans are ints, but small
        if given.bit_length() > 1_000:
            raise ValueError(f"{what} has {_called(given)}; needs a number below 1e301")
        return float(given)
    return safe_line(given, what) if isinstance(given, str) else given


def values_in(given: Any) -> int:
    """The number of values in a JSON value."""
    stack, n = [given], 0
    while stack:
        each = stack.pop()
        n += 1
        stack.extend(each.values() if isinstance(each, dict) else ())
        stack.extend(each if isinstance(each, list) else ())
    return n


def checked_records(records: list[Any]) -> tuple[dict[str, Any], ...]:
    """The records of a notebook, with plain text, each in the shape of its kind.

    Raises
    ------
    ValueError
        There are too many, or they are too large, or one has the wrong shape: what it needs.
    """
    if len(records) > RECORDS:
        raise ValueError(f"it has {len(records):,} records; needs at most {RECORDS:,}")
    if (values := sum(map(values_in, records))) > VALUES:
        raise ValueError(f"its records have {values:,} values; need at most {VALUES:,}")
    return tuple(_record(record, i) for i, record in enumerate(records, 1))


def _record(given: Any, i: int) -> dict[str, Any]:
    record = plain_object(given, f"record {i}")
    kind = safe_line(record.get("kind"), f"the kind of record {i}", NAME)
    _check(record, SHAPES.get(kind, {}), f"record {i}, {kind}")
    return record


def _check(given: dict[str, Any], shape: dict[str, Any], what: str) -> None:
    for name, needed in shape.items():
        field, value = f"{what}: {name}", given.get(name)
        if isinstance(needed, dict):
            _check(plain_object(value, field), needed, field)
        elif not isinstance(value, needed) or (needed is NUMBER and isinstance(value, bool)):
            raise ValueError(f"{field} is {_called(value)}; needs {NEEDED.get(needed, 'text')}")


def _called(given: Any) -> str:
    """The type of a value in a few words, without the value itself."""
    if isinstance(given, (dict, list)):
        return f"{'an object' if isinstance(given, dict) else 'a list'} of {len(given):,}"
    if isinstance(given, int) and not isinstance(given, bool):
        return "a whole number" if given.bit_length() < 64 else "a very large whole number"
    names = {bool: "true or false", str: "text", float: "a number", type(None): "missing"}
    return names.get(type(given), type(given).__name__)
