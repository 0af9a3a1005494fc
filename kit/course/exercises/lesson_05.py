"""Exercises of lesson 05: explaining a slow GPU."""

import math
from collections.abc import Callable

from kit.core.checks import is_number
from kit.core.errors import KitError
from kit.course.exercises.registry import WrongForm, exercise, near

CAUSES = ("start", "copy", "wait", "dtype")
SLOW_RUNS = {"A": "start", "B": "copy", "C": "dtype", "D": "wait"}
CLUES = {  # what points to the cause of each run
    "A": "Run A: neither a larger batch nor a wider model takes longer, and the GPU is mostly "
    "idle. What does a step do equally often for little work and for much?",
    "B": "Run B: eight times the batch takes eight times as long, a wider model does not, and the "
    "GPU waits. What grows with the batch only?",
    "C": "Run C: the GPU is always busy, but does a hundredth of the work it could do in float32. "
    "In which dtype does it compute?",
    "D": "Run D: it is the only run that gets faster when the loss is read less often.",
}
STEP_FLOPS = 6 * 256  # of the exercise's step, divided by the square of the width
ACCELERATORS = (  # extra seconds, FLOP/s of the CPU, FLOP/s of the accelerator
    (2e-4, 1.5e11, 2e13),
    (5e-3, 1e11, 4e11),
    (1e-4, 2e11, 2e11),
    (3e-4, 1e12, 5e11),
)


@exercise("05-slow-runs")
def slow_runs(answer: dict[str, str]) -> str | None:
    """For each run ask: which changes made a difference, and which did not?"""
    if not isinstance(answer, dict) or set(answer) != set(SLOW_RUNS):
        return WrongForm("Give a dictionary with a cause for each of 'A', 'B', 'C' and 'D'.")
    for run, cause in SLOW_RUNS.items():
        if answer[run] not in CAUSES:
            return f"Run {run}: {answer[run]!r} is none of the causes: {', '.join(CAUSES)}."
        if answer[run] != cause:
            return CLUES[run]
    return None


def wanted_width(extra_s: float, cpu_rate: float, rate: float) -> float | None:
    """The width at which CPU and accelerator take the same time; None if there is none."""
    if rate <= cpu_rate:
        return None
    return math.sqrt(extra_s / (STEP_FLOPS * (1 / cpu_rate - 1 / rate)))


@exercise("05-crossover", needs="function")
def crossover(answer: Callable[[float, float, float], float | None]) -> str | None:
    """Write both times as an equation: work ÷ cpu_rate = extra_s + work ÷ rate. Solve for width."""
    for extra_s, cpu_rate, rate in ACCELERATORS:
        wanted = wanted_width(extra_s, cpu_rate, rate)
        try:
            given = answer(extra_s, cpu_rate, rate)
        except (ZeroDivisionError, ValueError):
            given = math.nan
        if hint := _crossover_hint(given, wanted, extra_s, cpu_rate):
            return f"For crossover({extra_s:g}, {cpu_rate:g}, {rate:g}): {hint}"
    return None


def _crossover_hint(
    given: object, wanted: float | None, extra_s: float, cpu_rate: float
) -> str | None:
    """A hint for one answer; None if it is right."""
    if wanted is None:
        never = "here the accelerator is not faster than the CPU, so it never catches up: None."
        return None if given is None else never
    if given is None:
        return "it returned None, but a faster chip does catch up."
    if not is_number(given):
        raise KitError(f"it returned {given!r}, not a number")
    if near(given, wanted, within=1e-6):
        return None
    if near(given, wanted**2, within=1e-6):
        return "that is the width squared."
    if near(given, math.sqrt(extra_s * cpu_rate / STEP_FLOPS), within=1e-6):
        return "that ignores the time of the accelerator. It takes work ÷ rate as well."
    return f"it gives {given:.4g}; wanted {wanted:.4g}."
