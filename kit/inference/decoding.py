"""A model that reads a text on, and says after each place what may come next.

Rereading    all of the text anew for each token, as one does who keeps nothing
Cached       each place once: its keys and values are kept
Stepping     the same, with each step of one token compiled, or replayed as a CUDA graph

Shapes: B texts, T new places, V tokens of the vocabulary.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kit.core.errors import NotSupported, UnknownName
from kit.devices import compiling, lacks_compiler
from kit.models.kv_cache import StaticCache

STEPS = ("auto", "plain", "graph", "compiled")
ROOM = 128  # places by which a fixed cache grows from one size to the next


class Rereading:
    """Reads all of the text anew for each token: the slow and obvious way."""

    def __init__(self, model: Any, padding: Tensor | None):
        self.model, self.padding = model, padding
        self.text: Tensor | None = None
        self.cache_bytes = 0

    def read(self, tokens: Tensor, last: int) -> Tensor:
        """Logits (B, last, V) after the last places of the text and these tokens (B, T)."""
        self.text = tokens if self.text is None else torch.cat([self.text, tokens], 1)
        if self.padding is None:
            return self.model(self.text, last=last)
        once: Any = self.model.cache(*self.text.shape, self.padding)  # it knows who sees whom
        return self.model(self.text, once, last=last)

    def forget(self, n: int) -> None:
        """Take back the last n tokens."""
        if n and self.text is not None:
            self.text = self.text[:, :-n]


class Cached:
    """Reads each place once, and keeps its keys and values.

    A long prompt is read in chunks, so that what a layer computes of it at once stays small.
    """

    def __init__(self, model: Any, texts: int, room: int, padding: Tensor | None, chunk: int):
        self.model, self.chunk = model, chunk
        self.cache: Any = model.cache(texts, room, padding)
        self.cache_bytes: int = self.cache.bytes

    def read(self, tokens: Tensor, last: int) -> Tensor:
        """Logits (B, last, V) after the last of these tokens (B, T), which follow what was read."""
        if tokens.shape[1] <= self.chunk:
            return self.model(tokens, self.cache, last=last)
        *before, end = tokens.split(self.chunk, 1)
        for part in before:
            self.model(part, self.cache, last=1)
        return self.model(end, self.cache, last=last)

    def forget(self, n: int) -> None:
        """Take back the last n tokens."""
        if n:
            self.cache.truncate(self.cache.length - n)


class Stepping(Cached):
    """Reads each further token by a step that is always the same: the same shapes and addresses.

    A step is some hundred small operations, which Python starts one by one. A GPU does each of
    them in less time than starting it takes. So the step is compiled, which makes few operations
    of many, or replayed as a CUDA graph, which starts them all at once, or both.
    """

    def __init__(
        self, model: Any, texts: int, room: int, padding: Tensor | None, chunk: int, compile: bool
    ):
        room = min(-(-room // ROOM) * ROOM, model.config.context)  # few sizes: compiled once each
        super().__init__(model, texts, room, padding, chunk)
        self.step = _compiled_for(model) if compile else _step
        self.fixed: StaticCache | None = None  # from the first step on
        self.graph: torch.cuda.CUDAGraph | None = None

    def read(self, tokens: Tensor, last: int) -> Tensor:
        """As `Cached`; what it returns may be overwritten by the next call."""
        if tokens.shape[1] > 1 or not self.cache.length:
            logits = super().read(tokens, last)
            self._catch_up()
            return logits
        if self.fixed is None:
            self.token, self.fixed = tokens.clone(), self.cache.static()
            if tokens.is_cuda:
                self._record(self.fixed)
        self.token.copy_(tokens)
        if self.graph is None:
            self.logits = self.step(self.model, self.token, self.fixed)
        else:
            self.graph.replay()
        self.cache.advance(1)  # the static one counts its own position
        return self.logits

    def forget(self, n: int) -> None:
        """Take back the last n tokens."""
        super().forget(n)
        if n:
            self._catch_up()

    def _catch_up(self) -> None:
        """Tell the step where the next place is, after something else has read."""
        if self.fixed is not None:
            self.fixed.position.fill_(self.cache.length)

    def _record(self, fixed: StaticCache) -> None:
        """The step as a CUDA graph."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries set themselves up, which no graph may hold
            for _ in range(3):
                self.step(self.model, self.token, fixed)
                self._catch_up()  # there may be room for one more token only
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = self.step(self.model, self.token, fixed)


def _step(model: Any, token: Tensor, cache: StaticCache) -> Tensor:
    return model(token, cache, last=1)


def _compiled_for(model: nn.Module) -> Any:
    """The step compiled for that model: the same one each time, so that it compiles once."""
    if model not in _COMPILED:
        _COMPILED[model] = torch.compile(_step, dynamic=False, **compiling())
    return _COMPILED[model]


_COMPILED: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
Reader = Rereading | Cached


def reader_for(
    model: nn.Module,
    texts: int,
    room: int,
    padding: Tensor | None,
    *,
    cache: bool,
    chunk: int,
    step: str,
) -> Reader:
    """The reader that keeps nothing, or the one whose further steps are made in that way."""
    if not cache:
        return Rereading(model, padding)
    if step == "plain":
        return Cached(model, texts, room, padding, chunk)
    return Stepping(model, texts, room, padding, chunk, compile=step == "compiled")


def step_for(step: str, device: torch.device) -> str:
    """One of `STEPS` for that device.

    Raises
    ------
    UnknownName
        There is no such way.
    NotSupported
        It cannot be had on that device: why, and what can.
    """
    if step not in STEPS:
        raise UnknownName("step", step, STEPS)
    if step == "auto":
        return "graph" if device.type == "cuda" else "plain"
    reason = lacks_compiler(device) if step == "compiled" else ""
    if step == "graph" and device.type != "cuda":
        reason = "CUDA graphs are for CUDA"
    if reason:
        raise NotSupported(f"step={step!r} on {device}: {reason}. step='auto' works.", reason)
    return step
