"""Continuous batching: texts join and leave the batch between tokens.

GenerationEngine  a thread with the model: prefill a chunk, decode a token of each text, again
GeneratedTokens   what `submit` returns: one text's tokens, as they come

Decode is bound by memory: one pass reads all weights, for one text or for sixteen. So a server
lets texts share its passes. A batch that starts and ends together would wait for its longest text;
here a text that has ended makes room at once (Yu et al., "Orca", OSDI 2022). A long prompt is read
in chunks, so that the others' tokens do not wait for all of it (Agrawal et al., "Sarathi-Serve",
OSDI 2024).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from kit.core.checks import check_whole, is_whole
from kit.core.errors import BadValue
from kit.devices import threads_here
from kit.inference.prediction import evaluating
from kit.inference.streaming import stream
from kit.models.checks import check_context, check_generates
from kit.serving.admission import Ticket
from kit.serving.batched_sampling import Sampling
from kit.serving.batching import Observe, Unobserved
from kit.serving.generated_tokens import GeneratedTokens
from kit.serving.generation_batch import GenerationBatch, Text
from kit.serving.refusals import RequestRefused

LATE = "the request waited in the queue until its deadline was over. Send fewer at a time."
STOPPED = "the server stops. Send the request again, to another one."

_log = logging.getLogger(__name__)


class GenerationEngine:
    """Generates many texts at once, on one pre-allocated KV cache, in one thread.

    Each text is the one that `kit.generate` writes alone, whatever else is in the batch. A batch
    rounds differently, which can change a token only if two are nearly tied. Then the engine
    computes this text alone, by the code of `kit.generate`, up to this token. Random tokens have
    noise of their own text's seed.

    Parameters
    ----------
    model
        A GPT of the kit, or a form of one.
    slots
        The most texts at a time. More wait, in the order in which they came.
    context
        The most tokens of a text with its prompt; None: the context of the model. The cache has
        memory for `slots` texts of this length.
    prefill_chunk
        Positions of prompts that are computed between two tokens of the other texts. More fill
        prompts faster; fewer keep the others' pauses short.
    observe
        An observer of waits and times.

    Attributes
    ----------
    exact
        Whether near ties are looked for. The engine measures at the start how a batch rounds this
        model. In half precision, or with rounded activations, near ties would be everywhere. So
        there a text may differ from the one written alone, from a near tie on.
    near_ties
        How many tokens were computed alone so far, because rounding could have decided them.
    passes
        How often the model computed a batch so far.

    Raises
    ------
    BadValue
        The model cannot generate, or a size is out of range.

    Examples
    --------
    >>> import kit, asyncio
    >>> engine = GenerationEngine(kit.models.GPT(), slots=4)
    >>> async def write(prompt):
    ...     return [token async for token in engine.submit(prompt, max_new_tokens=5)]
    >>> async def write_two():
    ...     return await asyncio.gather(write([1, 2, 3]), write([4]))
    >>> [len(new) for new in asyncio.run(write_two())]
    [5, 5]
    >>> engine.close()
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        slots: int = 16,
        context: int | None = None,
        prefill_chunk: int = 64,
        observe: Observe | None = None,
    ):
        check_generates(model)
        config: Any = model.config
        most = config.context
        self.model, self.vocab_size = model, int(config.vocab_size)
        self.context = most if context is None else check_whole("context", context, 2, most)
        self.slots = check_whole("slots", slots)
        self.observe: Observe = observe or Unobserved()
        chunk = check_whole("prefill_chunk", prefill_chunk)
        self._batch = GenerationBatch(model, self.slots, self.context, chunk)
        self._waiting: deque[_Request] = deque()
        self._running: dict[Text, _Request] = {}
        self._news: list[tuple[asyncio.AbstractEventLoop, Callable[[], None]]] = []
        self._changed = threading.Condition()  # held to change what the next line names
        self._closed = self._draining = False
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(ready,), name="kit-generation", daemon=True
        )
        self._thread.start()
        ready.wait()

    # --- For the event loop ----------------------------------------------------------------------

    def submit(
        self,
        prompt: Sequence[int],
        *,
        max_new_tokens: int,
        stop: Sequence[Sequence[int]] = (),
        ticket: Ticket | None = None,
        **sampling: Any,
    ) -> GeneratedTokens:
        """The tokens that follow the prompt. Call it in the event loop that reads them.

        Parameters
        ----------
        prompt
            One text as tokens.
        max_new_tokens
            The greatest number of tokens to write.
        stop
            Several endings, each of tokens in a row; the text ends after the first that it meets.
        ticket
            The request's place, from `Admission.admit`: its deadline holds while it waits.
        sampling
            `temperature` (0: the likeliest), `top_k`, `top_p`, `seed`, as for `kit.generate`.

        Raises
        ------
        BadValue
            An argument is wrong, or prompt and new tokens are longer than the context.
        RequestRefused
            503: the engine was closed or drains. And while you iterate: 504 if the deadline passed
            in the queue, 503 if the engine was closed, 500 if the model failed.
        """
        # What `kit.generate` itself would do, made but not begun: it has checked all arguments,
        # and will decide if two tokens are nearly tied.
        alone = stream(self.model, [prompt], max_new_tokens=max_new_tokens, **sampling)
        row = [int(token) for token in prompt]
        check_context(len(row), max_new_tokens, self.context)
        endings = [self._ending(tokens) for tokens in stop]
        text = Text(row, max_new_tokens, endings, Sampling(**sampling), alone)
        reader = GeneratedTokens(len(row), self.observe, ticket)
        with self._changed:
            if self._closed or self._draining:
                raise RequestRefused(503, STOPPED, retry_after_s=1.0, reason="draining")
            self._waiting.append(_Request(text, reader))
            self._changed.notify()
        return reader

    def _ending(self, tokens: Sequence[int]) -> list[int]:
        """One of `stop`, as a list."""
        row = list(tokens)
        if not row or not all(is_whole(t) and 0 <= t < self.vocab_size for t in row):
            most = self.vocab_size - 1
            raise BadValue(f"stop={row!r}: needs one or more tokens from 0 to {most:,}.")
        return row

    @property
    def waiting(self) -> int:
        """How many texts wait for a slot."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """How many texts have a slot."""
        return len(self._running)

    @property
    def cache_use(self) -> float:
        """The share of the cache's positions that hold a text."""
        return sum(text.cached for text in list(self._running)) / (self.slots * self.context)

    @property
    def exact(self) -> bool:
        """Whether near ties are looked for."""
        return self._batch.rounding > 0

    @property
    def near_ties(self) -> int:
        """How many tokens were computed alone so far."""
        return self._batch.near_ties

    @property
    def passes(self) -> int:
        """How often the model computed a batch so far."""
        return self._batch.passes

    async def drain(self, timeout_s: float = 20.0) -> bool:
        """Refuse new texts, finish those inside, stop the thread; whether all were finished."""
        with self._changed:
            self._draining = True
        ends_s = time.monotonic() + timeout_s
        while (busy := bool(self._waiting or self._running)) and time.monotonic() < ends_s:
            await asyncio.sleep(0.01)
        self.close()
        return not busy

    def close(self) -> None:
        """Stop the thread before the next token; all texts inside get 503."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    # --- In the thread of the model --------------------------------------------------------------

    def _run(self, ready: threading.Event) -> None:
        # Without this question, the first matrix product in a new thread takes all cores,
        # whatever `torch.set_num_threads` said.
        threads_here()
        refused = RequestRefused(503, STOPPED, retry_after_s=1.0, reason="draining")
        with evaluating(self.model), torch.no_grad():
            try:
                self._try_out()
                ready.set()
                # Saves a few per cent. Only after the first pass: what a model makes in it, such
                # as lazy weights, could never be trained with.
                with torch.inference_mode():
                    while self._has_work():
                        self._step()
            except Exception:  # a mistake in this file: nobody may wait for ever
                _log.exception("the generation engine failed")
                failed = "the generation engine failed. The server's log has the details."
                refused = RequestRefused(500, failed, reason="failed")
        with self._changed:
            self._closed = True
            left = [*self._running.values(), *self._waiting]
            self._waiting.clear()
        for request in left:
            self._end(request, refused)
        self._deliver()

    def _try_out(self) -> None:
        """Warm the model up, and see how it rounds."""
        try:
            self._batch.find_rounding()
        except Exception:  # each request will meet this error and report it
            _log.exception("the model failed when the engine tried it")

    def _has_work(self) -> bool:
        """Sleep until there is a text; False when the engine is closed."""
        with self._changed:
            while not (self._closed or self._waiting or self._running):
                self._changed.wait()
            return not self._closed

    def _step(self) -> None:
        """Let texts leave and join, then compute a token of each."""
        for request in list(self._running.values()):
            if request.cancelled:
                self._end(request, "cancelled")
        while self._waiting and len(self._running) < self.slots:
            self._admit(self._waiting[0])
            self._waiting.popleft()  # only now: `drain` must see a text in one of the two places
        for text, token, at_s in self._batch.step():
            request = self._running[text]
            if isinstance(token, Exception):
                self._end(request, RequestRefused(500, str(token), reason="failed"))
                continue
            self._tell(request, partial(GeneratedTokens.receive, token=token, now_s=at_s))
            if text.finish_reason:
                self._end(request, text.finish_reason)
            if texts := self._batch.decoded:  # once per step, by the first text with news
                took_s, self._batch.decoded = self._batch.decode_s, 0
                self._news.append((request.loop, partial(self.observe.on_batch, texts, took_s)))
        self._deliver()

    def _admit(self, request: _Request) -> None:
        """Give a text a slot, unless nobody waits for it any more."""
        now_s = time.monotonic()
        if request.cancelled:
            self._end(request, "cancelled")
        elif now_s > request.expires_s:
            self._end(request, RequestRefused(504, LATE, reason="deadline"))
        else:
            self._batch.join(request.text)
            self._running[request.text] = request
            self._tell(request, partial(GeneratedTokens.start, now_s=now_s))

    def _end(self, request: _Request, how: str | RequestRefused) -> None:
        """Free the text's slot, if it has one, and tell its reader how it ended."""
        if self._running.pop(request.text, None):
            self._batch.leave(request.text)
        self._tell(request, partial(GeneratedTokens.finish, how=how))

    def _tell(self, request: _Request, what: Callable[[GeneratedTokens], None]) -> None:
        """Note what the reader gets in its event loop, after this step."""
        if (reader := request.reader()) is not None:
            self._news.append((request.loop, partial(what, reader)))

    def _deliver(self) -> None:
        """Tell the readers, once per step: waking an event loop costs more than a token."""
        by_loop: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = defaultdict(list)
        for loop, what in self._news:
            by_loop[loop].append(what)
        self._news.clear()
        for loop, news in by_loop.items():
            try:
                loop.call_soon_threadsafe(_tell_all, news)
            except RuntimeError:  # the loop is closed: nobody reads its texts any more
                for request in self._running.values():
                    request.orphaned |= request.loop is loop


class _Request:
    """A text, and who reads it."""

    def __init__(self, text: Text, reader: GeneratedTokens):
        self.text, self.loop, self.expires_s = text, reader.loop, reader.expires_s
        # Weak: a reader that is dropped unread has left.
        self.reader = weakref.ref(reader)
        self.orphaned = False  # its event loop was closed

    @property
    def cancelled(self) -> bool:
        reader = self.reader()
        return self.orphaned or reader is None or reader.cancelled


def _tell_all(news: list[Callable[[], None]]) -> None:
    for what in news:
        what()
