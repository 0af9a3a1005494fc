"""Other programs that keep this machine busy on purpose: what a stopwatch has to cope with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from kit.devices import cores_allowed

# The program ends when its parent is gone, however the parent ended.
BUSY = """
import os
parent = os.getppid()
print(flush=True)
while os.getppid() == parent:
    sorted(range(20_000), key=lambda i: -i)
"""


@contextmanager
def cpu_load(programs: int | None = None) -> Iterator[None]:
    """Other programs keep this machine busy inside the `with` block; they end with it.

    Parameters
    ----------
    programs
        How many programs; None: one for each core that this process may use, at most eight.

    Explained in lesson 03.
    """
    wanted = min(8, int(cores_allowed())) if programs is None else programs
    command = [sys.executable, "-c", BUSY]
    started: list[subprocess.Popen[bytes]] = []
    try:
        started += [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(wanted)]
        for program in started:
            assert program.stdout
            program.stdout.readline()  # the program is running
        yield
    finally:
        for program in started:
            program.kill()
            program.communicate()
