"""One text of the generation engine as its reader sees it: tokens, as they come."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator

from kit.serving.admission import Ticket
from kit.serving.batching import Observe
from kit.serving.refusals import RequestRefused


class GeneratedTokens(AsyncIterator[int]):
    """The new tokens of one text, as they come: `async for token in engine.submit(…)`.

    A reader that leaves early calls `cancel()`, cancels the task that waits for the next token, or
    drops this object: then the text's slot is free before the next token of the others.

    Attributes
    ----------
    tokens
        All new tokens so far, read or not.
    finish_reason
        "stop" or "length"; None before the end.
    failed
        The error that ended the text, if there was one.
    prompt_tokens
        The number of tokens in the prompt.
    """

    def __init__(self, prompt_tokens: int, observe: Observe, ticket: Ticket | None):
        self.prompt_tokens, self.tokens = prompt_tokens, list[int]()
        self.finish_reason: str | None = None
        self.loop = asyncio.get_running_loop()
        self.cancelled = False  # read by the engine's thread: a single word needs no lock
        self.arrived_s = time.monotonic() if ticket is None else ticket.arrived_s
        self.expires_s = math.inf if ticket is None else ticket.expires_s
        self._ticket, self._observe = ticket, observe
        self._read = 0  # how many of the tokens the reader has got
        self._last_s: float | None = None
        self._over = False
        self.failed: RequestRefused | None = None
        self._news: asyncio.Future[None] | None = None  # what a waiting reader waits for

    def __aiter__(self) -> GeneratedTokens:
        return self

    async def __anext__(self) -> int:
        await self._wait()
        if self._read == len(self.tokens):
            raise StopAsyncIteration
        self._read += 1
        return self.tokens[self._read - 1]

    async def some(self) -> list[int]:
        """All tokens that have come since the last call, at least one; [] at the end.

        A reader that is slower than the model gets several at a time.
        """
        await self._wait()
        new = self.tokens[self._read :]
        self._read = len(self.tokens)
        return new

    async def rest(self) -> list[int]:
        """All tokens, when the text has ended."""
        while await self.some():
            pass
        return self.tokens

    async def _wait(self) -> None:
        """Wait for a token that was not read, or for the end; raise the error that ended it."""
        while self._read == len(self.tokens) and not self._over:
            self._news = self.loop.create_future()
            try:
                await self._news
            except asyncio.CancelledError:
                self.cancel()
                raise
            finally:
                self._news = None
        if self._read == len(self.tokens) and self.failed is not None:
            raise self.failed

    def cancel(self) -> None:
        """Nobody wants the rest: the text's slot is free before the next token."""
        self.cancelled = True

    # --- Called in the event loop, with what the engine's thread has noted ------------------------

    def start(self, now_s: float) -> None:
        """The text has left the queue."""
        if self._ticket is not None:
            self._ticket.start()
        self._observe.on_queue(now_s - self.arrived_s)

    def receive(self, token: int, now_s: float) -> None:
        """A token has come."""
        if self._last_s is None:
            self._observe.on_first_token(now_s - self.arrived_s)
        else:
            self._observe.on_token(now_s - self._last_s)
        self._last_s = now_s
        self.tokens.append(token)
        self._wake()

    def finish(self, how: str | RequestRefused) -> None:
        """The text has ended: the finish reason, or the error."""
        self._over = True
        if isinstance(how, RequestRefused):
            self.failed = how
            if how.reason in ("deadline", "draining"):
                self._observe.on_shed(how.reason)
        else:
            self.finish_reason = how
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
