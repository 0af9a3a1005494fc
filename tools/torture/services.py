"""Parts that go on until somebody stops them: the server of a model, and the board of a class.

Clients ask while the blow falls. What was answered counts as finished.
"""

import http.client
import json
import re
import signal
import socket
import threading
import time
from contextlib import suppress

from torture.children import Child
from torture.parts import LIMIT_S, Part
from torture.places import wait_until

READY_S = 120.0


class Service(Part):
    """A part with a port, and a client that asks again and again."""

    network = "a client that stops in the middle of its message"
    port = 0
    asked = 0

    def start(self):
        child = super().start()
        self.child = child
        return child

    def begun(self):
        """Whether it is ready, with a client that asks."""
        if not self.port and (ready := self.is_ready(self.child)):
            self.port, self.ends = ready, threading.Event()
            self.client = threading.Thread(target=self._ask_on, daemon=True)
            self.client.start()
        return bool(self.finished())

    def _ask_on(self):
        while not self.ends.wait(0.02):
            with suppress(OSError, http.client.HTTPException, ValueError):
                self.ask()

    def post(self, path: str, body: object, key: str = "") -> tuple[int, dict]:
        """The status and the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            sent = {"content-type": "application/json", "authorization": f"Bearer {key}"}
            connection.request("POST", path, json.dumps(body), sent)
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read() or b"{}")
        finally:
            connection.close()

    def stall(self, seconds: float) -> None:
        """Forty clients stop in the middle of a message; a client that does not must be served."""
        before = len(self.finished())
        stalled = [socket.create_connection(("127.0.0.1", self.port), 5) for _ in range(40)]
        for each in stalled:
            each.sendall(b"POST /v2 HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nx")
        time.sleep(seconds)
        for each in stalled:
            each.close()
        if len(self.finished()) <= before:
            self.troubles.append("nobody was served beside clients that stall")

    troubles: list[str]

    def settle(self, child):
        """Ask once more, if it still runs; then stop it as a user would."""
        problems = list(getattr(self, "troubles", []))
        if child.wait(0.5) is None:
            served = len(self.finished())
            if not wait_until(
                lambda: len(self.finished()) > served or child.code() is not None, 15
            ):
                problems.append("it runs, and it answers no client")
            if child.code() is None:
                child.signal(signal.SIGTERM)
                child.wait(LIMIT_S)
        self.ends.set()
        self.client.join(10)
        problem = child.message_problem()
        return [*problems, problem] if problem else problems

    def go_on(self):
        """Start it again at the same port, ask, and stop it."""
        old = self.port
        # A killed process with several threads is counted as dead before its last thread is.
        if not wait_until(lambda: not listens(old), 5):
            return [f"somebody still listens at port {old}"], ""
        child = self.start()
        wait_until(lambda: self.is_ready(child) or child.code() is not None, READY_S)
        if not self.is_ready(child):
            return [f"the next start is not ready: {child.last_line()[:300]}"], ""
        problems = [] if self.is_ready(child) == old else ["it has another port"]
        problems += self.complete()
        child.signal(signal.SIGTERM)
        if (code := child.wait(LIMIT_S)) != 0:
            problems.append(f"stopped, it ended with {code}: {child.last_line()[:200]}")
        return problems + self.drafts(), child.last_line()


def listens(port: int) -> bool:
    """Whether somebody takes connections there."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


MAKER = """
import sys, torch, kit
torch.manual_seed(0)
kit.save(sys.argv[1], kit.models.MLP(kit.models.MLPConfig(hidden=8)))
"""


class Serving(Service):
    """`kit serve`: each answer is the right one; no process, port or folder outlives it."""

    name = "serving"
    computes = True

    def prepare(self):
        self.model, self.troubles = self.place.out / "model.kit", []
        script = self.place.home / "maker.py"
        script.write_text(MAKER)
        assert self.warm.start(self.place, [str(script), str(self.model)]).wait(LIMIT_S) == 0
        self.workers = self.rng.choice((1, 2))
        self.body = {
            "inputs": [{"name": "input", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}]
        }
        self.answers: list[object] = []

    def words(self):
        more = ["--workers", str(self.workers)]
        return ["kit", "serve", str(self.model), "--port", str(self.port), *more]

    def is_ready(self, child: Child) -> int:
        """Its port, once it has said it."""
        found = re.search(r"served at http://[^:]+:(\d+)", child.shown)
        return int(found[1]) if found else 0

    def ask(self):
        """One prediction."""
        status, found = self.post("/v2/models/model/infer", self.body)
        if status == 200:
            self.answers.append(json.dumps(found["outputs"]))

    def finished(self):
        return dict.fromkeys(range(len(self.answers)), 1)

    def half(self):
        differ = len(set(self.answers)) > 1
        return ["two answers to one question differ"] * differ

    def complete(self):
        self.ask()
        return self.half()

    def starts_read_only(self, child):
        """It may run: a server keeps nothing, and its private folder can be elsewhere."""
        wait_until(lambda: self.is_ready(child) or child.code() is not None, READY_S)
        if child.code() is None:
            child.signal(signal.SIGTERM)
            child.wait(LIMIT_S)
        problem = child.message_problem()
        return [problem] if problem else []

    def victims(self, child):
        """The command, or one of the server's processes."""
        return [each.pid for each in child.family()]

    def drafts(self):
        """The private folders of servers that have gone."""
        wait_until(lambda: not list(self.place.temporary.glob("kit-serve-*")), 10)
        left = sorted(self.place.temporary.glob("kit-serve-*"))
        return super().drafts() + [f"the folder {each.name} is left" for each in left]


class ClassBoard(Service):
    """`kit class`: a guess that was confirmed is on the board after each restart."""

    name = "class board"

    def prepare(self):
        self.folder, self.token, self.troubles = self.place.out / "class", "", []
        self.code = self.secret = ""

    def words(self):
        files = ["--out", str(self.folder), "--port", str(self.port)]
        return ["kit", "class", "02", *files]

    def is_ready(self, child):
        """Its port, once it has said it."""
        found = re.search(r"http://\S+?:(\d+)/#(\S+)", child.shown)
        code = re.search(r'join\("(\w+)"', child.shown)
        if not found or not code:
            return 0
        self.secret, self.code = found[2], code[1]
        return int(found[1])

    def ask(self):
        """A new student, or the next guess of the one who joined."""
        if not self.token:
            self.token = self.post("/api/join", {"code": self.code, "nickname": "Ada"})[1]["token"]
        guess = {"question": "02-1", "guess": self.asked + 1}
        if self.post("/api/guess", guess, self.token)[0] == 200:
            self.asked += 1

    def finished(self):
        return dict.fromkeys(range(self.asked), 1)

    def _guesses(self):
        """The guesses in the records, by a reader that is not the kit's."""
        found = []
        for line in (self.folder / "board.jsonl").read_bytes().splitlines():
            with suppress(ValueError):
                event = json.loads(line)
                if event.get("event") == "guess":
                    found.append(event["guess"])
        return found

    def half(self):
        if not self.asked:
            return []
        lost = set(range(1, self.asked + 1)) - set(self._guesses())
        return [f"{len(lost)} confirmed guesses are not in the records"] * bool(lost)

    def complete(self):
        status, _ = self.post("/api/guess", {"question": "02-1", "guess": 7}, self.token)
        known = [] if status == 200 else [f"the student who had joined gets {status}"]
        return known + self.half()
