"""What a stopwatch has to cope with: other programs that keep this machine busy on purpose.

cpu_load        starts them, and ends them
stopwatch_says  what a stopwatch with or without good habits says while they start half-way
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kit.core.statistics import median
from kit.core.units import words
from kit.devices import cores_allowed
from kit.measurement.comparison import decide
from kit.plots import Picture, lines

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


def stopwatch_says(
    seconds: Callable[[Callable[[], Any]], float],
    base: Callable[[], Any],
    more: Callable[[], Any],
    truth: float,
    *,
    warms_up: bool,
    repeats: bool,
    takes_turns: bool,
    knows_noise: bool,
) -> Picture:
    """The ratio of two calls in each round, as a stopwatch finds it, beside the true ratio.

    Half-way, other programs begin to keep the machine busy.

    Parameters
    ----------
    seconds
        Times one call.
    base, more, truth
        The calls, and how many times as long the second one really takes.
    warms_up, repeats, takes_turns
        Whether each call is made five times before, timed sixteen times, and timed in turns.
    knows_noise
        Whether it decides by the interval and the noise floor; otherwise any difference counts.

    Explained in lesson 03.
    """
    rounds = 16 if repeats else 1
    for call in (base, more) * (5 if warms_up else 0):
        seconds(call)
    names = ["base", "more"] * rounds if takes_turns else ["base"] * rounds + ["more"] * rounds
    calls, times = {"base": base, "more": more}, []
    times += [seconds(calls[name]) for name in names[:rounds]]
    with cpu_load():
        times += [seconds(calls[name]) for name in names[rounds:]]
    taken = {n: [t for name, t in zip(names, times, strict=True) if name == n] for n in calls}
    ratios = [m / b for b, m in zip(*taken.values(), strict=True)]
    found = median(ratios, "×")
    careless = f"{words(found.value, '×')}: {'slower' if found.value > 1 else 'faster'}"
    says = f"{found}: {decide(found)}" if knows_noise else careless
    numbers = list(range(1, rounds + 1))
    return lines(
        {"each round": (numbers, ratios), "what it says": (numbers, [found.value] * rounds)},
        "round",
        "second call ÷ first call",
        level=("the truth", truth),
        caption=f"The stopwatch says {says}. The truth is {words(truth, '×')}.",
    )
