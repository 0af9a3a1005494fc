"""The server's application: a request comes in, is checked, waits, is computed, and answered.

One infer request, in this order: door (`admission`, held by `limits`) → token → body → checks and
arrays (`inference_protocol`) → queue and model (`batching`) → reply; from the body on, all of it in
`infer_call`. A request that finds the
house full stops at the door, before it is parsed. Health and metrics do not pass the door.

Every error is JSON: `{"error": "…"}`, or OpenAI's form under /v1. It says what a check wrote; an
exception's own text and traceback stay in the log.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from functools import lru_cache
from typing import Any

from kit.serving import inference_protocol as protocol
from kit.serving.admission import Admission, Ticket
from kit.serving.batching import DynamicBatcher
from kit.serving.completions import completion_routes
from kit.serving.continuous_batching import GenerationEngine
from kit.serving.flood_memory import FloodMemory, give_back
from kit.serving.infer_call import COUNTED, GONE, InferCall, Write
from kit.serving.metrics import Metrics
from kit.serving.refusals import RequestRefused
from kit.serving.replies import Header, Receive, Scope, Send, send_error, send_reply
from kit.serving.routes import loading, routes
from kit.serving.served_model import ServedModel
from kit.serving.settings import Settings, is_loopback
from kit.serving.vocabulary import Vocabulary

TICK_S = 0.05  # how often waiting requests are asked whether their client is still there
OPEN = {"/v2/health/live", "/v2/health/ready"}  # without the token: they tell nothing
PORT = re.compile(r":\d+$")  # at the end of a Host
GENERATE = "/v1/completions"
Reply = tuple[int, list[Header], bytes]  # status, headers, body


class Application:
    """ASGI: the routes of both protocols around one model, which comes when it is loaded."""

    def __init__(self, settings: Settings):
        self.settings = settings
        self.metrics = Metrics(settings.name)
        self.model: ServedModel | None = None
        self._engine: GenerationEngine | None = None
        self.draining = False
        self._infer_path = f"/v2/models/{settings.name}/infer"
        self._doors: dict[str, Admission] = {}  # path -> whose place a request takes
        self._bearer = f"Bearer {settings.token}".encode() if settings.token else None
        self._waiting: dict[asyncio.Future[Reply], tuple[Receive, InferCall]] = {}
        self._others = routes(self)

    # --- The model's life ------------------------------------------------------------------------

    def open(
        self,
        model: ServedModel,
        engine: GenerationEngine | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """The model is loaded and warm: from now on the server is ready.

        A model that generates comes with its engine, and with a vocabulary if prompts are texts.
        """
        self._batcher = self._new_batcher(model)
        if engine is not None:
            door = self._new_door(GENERATE, self.settings.slots)
            more = completion_routes(engine, vocabulary, self.settings.name, door)
            self._others = routes(self, more)
        self.model, self._engine = model, engine
        self._ticking = asyncio.get_running_loop().create_task(self._tick())

    def change(self, settings: Settings) -> None:
        """Obey other settings; requests that wait in the tensors' queue get 503."""
        self.settings = settings
        if self.model is not None:
            before, self._batcher = self._batcher, self._new_batcher(self.model)
            before.close()

    def _new_batcher(self, model: ServedModel) -> DynamicBatcher:
        """A queue with a door of its own."""
        given = self.settings
        return DynamicBatcher(
            model.predict,
            max_batch=given.max_batch,
            max_wait_s=given.max_wait_s,
            wait_if_idle=given.wait_if_idle,
            admission=self._new_door(self._infer_path, given.max_batch),
            observe=self.metrics,
            threads=given.threads,
        )

    def _new_door(self, path: str, max_batch: int) -> Admission:
        given = self.settings
        self._doors[path] = Admission(
            deadline_s=given.deadline_s,
            max_waiting=given.max_waiting,
            max_batch=max_batch,
            protect=given.protect,
            on_shed=self.metrics.on_shed,
        )
        return self._doors[path]

    def door(self, method: str, path: str) -> Admission | None:
        """Whose place such a request takes; None if it is never refused, such as health."""
        return self._doors.get(path) if method == "POST" else None

    @property
    def ready(self) -> bool:
        """Whether requests are welcome: loaded, warm, and not stopping."""
        return self.model is not None and not self.draining

    async def drain(self, timeout_s: float) -> bool:
        """Not ready from now on; whether all requests inside were answered in time."""
        self.draining = True
        for each in self._doors.values():
            each.drain()
        return all(await asyncio.gather(*(d.empty(timeout_s) for d in self._doors.values())))

    # --- One request -----------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. Infer goes a short way, which saves a framework's routing."""
        if scope["type"] != "http":
            return
        if (refused := self._refusal(scope)) is not None:
            await send_error(scope, send, refused)
        elif scope["path"] == self._infer_path and scope["method"] == "POST":
            await self._infer(scope, receive, send)
        elif scope["path"] == GENERATE:
            await self._generate(scope, receive, send)
        else:
            await self._others(scope, receive, send)

    def _refusal(self, scope: Scope) -> RequestRefused | None:
        """Why this client may not ask: it names another host, or lacks the token."""
        if not self._bearer and not _asks_this_computer(scope):
            return _other_host()
        if self._bearer and scope["path"] not in OPEN and not self._knows_token(scope):
            return _unknown_client()
        return None

    def _knows_token(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return self._bearer is not None and hmac.compare_digest(given, self._bearer)

    async def _infer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        try:
            if self.model is None:
                raise loading()
            with self._doors[self._infer_path].admit(scope=scope) as ticket:
                status, headers, body = await self._reply(scope, receive, ticket)
                if status != GONE:
                    await send_reply(send, status, body, headers)
                ticket.release(finished=status == 200)
        except RequestRefused as refused:
            await send_error(scope, send, refused)
            if refused.reason not in COUNTED:
                self.metrics.on_request(refused.status, time.perf_counter() - began)

    async def _reply(self, scope: Scope, receive: Receive, ticket: Ticket) -> Reply:
        """The reply to a request that was admitted; `GONE` if its client has gone."""
        replied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def write(*reply: Any) -> None:
            if not replied.done():
                replied.set_result(reply)

        call = self.call(ticket, write)
        try:
            body = await read_body(receive, self.settings.max_body_bytes)
            if body is None:
                call.leave()
                return GONE, [], b""
            length = next((v for k, v in scope["headers"] if k == protocol.LENGTH_HEADER), None)
            call.start(body, length)
            self._waiting[replied] = receive, call
            return await replied
        except asyncio.CancelledError:  # by a server that stops
            call.leave()
            raise
        finally:
            self._waiting.pop(replied, None)

    # --- The short path --------------------------------------------------------------------------

    def accepts(self, scope: Scope) -> bool:
        """Whether this is an infer request whose client may ask."""
        infer = scope["path"] == self._infer_path and scope["method"] == "POST"
        return infer and self._refusal(scope) is None

    def call(self, ticket: Ticket, write: Write) -> InferCall:
        """A request to the model, which is loaded."""
        assert self.model is not None
        return InferCall(self.model, self._batcher, self.metrics, ticket, write)

    def left(self, call: InferCall) -> None:
        """The client of this call has gone."""
        if "gone clients" in self.settings.protect:
            call.leave()

    # --- Texts -----------------------------------------------------------------------------------

    async def _generate(self, scope: Scope, receive: Receive, send: Send) -> None:
        """OpenAI's routes answer; here the reply is counted."""
        began, status = time.perf_counter(), GONE

        async def telling(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)  # the first message has it
            await send(message)

        try:
            await self._others(scope, receive, telling)
        finally:
            self.metrics.on_request(status, time.perf_counter() - began)

    # --- Clients that have gone, and gauges ------------------------------------------------------

    async def _tick(self) -> None:
        """Again and again: give up what nobody waits for, and show how long the queue is."""
        memory = FloodMemory()
        while True:
            await asyncio.sleep(TICK_S)
            if memory.is_over(sum(door.refused for door in self._doors.values())):
                await asyncio.to_thread(give_back)
            if "gone clients" in self.settings.protect:
                for replied, (receive, call) in list(self._waiting.items()):
                    if _has_gone(receive) and not replied.done():
                        call.leave()
                        replied.set_result((GONE, [], b""))
            self.gauge()

    def gauge(self) -> None:
        """Show in the metrics how many requests are inside now."""
        doors = self._doors.values()
        self.metrics.waiting.set(sum(each.waiting for each in doors))
        self.metrics.running.set(sum(each.running for each in doors))
        if self._engine is not None:
            self.metrics.cache_usage.set(self._engine.cache_use)


async def read_body(receive: Receive, most_bytes: int) -> bytes | None:
    """The body of a request, if it is not too large; None if its client has gone."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most_bytes:
            raise RequestRefused(413, f"the body is larger than {most_bytes:,} bytes.")
        if not message.get("more_body"):
            return b"".join(parts) if len(parts) > 1 else parts[0]


def _has_gone(receive: Receive) -> bool:
    """Whether the client closed the connection: one look, without waiting.

    After the body, the next message can only be the client's departure. If it is there, `receive`
    returns at once; otherwise it would wait, and is closed.
    """
    asking: Any = receive()
    try:
        asking.send(None)
    except StopIteration as message:
        return bool(message.value["type"] == "http.disconnect")
    asking.close()
    return False


def _asks_this_computer(scope: Scope) -> bool:
    """Whether the request names a loopback address, as every honest client does.

    A web page can make its own name lead here ("DNS rebinding"), and would read the replies.
    """
    for name, value in scope["headers"]:
        if name == b"host":
            return _names_this_computer(value)
    return True  # HTTP/1.0


@lru_cache(maxsize=256)  # clients repeat their Host; to read an address takes 5 µs
def _names_this_computer(host: bytes) -> bool:
    return is_loopback(PORT.sub("", host.decode("latin-1")).strip("[]"))


def _other_host() -> RequestRefused:
    needed = "needs a Host of this computer, such as localhost; for others, set a token."
    return RequestRefused(421, needed)


def _unknown_client() -> RequestRefused:
    return RequestRefused(401, "needs the server's token: Authorization: Bearer TOKEN.")
