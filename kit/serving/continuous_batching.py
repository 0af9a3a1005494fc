"""Continuous batching: texts join and leave the batch between tokens (stub: the signatures stand)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from torch import nn

from kit.serving.admission import Ticket
from kit.serving.batching import Observe


class GeneratedTokens(AsyncIterator[int]):
    """The new tokens of one text, as they come. Iterate over it; leave early with `cancel()`."""

    finish_reason: str | None  # "stop" or "length", None before the end

    async def __anext__(self) -> int:
        raise NotImplementedError

    def cancel(self) -> None:
        """Nobody wants the rest: the text's slot is free before the next token."""
        raise NotImplementedError


class GenerationEngine:
    """Generates many texts at once, on one pre-allocated KV cache, in one thread."""

    def __init__(
        self,
        model: nn.Module,
        *,
        slots: int = 16,
        context: int | None = None,
        prefill_chunk: int = 64,
        observe: Observe | None = None,
        threads: int = 1,
    ):
        raise NotImplementedError

    def submit(
        self,
        prompt: Sequence[int],
        *,
        max_new_tokens: int,
        stop: Sequence[Sequence[int]] = (),
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        ticket: Ticket | None = None,
    ) -> GeneratedTokens:
        """The tokens that follow the prompt. Call it in the event loop that reads them."""
        raise NotImplementedError

    async def drain(self, timeout_s: float = 20.0) -> bool:
        """Refuse new texts, finish those inside, stop the thread; whether all were finished."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the thread before the next token; all texts inside get 503."""
        raise NotImplementedError
