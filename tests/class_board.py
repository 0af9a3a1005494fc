"""A class board in a process of its own, as `kit class` starts it, and what is sent to it."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path


class RunningBoard:
    """The command `kit class` in a folder; `kill` ends it without a chance to say goodbye."""

    def __init__(self, folder: Path, *options: str):
        self.folder = folder
        command = [sys.executable, "-m", "kit", "class", *options, "--out", str(folder)]
        self.process = subprocess.Popen(
            [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        self.lines = [self.process.stdout.readline() for _ in range(3)]
        if not self.lines[-1]:
            raise RuntimeError(self.process.communicate()[1])
        self.url, self.secret = re.search(r"(http://\S+)/#(\S+)", self.lines[0]).groups()
        self.code, self.where = re.search(r'join\("(\w+)", "(\S+)"\)', self.lines[2]).groups()
        self.port = int(self.url.rpartition(":")[2])

    def post(self, path: str, body: object, key: str = "", **headers: str) -> tuple[int, dict]:
        """The status and the answer; `body` is sent as it is if it is bytes."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json", "authorization": f"Bearer {key}", **headers}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("POST", path, data, sent)
        reply = connection.getresponse()
        found = reply.status, json.loads(reply.read() or b"{}")
        connection.close()
        return found

    def join(self, nickname: str = "") -> str:
        """The token of a new student."""
        status, found = self.post("/api/join", {"code": self.code, "nickname": nickname})
        assert status == 200, found
        return found["token"]

    def view(self, key: str | None = None) -> dict:
        """What a page gets first."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"authorization": f"Bearer {key or self.secret}"}
        connection.request("GET", "/api/board", headers=headers)
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        line = reply.readline()
        connection.close()
        return json.loads(line.removeprefix(b"data: "))

    def teacher(self, do: str) -> int:
        """What the teacher's buttons do; the status."""
        return self.post("/api/teacher", {"do": do}, self.secret)[0]

    def kill(self) -> None:
        """End it as a power failure would."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> tuple[int, str]:
        """The exit code and what it says when it is asked to stop."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


def events(folder: Path, kind: str) -> list[dict]:
    """The events of a kind in the records of a class."""
    lines = (folder / "board.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines if line.endswith("}")]
    return [each for each in found if each["event"] == kind]


def permissions(path: Path) -> int:
    """Who may read and write a file."""
    return os.stat(path).st_mode & 0o777
