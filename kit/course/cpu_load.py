"""Busy programs beside this one, on purpose: what a stopwatch has to bear."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kit.devices import cores_allowed

# It ends by itself when whoever started it is gone, however that came.
BUSY = """
import os
started_by = os.getppid()
print(flush=True)
while os.getppid() == started_by:
    sorted(range(20_000), key=lambda i: -i)
"""


@contextmanager
def neighbours(programs: int | None = None) -> Iterator[None]:
    """While it lasts, other programs keep this machine busy; at its end they are ended.

    Parameters
    ----------
    programs
        How many; None: one for each core that this process may use, eight at most.

    Explained in lesson 03.
    """
    wanted = min(8, int(cores_allowed())) if programs is None else programs
    command = [sys.executable, "-c", BUSY]
    started: list[subprocess.Popen[bytes]] = []
    try:
        started += [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(wanted)]
        for program in started:
            assert program.stdout
            program.stdout.readline()  # it runs
        yield
    finally:
        for program in started:
            program.kill()
            program.communicate()
