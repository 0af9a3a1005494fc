"""A model that reads a text on, and says after each place what may come next.

Rereading    all of the text anew for each token, as one does who keeps nothing
Cached       each place once: its keys and values are kept
Replayed     the same, with each step of one token replayed as a CUDA graph

Shapes: B texts, T new places, V tokens of the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


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
            self.cache.back_to(self.cache.length - n)


class Replayed(Cached):
    """A step of one token is some hundred small operations, which Python starts one by one.

    A GPU does each of them in less time than starting it takes. A CUDA graph notes them once, and
    then starts them all together.
    """

    graph: Any = None

    def read(self, tokens: Tensor, last: int) -> Tensor:
        """As `Cached`; what it returns is overwritten by the next call."""
        if tokens.shape[1] > 1 or not self.cache.length:
            logits = super().read(tokens, last)
            self._catch_up()
            return logits
        if self.graph is None:
            self._record(tokens)
        self.token.copy_(tokens)
        self.graph.replay()  # it moves its own place on
        self.cache.advance(1)
        return self.logits

    def forget(self, n: int) -> None:
        """Take back the last n tokens."""
        super().forget(n)
        self._catch_up()

    def _catch_up(self) -> None:
        """Tell the graph where the next place is."""
        if self.graph is not None:
            self.fixed.place.fill_(self.cache.length)

    def _record(self, tokens: Tensor) -> None:
        self.token, self.fixed = tokens.clone(), self.cache.fixed()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries set themselves up, which no graph may hold
            for _ in range(3):
                self.model(self.token, self.fixed, last=1)
                self.fixed.place.fill_(self.cache.length)  # there may be room for one more only
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits = self.model(self.token, self.fixed, last=1)


Reader = Rereading | Cached


def reader_for(
    model: nn.Module, texts: int, room: int, padding: Tensor | None, cache: bool, chunk: int
) -> Reader:
    """The quickest reader for the model's device, or the one that keeps nothing."""
    if not cache:
        return Rereading(model, padding)
    home = next(model.parameters()).device
    kind = Replayed if home.type == "cuda" else Cached
    return kind(model, texts, room, padding, chunk)
