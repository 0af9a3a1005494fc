"""Exercises of lesson 05: explaining a slow GPU. A docstring is the first hint."""

import math
from collections.abc import Callable

from kit.core.errors import KitError
from kit.course.exercises.lesson_00 import near

CAUSES = ("start", "copy", "wait", "dtype")
SLOW_RUNS = {"A": "start", "B": "copy", "C": "dtype", "D": "wait"}
TELLING = {  # of each run, what points to its cause
    "A": "Run A: neither a larger batch nor a wider model takes longer, and the GPU hardly works. "
    "What does a step do as often for little work as for much?",
    "B": "Run B: eight times the batch takes eight times as long, a wider model does not, and the "
    "GPU waits. What grows with the batch only?",
    "C": "Run C: the GPU never rests and yet does a hundredth of what it could in float32. In "
    "what does it compute?",
    "D": "Run D: it is the one run that gets faster when the loss is read seldom.",
}
STEP_FLOPS = 6 * 256  # of the exercise's step, per square of the width
ACCELERATORS = (  # seconds more, FLOP/s of the CPU, FLOP/s of the accelerator
    (2e-4, 1.5e11, 2e13),
    (5e-3, 1e11, 4e11),
    (1e-4, 2e11, 2e11),
    (3e-4, 1e12, 5e11),
)


def slow_runs(answer: dict[str, str]) -> str | None:
    """For each run ask: which of the changes made a difference, and which made none?"""
    if not isinstance(answer, dict) or set(answer) != set(SLOW_RUNS):
        return "Give a dictionary with a cause for each of 'A', 'B', 'C' and 'D'."
    for run, cause in SLOW_RUNS.items():
        if answer[run] not in CAUSES:
            return f"Run {run}: {answer[run]!r} is none of the causes: {', '.join(CAUSES)}."
        if answer[run] != cause:
            return TELLING[run]
    return None


def token_time(answer: float) -> str | None:
    """How many bytes are all the weights together, and how long does it take to read them once?"""
    weights, rate = 70e9 / 2, 50e9
    if near(answer, weights / rate):
        return None
    if near(answer, rate / weights):
        return "That is tokens per second. Seconds per token, please."
    if near(answer, 2 * 70e9 / rate):
        return "That is with two bytes per parameter. Here each takes half a byte."
    if near(answer, 70e9 / rate):
        return "That is with one byte per parameter. Here each takes half a byte."
    return "70 billion × half a byte, divided by 50 billion bytes per second."


def wanted_width(extra_s: float, cpu_rate: float, rate: float) -> float | None:
    """The width at which CPU and accelerator take the same time; None if there is none."""
    if rate <= cpu_rate:
        return None
    return math.sqrt(extra_s / (STEP_FLOPS * (1 / cpu_rate - 1 / rate)))


def crossover(answer: Callable[[float, float, float], float | None]) -> str | None:
    """Write both times as an equation: work ÷ cpu_rate = extra_s + work ÷ rate. Solve for width."""
    if not callable(answer):
        return "Give the function itself, without calling it."
    for extra_s, cpu_rate, rate in ACCELERATORS:
        wanted = wanted_width(extra_s, cpu_rate, rate)
        try:
            given = answer(extra_s, cpu_rate, rate)
        except (ZeroDivisionError, ValueError):
            given = math.nan
        hint = _about(given, wanted, extra_s, cpu_rate)
        if hint:
            return f"For crossover({extra_s:g}, {cpu_rate:g}, {rate:g}): {hint}"
    return None


def _about(given: object, wanted: float | None, extra_s: float, cpu_rate: float) -> str | None:
    """What is wrong with one answer; None if nothing is."""
    if wanted is None:
        told = "here the accelerator computes no faster than the CPU, so it never catches up: None."
        return None if given is None else told
    if given is None:
        return "it returned None, but a faster chip does catch up."
    if isinstance(given, complex) or not isinstance(given, (int, float)):
        raise KitError(f"it returned {given!r}, not a number")
    if near(given, wanted, within=1e-6):
        return None
    if near(given, wanted**2, within=1e-6):
        return "that is the width squared."
    if near(given, math.sqrt(extra_s * cpu_rate / STEP_FLOPS), within=1e-6):
        return "the accelerator computes in no time here. It takes work ÷ rate as well."
    return f"it gives {given:.4g}; wanted {wanted:.4g}."


EXERCISES: dict[str, Callable[..., str | None]] = {
    "05-slow-runs": slow_runs,
    "05-token-time": token_time,
    "05-crossover": crossover,
}
