"""Values as JSON, between the student's code and the process that judges it; never a pickle.

Numbers, texts, lists, dictionaries, sets, tensors, arrays and three results of the kit pass.
A function stays where it is: the other side gets a stand-in that asks for each call. So the code of
a student runs only in its own process, and the judge sees nothing but values.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

DEPTH = 20
ITEMS = 100_000  # of an iterator
SHOWN = 80  # characters of a value that does not pass

Call = Callable[[int, list[Any], dict[str, Any]], Any]  # a function's number, what it is given


class Other:
    """A value of the other side that does not pass: only its description is here."""

    def __init__(self, description: str) -> None:
        self.description = description[:SHOWN]

    def __repr__(self) -> str:
        return self.description


def results() -> dict[str, type]:
    """The results of the kit that an answer may hold, by name."""
    from kit.core.statistics import Estimate
    from kit.inference import Score
    from kit.training import History

    return {each.__name__: each for each in (Estimate, Score, History)}


class Codec:
    """Writes values for the other side, and reads its values.

    Parameters
    ----------
    call
        Calls a function of the other side.
    """

    def __init__(self, call: Call) -> None:
        self.call = call
        self.here: list[Any] = []  # functions and models of this side, by number
        self.models: list[RemoteModel] = []  # of the other side

    def dumps(self, value: Any) -> bytes:
        """A value as JSON."""
        return json.dumps(self._out(value, DEPTH)).encode()

    def loads(self, data: bytes) -> Any:
        """The value that the other side wrote.

        Raises
        ------
        ValueError
            It did not write it by the rules.
        """
        try:
            return self.read(json.loads(data))
        except (ValueError, TypeError, KeyError, RecursionError, RuntimeError) as error:
            raise ValueError(f"not a value: {type(error).__name__}") from error

    def report_modes(self) -> None:
        """Tell the other side in which mode its models were left."""
        for model in self.models:
            self.call(model.number, [], {"training": model.training})
        self.models.clear()

    # --- Out -------------------------------------------------------------------------------------

    def _out(self, value: Any, depth: int) -> Any:
        if depth == 0:
            return {"other": "something nested too deeply"}
        if value is None or isinstance(value, (bool, str)) or type(value) in (int, float):
            return value if not _is_huge(value) else {"other": "a very large whole number"}
        for kinds, write in self._writers():
            if isinstance(value, kinds):
                return write(value, depth - 1)
        if callable(value):
            return {"function": self._keep(value), "name": str(getattr(value, "__name__", ""))}
        return {"other": _described(value)}

    def _writers(self) -> Iterator[tuple[Any, Callable[[Any, int], Any]]]:
        def listed(value: Any, depth: int) -> list[Any]:
            return [self._out(each, depth) for each in islice(value, ITEMS)]

        yield np.generic, lambda value, depth: self._out(value.item(), depth)
        yield int, lambda value, depth: self._out(int(value), depth)
        yield float, lambda value, depth: self._out(float(value), depth)
        yield list, listed
        yield tuple, lambda value, depth: {"tuple": listed(value, depth)}
        yield (set, frozenset), lambda value, depth: {"set": listed(value, depth)}
        yield Mapping, lambda value, depth: {"dict": listed(map(list, value.items()), depth)}
        yield Tensor, lambda value, _: {"tensor": _array_out(value.detach().cpu().numpy())}
        yield np.ndarray, lambda value, _: {"array": _array_out(value)}
        yield nn.Module, lambda value, _: {"model": self._keep(value), "training": value.training}
        yield tuple(results().values()), self._result_out
        yield (Iterator, range, type({}.keys()), type({}.values())), listed

    def _result_out(self, value: Any, depth: int) -> Any:
        names = [each.name for each in fields(value) if each.name != "state"]  # weights: large
        given = {name: getattr(value, name) for name in names}
        return {
            "result": type(value).__name__,
            "fields": {name: self._out(each, depth) for name, each in given.items()},
        }

    def _keep(self, value: Any) -> int:
        self.here.append(value)
        return len(self.here) - 1

    # --- In --------------------------------------------------------------------------------------

    def read(self, data: Any) -> Any:
        """The value of what JSON holds."""
        if isinstance(data, list):
            return [self.read(each) for each in data]
        if not isinstance(data, dict):
            return data
        kind, inside = next(iter(data.items()))
        if kind == "tuple":
            return tuple(map(self.read, inside))
        if kind == "set":
            return set(map(self.read, inside))
        if kind == "dict":
            return {self.read(key): self.read(value) for key, value in inside}
        if kind in ("tensor", "array"):
            array = _array_in(*inside)
            return torch.from_numpy(array) if kind == "tensor" else array
        if kind == "function":
            return self._stand_in(int(inside), str(data["name"]))
        if kind == "model":
            self.models.append(RemoteModel(self, int(inside), bool(data["training"])))
            return self.models[-1]
        if kind == "result":
            return self._result_in(results()[inside], data["fields"])
        return Other(str(inside))

    def _result_in(self, kind: type, given: dict[str, Any]) -> Any:
        assert is_dataclass(kind)
        return kind(**{name: self.read(value) for name, value in given.items()})

    def _stand_in(self, number: int, name: str) -> Callable[..., Any]:
        def stand_in(*given: Any, **named: Any) -> Any:
            return self.call(number, list(given), named)

        stand_in.__name__ = stand_in.__qualname__ = name or "function"
        return stand_in


class RemoteModel(nn.Module):
    """A model of the other side: each forward pass is done there, in the mode that it has here."""

    def __init__(self, codec: Codec, number: int, training: bool) -> None:
        super().__init__()
        self.training = training
        self.codec, self.number = codec, number

    def forward(self, *inputs: Tensor) -> Any:
        """What the model of the other side answers."""
        return self.codec.call(self.number, list(inputs), {"training": self.training})


def called(function: Any, given: list[Any], named: dict[str, Any]) -> Any:
    """Call a function of this side as the other one asked; a model in the mode asked for."""
    if not isinstance(function, nn.Module):
        return function(*given, **named)
    function.train(bool(named.get("training")))
    return function(*given) if given else None


def _is_huge(value: Any) -> bool:
    return type(value) is int and value.bit_length() > 10_000


def _described(value: Any) -> str:
    try:
        return f"{type(value).__name__}: {value!r:.{SHOWN}}"
    except Exception:  # its own __repr__ failed
        return type(value).__name__


def _array_out(array: np.ndarray) -> list[Any]:
    if array.dtype.kind not in "biuf":
        raise TypeError(f"an array of {array.dtype} cannot be an answer")
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return [array.dtype.str, list(array.shape), data]


def _array_in(dtype: str, shape: list[int], data: str) -> np.ndarray:
    if np.dtype(dtype).kind not in "biuf":
        raise ValueError(f"an array of {dtype}")
    return np.frombuffer(base64.b64decode(data), dtype).reshape(shape).copy()
