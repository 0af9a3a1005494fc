"""Messages between a student's code and the process that judges it: two equal ends of two pipes.

Each end may ask the other to call one of its functions, and answers such requests while it waits.
A message is its length, four bytes, and JSON.
"""

from __future__ import annotations

import builtins
import json
import math
import os
from collections.abc import Callable
from typing import Any

from kit.classroom.limits import wait_a_tick
from kit.classroom.values import Codec, called
from kit.core.errors import KitError


class Ended(KitError):
    """The other end has closed, is too slow, or does not keep to the rules."""


class Peer:
    """One end.

    Parameters
    ----------
    reading, writing
        File descriptors of pipes.
    most_bytes
        The largest message that is taken.
    left_s
        How long it waits for the other end, in all; its own work does not count. Without it, for
        as long as it takes.
    watch
        Is called while it waits; raises if the other process uses too much.
    """

    def __init__(
        self,
        reading: int,
        writing: int,
        most_bytes: int,
        left_s: float = math.inf,
        watch: Callable[[], None] = lambda: None,
    ) -> None:
        self.reading, self.writing, self.most_bytes = reading, writing, most_bytes
        self.left_s, self.watch = left_s, watch
        self.codec = Codec(self.call)

    def send(self, kind: str, value: Any) -> None:
        """Send a value under a name."""
        try:
            self._write(b'{"%s":%s}' % (kind.encode(), self.codec.dumps(value)))
        except Ended:
            raise
        except (ValueError, TypeError, RecursionError) as error:
            self._write(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())

    def receive(self) -> tuple[str, Any]:
        """The next message: its name and its value."""
        try:
            (pair,) = json.loads(self._read(int.from_bytes(self._read(4), "big"))).items()
            return pair[0], self.codec.read(pair[1])
        except Ended:
            raise
        except MemoryError:
            raise Ended("its answer takes too much memory") from None
        except Exception as error:  # the sender can be anybody
            raise Ended("it sent something that is not an answer") from error

    def call(self, number: int, given: list[Any], named: dict[str, Any]) -> Any:
        """Call a function of the other end; what it raised is raised here."""
        self.send("call", (number, given, named))
        while True:
            kind, value = self.receive()
            if kind == "call":
                self._answer(value)
            elif kind == "returned":
                return value
            else:
                name, _, text = str(value).partition(": ")
                known = getattr(builtins, name, None)
                is_error = isinstance(known, type) and issubclass(known, Exception)
                if is_error and known not in (UnicodeDecodeError, UnicodeEncodeError):
                    raise known(text)  # type: ignore[misc]
                raise KitError(str(value))

    def serve(self) -> None:
        """Answer requests until the other end closes."""
        while True:
            kind, value = self.receive()
            if kind == "call":
                self._answer(value)

    def _answer(self, request: Any) -> None:
        try:
            number, given, named = request
            value = called(self.codec.here[number], given, named)
            self.codec.report_modes()
        except Ended:
            raise
        except BaseException as error:
            self.send("raised", f"{type(error).__name__}: {error}"[:500])
        else:
            self.send("returned", value)

    def _write(self, data: bytes) -> None:
        if len(data) > self.most_bytes:
            raise ValueError(f"an answer of {len(data):,} bytes; at most {self.most_bytes:,}")
        data = len(data).to_bytes(4, "big") + data
        while data:
            self._wait([], [self.writing])
            try:
                data = data[os.write(self.writing, data[:65_536]) :]
            except BlockingIOError:
                continue
            except OSError:
                raise Ended("its process has ended") from None

    def _read(self, n: int) -> bytes:
        if n > self.most_bytes:
            raise Ended("it sent something that is not an answer")
        parts = []
        while n:
            self._wait([self.reading], [])
            part = os.read(self.reading, min(n, 65_536))
            if not part:
                raise Ended("its process has ended")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def _wait(self, reading: list[int], writing: list[int]) -> None:
        """Wait until a pipe is ready."""
        while True:
            ready, self.left_s = wait_a_tick(reading, writing, self.left_s)
            if ready:
                return
            if self.left_s <= 0:
                raise Ended("")
            self.watch()
