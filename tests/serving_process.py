"""Servers for tests: the real application, in a process of its own, with a model made for tests.

`kit.serve` takes models that travel in a file. A model that sleeps for a known time, and limits of
half a second, are only for tests; everything else here is what `kit.serve` runs.
"""

import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODEL = "/v2/models/model"


def main(told):
    """In the new process: serve until the parent ends it."""
    import asyncio

    import numpy as np
    import torch
    import uvicorn

    from kit.serving.application import Application
    from kit.serving.limits import Limits, uvicorn_settings
    from kit.serving.served_model import served
    from kit.serving.settings import Settings

    class Slow(torch.nn.Linear):
        """One batch takes `sleep_s`, however many rows it has."""

        def forward(self, inputs):
            time.sleep(told["sleep_s"])
            return super().forward(inputs)

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            self.config.loaded_app.open(served(Slow(4, 2), {"x": np.zeros((1, 4), np.float32)}))
            port = self.servers[0].sockets[0].getsockname()[1]
            print(applications.index(self.config.loaded_app), port, flush=True)

    applications = [Application(Settings(**settings)) for settings in told["settings"]]

    async def serve(application):
        refused = application.metrics.on_refused
        limits = Limits(**told["limits"])
        limits = uvicorn_settings(application.door, limits, refused, application)
        await Server(
            uvicorn.Config(application, port=0, log_config=None, lifespan="off", **limits)
        ).serve()

    async def serve_all():
        await asyncio.gather(*map(serve, applications))

    loop = uvicorn.Config(None).get_loop_factory()  # uvloop where it exists, as `kit.serve` has it
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(serve_all())


@contextlib.contextmanager
def serving(*settings, sleep_s=0.0, limits=None):
    """A server for each of the settings, all in one process."""
    settings = settings or ({},)
    told = json.dumps({"sleep_s": sleep_s, "limits": limits or {}, "settings": settings})
    command = [sys.executable, __file__, told]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=log) as process,
    ):
        try:
            # Servers that start together may be ready in any order, so each says its number.
            ready = (process.stdout.readline().split() for _ in settings)
            ports = dict(sorted((int(number), int(port)) for number, port in ready))
            yield [Served(port, process, log) for port in ports.values()]
        finally:
            process.kill()


class Served:
    """What a test needs to know of a server."""

    def __init__(self, port, process, log):
        self.port = port
        self.process = process
        self._log = log

    @property
    def log(self):
        self._log.seek(0)
        return self._log.read().decode()

    def connect(self):
        """A connection; reading from it never takes longer than ten seconds."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def resident_bytes(self):
        import psutil

        return psutil.Process(self.process.pid).memory_info().rss

    def metric(self, name, label=""):
        """The sum of a metric over its labels, or over those with one in particular."""
        text = self.ask(request("GET", "/metrics"))[2].decode()
        labels = f"{{.*{label}.*}}" if label else "(?:{.*})?"
        return sum(float(v) for v in re.findall(rf"^{name}{labels} (\S+)$", text, re.MULTILINE))

    def ask(self, data, finish=False):
        """Send these bytes; status, headers and body of the answer, or None without an answer."""
        with self.connect() as connection:
            with contextlib.suppress(ConnectionError):  # refused before all was sent
                connection.sendall(data)
                if finish:
                    connection.shutdown(socket.SHUT_WR)
            return answer(connection)


def answer(connection):
    """Status, headers and body of the next answer; None if the connection ended without."""
    received = b""
    while b"\r\n\r\n" not in received:
        try:
            part = connection.recv(65536)
        except ConnectionError:
            return None
        if not part:
            return None
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    while len(body) < int(headers.get("content-length", 0)):
        body += connection.recv(65536)
    return int(first.split()[1]), headers, body


def request(method, path, body=b"", headers=(), length=None):
    """The bytes of a request; `length` claims another length of the body."""
    length = len(body) if length is None else length
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def infer(body=None, **changes):
    """The bytes of an infer request: a good one, or one with another body or another tensor."""
    if body is None:
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
        body = json.dumps({"inputs": [{**tensor, **changes}]}).encode()
    return request("POST", f"{MODEL}/infer", body)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(json.loads(sys.argv[1]))
