"""OpenAI's completions: the protocol that most programs for text speak.

POST /v1/completions  a text that goes on after a prompt: whole, or streamed token by token
GET  /v1/models       the one model that is here

A streamed answer is a sequence of server-sent events: `data: {…}` and an empty line, at the end
`data: [DONE]`. Chunks and whole answers have the same form. Source: the openai client for Python,
`openai/types/completion.py`, `openai/_streaming.py`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from kit.core.errors import BadValue, UnknownName
from kit.serving.admission import Admission, Ticket
from kit.serving.completion_request import CompletionRequest, parse
from kit.serving.continuous_batching import GenerationEngine
from kit.serving.generated_tokens import GeneratedTokens
from kit.serving.refusals import RequestRefused, error_body
from kit.serving.stop_texts import StopTexts
from kit.serving.vocabulary import Vocabulary

GONE = 499  # nginx's number for a client that closed the connection; nobody reads this reply
PATIENCE = "x-stainless-read-timeout"  # the seconds that OpenAI's clients wait for an answer
T = TypeVar("T")


def completion_routes(
    engine: GenerationEngine,
    vocabulary: Vocabulary | None,
    name: str,
    admission: Admission,
) -> list[Route]:
    """Routes of `/v1/models`, `/v1/models/{model}` and `/v1/completions`.

    Without a vocabulary, prompts are lists of tokens, and texts are the tokens' numbers.
    """
    found = _Completions(engine, vocabulary or Vocabulary("numbers"), name, admission)
    return [
        Route("/v1/models", found.models),
        Route("/v1/models/{model}", found.one_model),
        Route("/v1/completions", found.complete, methods=["POST"]),
    ]


def openai_error(refused: RequestRefused) -> JSONResponse:
    """The reply `{"error": {"message", "type", "param", "code"}}`, for everything under /v1."""
    return JSONResponse(_error(refused), refused.status, headers=refused.headers)


def _error(refused: RequestRefused) -> dict[str, Any]:
    return error_body("/v1", refused.status, refused.message)


class _Completions:
    """What each address answers."""

    def __init__(
        self, engine: GenerationEngine, vocabulary: Vocabulary, name: str, admission: Admission
    ):
        self.engine, self.vocabulary, self.admission = engine, vocabulary, admission
        self.model = {"id": name, "object": "model", "created": _now(), "owned_by": "kit"}
        # A prompt as long as the context, with every character as \uXXXX, and all else.
        self.most_bytes = 16_384 + 16 * engine.context
        self.made = 0

    async def models(self, request: Request) -> Response:
        """All models: one."""
        return JSONResponse({"object": "list", "data": [self.model]})

    async def one_model(self, request: Request) -> Response:
        """The model of this name, if it is here."""
        try:
            self._check_name(request.path_params["model"])
        except RequestRefused as refused:
            return openai_error(refused)
        return JSONResponse(self.model)

    def _check_name(self, name: str) -> None:
        if name != (here := self.model["id"]):
            raise RequestRefused(404, f"the model {name!r} is not here; there is {here!r}.")

    async def complete(self, request: Request) -> Response:
        """A text that goes on after the prompt."""
        try:
            # At the door, before the body is read: a full server must not work for nothing.
            ticket = self.admission.admit(scope=request.scope)
        except RequestRefused as refused:
            return openai_error(refused)
        reply: Response | None = None
        try:
            reply = await self._answer(request, ticket)
        except RequestRefused as refused:
            return openai_error(refused)
        except (BadValue, UnknownName) as error:
            return openai_error(RequestRefused(400, str(error)))
        finally:
            if not isinstance(reply, _EventStream):  # which gives its place back when it ends
                ticket.release(finished=reply is not None)
        if reply is None:
            self.engine.observe.on_shed("gone")
        return reply or Response(status_code=GONE)

    async def _answer(self, request: Request, ticket: Ticket) -> Response | None:
        """The reply; None if the client has gone."""
        asked = parse(await self._body(request), self.vocabulary)
        self._check_name(asked.model)
        with suppress(ValueError, RequestRefused):  # a client's own idea of how long it waits
            ticket.shorten(float(request.headers.get(PATIENCE, "nan")))
        tokens = self.engine.submit(
            asked.prompt, max_new_tokens=asked.max_tokens, ticket=ticket, **asked.sampling
        )
        self.made += 1
        answer = _Answer(asked, tokens, self.vocabulary, f"cmpl-{_now()}-{self.made}")
        # The first token decides the status: until it is there, the request can still be refused.
        first = await self._unless_gone(request, answer.first())
        if first is None:
            return None
        if asked.stream:
            return _EventStream(answer, first, ticket, self.engine)
        whole = await self._unless_gone(request, answer.whole(first))
        return None if whole is None else JSONResponse(whole)

    async def _body(self, request: Request) -> bytes:
        """The request's body, if it is not larger than a prompt can be."""
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > self.most_bytes:
                raise RequestRefused(
                    413, f"the body is larger than {self.most_bytes:,} bytes. Send a short prompt."
                )
        return bytes(body)

    async def _unless_gone(self, request: Request, work: Coroutine[Any, Any, T]) -> T | None:
        """What the work gives; None, and the work is cancelled, if the client leaves before."""
        if "gone clients" not in self.admission.protect:
            return await work
        tasks = [asyncio.create_task(work), asyncio.create_task(_left(request))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else None
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _left(request: Request) -> None:
    """Return when the client has closed the connection: nothing else comes after the body."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Answer:
    """One answer: the text so far, whole or as chunks."""

    def __init__(
        self, asked: CompletionRequest, tokens: GeneratedTokens, vocabulary: Vocabulary, name: str
    ):
        self.asked, self.tokens, self.new_tokens = asked, tokens, 0
        self.piece, self.text = vocabulary.decoder(), StopTexts(asked.stop)
        self.prompt = vocabulary.decode(asked.prompt) if asked.echo else ""
        kind = "text_completion"
        self.head = {"id": name, "object": kind, "created": _now(), "model": asked.model}

    async def first(self) -> str:
        """The first piece of text, as soon as there is a token; it may be empty."""
        return self.prompt + self._read(await self.tokens.some())

    async def pieces(self, first: str) -> AsyncIterator[str]:
        """All pieces; `self.text.over` after the last one."""
        yield first
        while not self.text.over:
            yield self._read(await self.tokens.some())

    def _read(self, new: list[int]) -> str:
        """The text of new tokens ([]: there are no more), as far as no stop text can change it."""
        for token in new:
            self.new_tokens += 1
            self.text.add(self.piece(token))
            if self.text.stopped:
                self.tokens.cancel()  # whatever the model has written after it
                return self.text.take()
        if not new:
            self.text.add(self.piece(None))
            self.text.end()
        return self.text.take()

    async def whole(self, first: str) -> dict[str, Any]:
        """The complete answer."""
        text = "".join([piece async for piece in self.pieces(first)])
        return {**self.head, "choices": [self._choice(text)], "usage": self._usage()}

    async def events(self, first: str) -> AsyncIterator[bytes]:
        """The answer as server-sent events."""
        empty = {"usage": None} if self.asked.include_usage else {}
        try:
            async for piece in self.pieces(first):
                if piece or self.text.over:
                    choice = self._choice(piece, last=self.text.over)
                    yield _event({**self.head, "choices": [choice], **empty})
            if self.asked.include_usage:
                yield _event({**self.head, "choices": [], "usage": self._usage()})
        except RequestRefused as refused:
            # The status was sent long ago: only an event can still tell the client.
            yield _event(_error(refused))
        yield b"data: [DONE]\n\n"

    def _choice(self, text: str, last: bool = True) -> dict[str, Any]:
        reason = "stop" if self.text.stopped else self.tokens.finish_reason
        how = {"finish_reason": reason if last else None, "logprobs": None}
        return {"index": 0, "text": text, **how}

    def _usage(self) -> dict[str, int]:
        prompt, new = self.tokens.prompt_tokens, self.new_tokens
        return {"prompt_tokens": prompt, "completion_tokens": new, "total_tokens": prompt + new}


class _EventStream(StreamingResponse):
    """An answer in events; afterwards the request's place and its slot are free, come what may."""

    def __init__(self, answer: _Answer, first: str, ticket: Ticket, engine: GenerationEngine):
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}  # proxies hold none back
        super().__init__(answer.events(first), media_type="text/event-stream", headers=headers)
        self.answer, self.ticket, self.engine = answer, ticket, engine

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Not at the end of the events: nobody reads them to the end when the client has gone.
            over = self.answer.text.over
            self.answer.tokens.cancel()
            self.ticket.release(finished=over)
            if not over and self.answer.tokens.failed is None:
                self.engine.observe.on_shed("gone")


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def _now() -> int:
    return int(time.time())
