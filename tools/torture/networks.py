"""Parts that talk to another program: downloads, and sweeps on a Dask cluster.

Each has a network that can stall: the server of the files pauses, or a relay before the scheduler
passes nothing on.
"""

import hashlib
import json
import random
import re
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from torture.children import Child
from torture.parts import Part, Sweep, is_json
from torture.places import wait_until

# --- Downloads -----------------------------------------------------------------------------------

CONTENT = random.Random(0).randbytes(2**20)
BLOCK_BYTES, PAUSE_S = 2**14, 0.02  # the server takes 1.3 s for the file
FETCHER = """
import sys
from kit.core.errors import KitError
from kit.data import downloads
downloads.TIMEOUT_S, downloads.PAUSES_S = 1.0, (0.0, 0.1, 0.2)
try:
    file = downloads.File("a/thing.bin", int(sys.argv[2]), sys.argv[3], (sys.argv[1],))
    print(downloads.fetch(file))
except KitError as error:
    sys.exit(f"Error: {error}")
"""


class Slow(BaseHTTPRequestHandler):
    """Sends the file block by block, also the rest only; waits while the network stalls."""

    def do_GET(self):
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(asked[1]) if asked else 0
        self.server.asked.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.send_header("ETag", '"1"')
        self.end_headers()
        with suppress(OSError):  # the other side has gone
            for at in range(start, len(CONTENT), BLOCK_BYTES):
                self.server.flows.wait()
                self.wfile.write(CONTENT[at : at + BLOCK_BYTES])
                time.sleep(PAUSE_S)

    def log_message(self, *_):
        pass


class Downloads(Part):
    """`kit.data.downloads.fetch`: bytes that have come are not asked for again."""

    name = "downloads"
    network = "the server of the files"
    span_s = 0.4

    def prepare(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
        self.server.daemon_threads, self.server.asked = True, []
        self.server.flows = threading.Event()
        self.server.flows.set()
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.script = self.place.home / "fetch.py"
        self.script.write_text(FETCHER)
        # What a user sets who has a small home: the cache is on the disk under test.
        self.place.cache = self.place.out
        self.path = self.place.out / "downloads" / "a" / "thing.bin"

    def words(self):
        url = f"http://127.0.0.1:{self.server.server_port}/"
        digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
        return [str(self.script), url, str(len(CONTENT)), digest]

    def finished(self):
        part = self.path.with_name("thing.bin.part")
        sizes = [path.stat().st_size for path in (self.path, part) if path.exists()]
        return {"bytes": max(sizes)} if sizes and max(sizes) else {}

    def half(self):
        there = self.path.exists() and self.path.read_bytes() != CONTENT
        return ["the file has other bytes"] * there

    def complete(self):
        mark = self.path.with_name("thing.bin.mark")
        wrong = not self.path.exists() or self.half() or mark.exists()
        return ["the file is not there, or a mark is"] if wrong else []

    def stall(self, seconds: float) -> None:
        """Send nothing for this time."""
        self.server.flows.clear()
        time.sleep(seconds)
        self.server.flows.set()

    def close(self):
        self.server.flows.set()
        self.server.shutdown()
        self.server.server_close()


# --- A Dask cluster ------------------------------------------------------------------------------


class Relay:
    """Passes bytes on between a port of its own and another one, unless it stalls."""

    def __init__(self, port: int):
        self.target, self.flows = port, threading.Event()
        self.flows.set()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                here, _ = self.listening.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source, target):
        with suppress(OSError):
            while data := source.recv(65_536):
                self.flows.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


class DaskSweep(Sweep):
    """`kit sweep --scheduler`: as a sweep here, with a scheduler and two workers of its own."""

    name = "sweep on Dask"
    network = "the scheduler"
    span_s = 2.0

    def prepare(self):
        super().prepare()
        self.file = self.place.home / "scheduler.json"
        self.members: list[Child] = [self._member("scheduler", "--port", "0")]
        wait_until(lambda: self.file.exists() and is_json(self.file), 60)
        self.relay = Relay(int(json.loads(self.file.read_text())["address"].rpartition(":")[2]))
        self.members += [self._worker(), self._worker()]

    def _member(self, kind: str, *more: str) -> Child:
        place = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(self.file)]
        return self.warm.start(self.place, ["-m", f"distributed.cli.dask_{kind}", *place, *more])

    def _worker(self) -> Child:
        folder = str(self.place.home / f"worker-{self.rng.random()}")
        how = ["--nthreads", "1", "--no-nanny", "--local-directory", folder]
        return self._member("worker", *how)

    def words(self):
        return [*super().words(), "--scheduler", f"tcp://127.0.0.1:{self.relay.port}"]

    def victims(self, child):
        """The client, or a worker: a machine that goes away."""
        return [child.pid, self.members[1].pid]

    def stall(self, seconds: float) -> None:
        """Pass nothing on for this time."""
        self.relay.flows.clear()
        time.sleep(seconds)
        self.relay.flows.set()

    def go_on(self):
        for member in [each for each in self.members[1:] if each.code() is not None]:
            self.members.remove(member)
            self.members.append(self._worker())
        return super().go_on()

    def close(self):
        if relay := getattr(self, "relay", None):
            relay.listening.close()
            relay.flows.set()
        for member in self.members:
            member.signal(9, all_of_it=False)
            member.wait(10)
