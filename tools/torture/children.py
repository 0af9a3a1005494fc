"""The commands under test: started as a shell would, ended, and what they leave behind."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import psutil

from torture.places import Clock, Place, wait_until

ROOT = Path(__file__).parents[2]
# The Python of an environment with the oldest versions; CONTRIBUTING.md says how to make it.
OLDEST = os.environ.get("KIT_TORTURE_OLDEST", "")
# A computer with one thread for each command: two would wait for each other on a busy machine.
CALM = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg", "OMP_WAIT_POLICY": "PASSIVE"}


class Warm:
    """The process that has imported the kit, in this Python or in another one."""

    all: ClassVar[list["Warm"]] = []

    def __init__(self, clock: Clock, python: str = sys.executable):
        self.clock, self.python = clock, python
        own = {**os.environ, **CALM, **clock.environment, "PYTHONPATH": str(ROOT)}
        own.pop("JPY_PARENT_PID", None)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [python, str(Path(__file__).with_name("warm.py"))]
        self.process = subprocess.Popen(command, env=own, **pipes)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{python} cannot import the kit")
        Warm.all.append(self)
        self._oldest: Warm | None = None

    @property
    def oldest(self) -> "Warm":
        """The same in the Python that has the oldest versions of what the kit needs."""
        if self._oldest is None:
            self._oldest = Warm(self.clock, OLDEST)
        return self._oldest

    def start(self, place: Place, words: list[str], **environment: str) -> "Child":
        """Start a command in the folder `home` of that place."""
        number = sum(path.name.startswith("said-") for path in place.home.iterdir())
        errors = place.home / f"said-{number}"
        order = {
            "words": words,
            "folder": str(place.home),
            "out": str(place.home / f"out-{number}"),
            "errors": str(errors),
            "environment": {
                "KIT_CACHE": str(place.cache),
                "TMPDIR": str(place.temporary),
                **environment,
            },
        }
        errors.touch()
        Path(order["out"]).touch()
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return Child(int(self.process.stdout.readline()), Path(order["out"]), errors)

    def stop(self) -> None:
        """End it, and the one of the oldest versions."""
        if self._oldest:
            self._oldest.stop()
        Warm.all.remove(self)
        self.process.stdin.close()
        self.process.wait(10)


class Child:
    """A running command. It belongs to this process, which adopts orphans."""

    def __init__(self, pid: int, out: Path, errors: Path):
        self.pid, self._out, self._errors = pid, out, errors
        self._code: int | None = None

    def code(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None if it still runs after this time."""
        wait_until(lambda: self.code() is not None, seconds)
        return self._code

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self._errors.read_text("utf-8", "replace")

    @property
    def shown(self) -> str:
        """What it wrote to standard output."""
        return self._out.read_text("utf-8", "replace")

    def family(self) -> list[psutil.Process]:
        """The process and all that it started, as far as they live."""
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.pid)
            return [own, *own.children(recursive=True)]
        return []

    def signal(self, number: int, all_of_it: bool = False) -> None:
        """Send a signal to it, or to everything that it started, too."""
        for process in self.family() if all_of_it else self.family()[:1]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def message_problem(self) -> str:
        """What is wrong with how it ended; "" if it worked, or said what to do in a line."""
        code = self._code
        if code is None:
            return "it neither ends nor says why"
        if code == 0:
            return ""
        if code < 0:
            return f"ended by signal {-code}: {self.last_line()[:200]}"
        if "Traceback (most recent call last)" in self.said:
            return f"ended with a traceback: {self.last_line()[:300]}"
        return "" if self.last_line() else f"ended with code {code} and without a word"

    def last_line(self) -> str:
        """The last line of what it said."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


def left_over(spared: set[int], grace_s: float) -> list[str]:
    """The processes that are still there after the grace, except those spared; they are ended."""
    spared = spared | {warm.process.pid for warm in Warm.all}
    wait_until(lambda: not _living(spared), grace_s)
    found = _living(spared)
    names = []
    for process in found:
        with suppress(psutil.Error):
            names.append(" ".join(process.cmdline())[:120] or process.name())
        with suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    time.sleep(0.05 * bool(found))
    _living(spared)
    return names


def _living(spared: set[int]) -> list[psutil.Process]:
    """All descendants of this process that are neither spared nor dead; the dead are buried."""
    living = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.pid in spared:
                continue
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
            elif process.ppid() == os.getpid():
                with suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
    return living
