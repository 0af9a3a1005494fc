"""A small real server for the tests of traffic: known service times, and every way to fail."""

import asyncio
import json
import threading
from contextlib import contextmanager

from kit.loadgen.http_client import new_loop
from kit.loadgen.null_server import NullServer

SERVICE_S = 0.004  # of /queue, which answers one request after another
METADATA = {
    "name": "model",
    "platform": "test",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}],
}


def answer(status=200, body=b"hi", head=""):
    return b"HTTP/1.1 %d X\r\n%sContent-Length: %d\r\n\r\n%s" % (
        status,
        head.encode(),
        len(body),
        body,
    )


def told(value):
    return answer(body=json.dumps(value).encode())


class State:
    """What the server has seen, for all connections."""

    def __init__(self):
        self.busy_until = 0.0
        self.requests = []  # (path, head, body)
        self.connections = 0
        self.lost = 0  # connections that the client closed before an answer
        self.text = False  # whether its model is for text
        self.port = 0


class Connection(NullServer):
    def __init__(self, state):
        super().__init__()
        self.state, self.waiting = state, False

    def connection_made(self, transport):
        super().connection_made(transport)
        self.loop = asyncio.get_running_loop()
        self.state.connections += 1

    def connection_lost(self, exc):
        self.state.lost += self.waiting

    def requested(self, head, body):
        path = head.split(b" ")[1].decode()
        self.state.requests.append((path, head, body))
        self.reply(path.strip("/").replace("/", "_").replace("-", "_"), body)

    def reply(self, name, body):
        getattr(self, name, self.missing)(body)

    def send(self, data, wait_s=0.0):
        self.waiting = True
        self.loop.call_later(wait_s, self.write, data)

    def write(self, data):
        self.waiting = False
        self.transport.write(data)

    def missing(self, body):
        self.send(answer(404, b'{"error": "no such address"}'))

    def queue(self, body):
        """One server, one request after another, each for the same time: the D/1 of M/D/1."""
        now = self.loop.time()
        self.state.busy_until = max(now, self.state.busy_until) + SERVICE_S
        self.send(answer(), self.state.busy_until - now)

    def quick(self, body):
        self.send(answer())

    def slow(self, body):
        self.send(answer(), 0.02)

    def full(self, body):
        self.send(answer(503, b'{"error": "full"}', "retry-after-ms: 5\r\n"))

    def second_time(self, body):
        again = sum(
            path == "/second-time" and sent == body for path, _, sent in self.state.requests
        )
        self.full(body) if again % 2 else self.quick(body)

    def never(self, body):
        self.waiting = True

    def drops(self, body):
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
        self.transport.close()

    def pieces(self, body):
        self.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")

    def closes(self, body):
        self.transport.write(b"HTTP/1.1 200 OK\r\n\r\nhi")
        self.transport.close()

    def nonsense(self, body):
        self.send(b"SSH-2.0-OpenSSH_9\r\n\r\n")

    def v2(self, body):
        self.send(told({"name": "test", "version": "1", "extensions": []}))

    def v2_models_model(self, body):
        self.missing(body) if self.state.text else self.send(told(METADATA))

    def v2_models_model_infer(self, body):
        self.send(told({"model_name": "model", "outputs": []}))

    def v1_models(self, body):
        data = [{"id": "writer", "object": "model"}] if self.state.text else []
        self.send(told({"object": "list", "data": data}))

    def v1_completions(self, body):
        """As many tokens as asked for, one every 5 ms, the first after 20 ms."""
        asked = json.loads(body)
        count = asked["max_tokens"]
        usage = {"completion_tokens": count}
        if not asked["stream"]:
            self.send(told({"choices": [{"index": 0, "text": "a" * count}], "usage": usage}), 0.02)
            return
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        events = [{"choices": [{"index": 0, "text": "a"}]} for _ in range(count)]
        if asked["prompt"] == "fail":
            events[-1] = {"error": {"message": "lost"}}
        pieces = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in events]
        pieces[-1] += b'data: {"choices": [], "usage": %s}\n\n' % json.dumps(usage).encode()
        pieces[-1] += b"data: [DONE]\n\n"
        for i, piece in enumerate(pieces):
            chunk = b"%x\r\n%s\r\n" % (len(piece), piece)
            last = b"0\r\n\r\n" if i == count - 1 else b""
            self.send((head if i == 0 else b"") + chunk + last, 0.02 + 0.005 * i)


@contextmanager
def serving():
    """A running server in a thread; gives its state."""
    state, ready, loop = State(), threading.Event(), new_loop()

    async def run():
        server = await loop.create_server(lambda: Connection(state), "127.0.0.1", 0)
        state.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(run(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield state
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
