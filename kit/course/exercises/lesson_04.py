"""Exercises of lesson 04: a deadline, a full batch, and the samples that a percentile needs."""

from collections.abc import Callable, Mapping

from kit.core.errors import BadValue
from kit.core.statistics import Estimate, samples_needed
from kit.course.exercises.registry import exercise

GAP_MS, CALL_MS, IMAGE_MS, DEADLINE_MS = 0.2, 1.0, 0.1, 6.0  # of the exercise on full batches


@exercise("04-deadline", needs="whole number")
def deadline(answer: int, latency_s: Mapping[int, Estimate], deadline_s: float) -> str | None:
    """Compare `high` of each interval in sweep.latency_s with half of target_ms, in seconds."""
    within = [size for size, time in latency_s.items() if time.high <= deadline_s]
    wanted = max(within, default=0)
    if answer == wanted:
        return None
    if answer not in latency_s and answer:
        return f"{answer} was not measured. Give one of {', '.join(map(str, latency_s))}, or 0."
    if answer in within:
        return f"{answer} keeps the deadline, and so does a larger one."
    if answer and latency_s[answer].value <= deadline_s:
        return f"The median of {answer} is in time, but the end of its interval is not."
    return f"{answer} misses the deadline." if answer else f"{wanted} keeps the deadline."


@exercise("04-full-batch", needs="whole number")
def full_batch(answer: int) -> str | None:
    """Batches of n images arrive every 0.2·n ms. How long does a call take, and who waits most?"""
    if answer < 1:
        return "A batch has at least one image."
    call_ms, filled_ms = CALL_MS + answer * IMAGE_MS, answer * GAP_MS
    if call_ms > filled_ms + 1e-9:
        return (
            f"The next {answer} images arrive within {filled_ms:g} ms, but a call takes "
            f"{call_ms:g} ms: the images pile up. A larger batch needs fewer calls."
        )
    waits_ms = filled_ms - GAP_MS + call_ms
    if waits_ms <= DEADLINE_MS + 1e-9:
        return None
    return (
        f"The first image waits {filled_ms - GAP_MS:g} ms for the last one, and then {call_ms:g} "
        f"ms for the call: {waits_ms:.3g} ms."
    )


@exercise("04-samples", needs="function")
def samples(answer: Callable[[float], int]) -> str | None:
    """None beyond has chance (1 − q)ⁿ, one has n·q·(1 − q)ⁿ⁻¹. Raise n until their sum is 1 %."""
    for percentile in (90, 99, 75):
        given, wanted = answer(percentile), samples_needed(percentile)
        if given == wanted:
            continue
        if isinstance(given, bool) or not isinstance(given, (int, float)):
            raise BadValue(f"it returned {given!r:.40}, not a number of samples")
        at_least_one = next(n for n in range(1, 10_000) if (percentile / 100) ** n <= 0.01)
        if given == at_least_one:
            return "That many show at least one sample beyond the percentile. Two are needed."
        if given in (wanted - 1, wanted + 1):
            return f"For p{percentile} it gives {given:g}, one off: begin to count at n = 2."
        return f"For p{percentile} it gives {given:g}; needed are {wanted}."
    return None
