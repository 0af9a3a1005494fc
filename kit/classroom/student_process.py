"""The process in which a student's code runs, seen from both sides.

`StudentProcess` starts it as a fork of the judge: limited, and isolated where it can be.
It runs the code, sends the value of the answer, and then calls the answer's function when asked.
It decides nothing: what it says is only what the student's code could say anyway.
"""

from __future__ import annotations

import ast
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.classroom.answers import HOOK
from kit.classroom.isolation import HOME, start_isolated
from kit.classroom.limits import Limits, end_all_children, own_bytes, resident_bytes, set_limits
from kit.classroom.messages import Ended, Peer
from kit.classroom.system_calls import refuse_calls

WORDS = {"LANG": "C.UTF-8", "PATH": "/usr/bin:/bin", "USER": "student", "MPLBACKEND": "Agg"}
Cells = Sequence[tuple[int, ast.Module]]
ENDED_ITSELF = "it ended its own process, or used more than it may"


@dataclass(frozen=True)
class Room:
    """Where code runs: its limits, and whether the system isolates it."""

    limits: Limits
    place: Path  # an empty folder, for the root folder of an isolated process
    isolated: bool
    hidden: tuple[Path, ...] = ()


class StudentProcess:
    """The judge's side: start, receive the answer, end."""

    def __init__(self, cells: Cells, names: dict[str, Any], room: Room) -> None:
        self.room, self.home = room, ""
        there, here = os.pipe(), os.pipe()  # to the code, and from it
        limits = room.limits
        if not room.isolated:
            self.home = tempfile.mkdtemp(prefix="kit-student-")
        self.begun_bytes = resident_bytes()

        def body() -> None:
            student_side(cells, names, there[0], here[1], room, self.home or HOME)

        if room.isolated:
            self.guard = start_isolated(
                body,
                lambda reason: os.write(here[1], reason),
                room.place,
                room.hidden,
                limits.file_bytes,
            )
        else:
            self.guard = _start_limited(body)
        for number in (there[0], here[1]):
            os.close(number)
        os.set_blocking(there[1], False)
        self.peer = Peer(here[0], there[1], limits.message_bytes, limits.seconds_s, self._watch)

    def _watch(self) -> None:
        """Raise if the code uses more memory than it may, with all its processes together."""
        used = own_bytes(self.guard, self.begun_bytes)
        if used > self.room.limits.memory_bytes:
            raise Ended(f"it used more than {self.room.limits.memory_bytes / 1e9:g} GB of memory")

    def why(self, error: Ended) -> str:
        """Why the code has ended, in words for its author."""
        if str(error) and "has ended" not in str(error):
            return str(error)
        limits, code = self.room.limits, self._code()
        if code is None or code == -signal.SIGXCPU:
            return f"it did not end within {limits.seconds_s:g} s"
        return ENDED_ITSELF

    def _code(self) -> int | None:
        """How the process ended; None if it runs."""
        for _ in range(20):
            with suppress(ChildProcessError):
                number, status = os.waitpid(self.guard, os.WNOHANG)
                if number:
                    code = os.waitstatus_to_exitcode(status)
                    return code - 256 if code > 127 else code
            time.sleep(0.01)
        return None

    def end(self) -> None:
        """End it and all that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.guard, signal.SIGTERM if self.room.isolated else signal.SIGKILL)
        end_all_children()
        with suppress(ChildProcessError):
            os.waitpid(self.guard, 0)
        for number in (self.peer.reading, self.peer.writing):
            os.close(number)
        if self.home:
            shutil.rmtree(self.home, ignore_errors=True)


def _start_limited(body: Any) -> int:
    """Fork a process in a group of its own, with limits only."""
    process = os.fork()
    if process:
        return process
    try:
        os.setsid()
        body()
    finally:
        os._exit(70)


# --- The student's side --------------------------------------------------------------------------


def student_side(
    cells: Cells, names: dict[str, Any], reading: int, writing: int, room: Room, home: str
) -> None:
    """Run the code, send its answer, and answer calls. Never returns to the caller's code."""
    reading, writing = _only_files(reading, writing)
    os.environ.clear()
    os.environ.update(WORDS, HOME=home, TMPDIR=home, KIT_CACHE=f"{home}/cache")
    os.chdir(home)
    tempfile.tempdir = None
    set_limits(room.limits)
    if not room.isolated:
        with suppress(OSError):  # not on this system: then only the limits hold
            refuse_calls()
    peer = Peer(reading, writing, room.limits.message_bytes)
    with suppress(Ended):
        peer.send(*run_cells(cells, names))
        peer.serve()
    os._exit(0)


def _only_files(*wanted: int) -> list[int]:
    """Close every file but these; nothing is read from stdin, and what is printed is dropped."""
    nothing = os.open(os.devnull, os.O_RDWR)
    moved = [os.dup(number) for number in wanted]  # none of them is 0, 1 or 2
    for number in (0, 1, 2):
        os.dup2(nothing, number)
    last = max([*moved, nothing]) + 1
    for number in range(3, last):
        if number not in moved:
            with suppress(OSError):
                os.close(number)
    os.closerange(last, 4_096)
    sys.stdin, sys.stdout, sys.stderr = (open(n, m) for n, m in ((0, "r"), (1, "w"), (2, "w")))  # noqa: SIM115
    return moved


def run_cells(cells: Cells, names: dict[str, Any]) -> tuple[str, Any]:
    """Run cells one after the other; ("answer", its value), or ("error", the reason)."""
    answers: list[Any] = []
    names = {**names, "__name__": "__main__", "display": lambda *_, **__: None}
    problems: list[str] = []

    def hook(answer: Any = None) -> bool:
        answers.append(answer)
        return True

    for index, tree in cells:
        names[HOOK] = hook
        try:
            exec(compile(tree, f"<code cell {index + 1}>", "exec"), names)
        except BaseException as error:
            said = f"{error}".split("\n")[0][:200]
            problems.append(f"code cell {index + 1} raised {type(error).__name__}: {said}")
    answered = [answer for answer in answers if answer is not None and answer is not ...]
    if answered:
        return "answer", answered[-1]
    return ("error", problems[-1]) if problems else ("answer", None)
