"""Exercises about servers: how many users, how long a queue, and a latency with its wait."""

import math
from collections.abc import Callable, Mapping, Sequence

from kit.core.statistics import Estimate
from kit.course.exercises.registry import exercise, hint_for_number

LESSON_THINK_S = 20  # in the lesson's first cell, unless the reader changes it
# A server whose batches take the same time, full or not; of the exercise on the queue's bound.
MAX_BATCH, BATCH_MS, DEADLINE_MS = 8, 20, 100
IN_TIME = DEADLINE_MS // BATCH_MS  # batches that end within the deadline
QUEUE_BOUND = (IN_TIME - 1) * MAX_BATCH  # when a request arrives, one of them is running already

Queue = Callable[[Sequence[float], float], list[float]]
# Arrivals and the work for each, in s: always busy, idle at times, all at once, not in order.
CASES = (
    ((0.0, 1.0, 2.0, 3.0), 2.0),
    ((5.0, 6.0, 20.0, 20.5), 2.0),
    ((3.0, 3.0, 3.0, 7.25), 0.5),
    ((4.0, 0.0, 1.0, 20.0), 2.0),
)


@exercise("11-users", needs="number")
def users(
    answer: float, rate: float | Estimate | None, think_s: float, latency_s: float | Estimate
) -> str | None:
    """How often does a user ask? Once per think time + latency. How many of them make the rate?"""
    per_s, latency = Estimate.of(rate or 0.0).value, Estimate.of(latency_s).value
    right = per_s * (think_s + latency)
    if abs(answer - right) < max(1, 0.005 * right):  # rounded: the rate is not better known
        return None
    mistakes = {
        per_s * think_s: "A user also waits for the answer: add the latency to the think time.",
        per_s * (LESSON_THINK_S + latency): f"That is for users who think for {LESSON_THINK_S} s, "
        "as in the line below the table. These think longer.",
        per_s * latency: "That many requests are in the server. Users who think are missing.",
        per_s: "That many users would have to ask once per second each. They ask less often.",
        per_s / (think_s + latency or 1): "Each user asks only from time to time, so the server "
        "can have more users than requests per second. Multiply.",
        60 * right: "The rate is per second already, and the times are in seconds: no 60.",
        3600 * right: "The rate is per second already, and the times are in seconds: no 3,600.",
        1000 * right: "The times are in seconds, not in milliseconds.",
    }
    hint = "Requests per second × seconds between two requests of a user: think time + latency."
    return hint_for_number(answer, right, mistakes, hint)


@exercise("11-queue-bound", needs="whole number")
def queue_bound(answer: int) -> str | None:
    """How many batches end within the deadline? One of them is running when a request arrives."""
    if answer == QUEUE_BOUND:
        return None
    if answer < 1:
        return f"Some may wait: {IN_TIME} batches end within {DEADLINE_MS} ms."
    if answer == IN_TIME * MAX_BATCH:
        return (
            f"Little's law: {1000 * MAX_BATCH // BATCH_MS} requests/s × {DEADLINE_MS / 1000:g} s = "
            f"{answer} are in the server. Those of the running batch do not wait in the queue."
        )
    if answer in (IN_TIME, IN_TIME - 1):
        return f"That is a number of batches. Each takes up to {MAX_BATCH} requests."
    batches = math.ceil(answer / MAX_BATCH)
    after_ms = (1 + batches) * BATCH_MS
    last = (
        f"The last of {answer} waits for the running batch, then leaves with batch {batches} of "
        f"the queue: it is answered after {after_ms} ms"
    )
    return f"{last}, too late." if after_ms > DEADLINE_MS else f"{last}. More of them may wait."


@exercise("11-latencies", needs="function")
def latencies(answer: Queue) -> str | None:
    """For each request, oldest first: it starts when it has arrived and the server is free."""
    for arrivals, service in CASES:
        given = answer(list(arrivals), service)
        try:
            found = [float(each) for each in given]
        except TypeError:
            return f"It returned {given!r:.40}. Return a list: a latency for each arrival."
        if len(found) != len(arrivals):
            return f"It returned {len(found)} latencies for {len(arrivals)} arrivals."
        if not _same(found, _right(arrivals, service)):
            return _queue_hint(found, arrivals, service)
    return None


def _queue_hint(found: list[float], arrivals: Sequence[float], service: float) -> str:
    """What a wrong list of latencies would be right for, or the list that is wanted."""
    for hint, wrong in MISTAKES.items():
        if _same(found, wrong(arrivals, service)):
            return hint
    stem = f"For arrivals at {_listed(arrivals)} s and {service:g} s of work for each, "
    if min(found) < service:
        return f"{stem}a latency of {min(found):g} s is shorter than the work."
    return f"{stem}wanted are {_listed(_right(arrivals, service))}; yours are {_listed(found)}."


def _ends(arrivals: Sequence[float], service: float) -> list[float]:
    """When each request is answered, in the order given."""
    ends, free_s = [0.0] * len(arrivals), -math.inf
    for i in sorted(range(len(arrivals)), key=lambda i: arrivals[i]):
        free_s = max(free_s, arrivals[i]) + service
        ends[i] = free_s
    return ends


def _right(arrivals: Sequence[float], service: float) -> list[float]:
    return [end - arrival for end, arrival in zip(_ends(arrivals, service), arrivals, strict=True)]


def _waits(arrivals: Sequence[float], service: float) -> list[float]:
    return [latency - service for latency in _right(arrivals, service)]


def _services(arrivals: Sequence[float], service: float) -> list[float]:
    return [service] * len(arrivals)


def _never_idle(arrivals: Sequence[float], service: float, first_s: float = 0.0) -> list[float]:
    """As if the server worked from the first moment without a pause."""
    return [first_s + (i + 1) * service - arrival for i, arrival in enumerate(arrivals)]


def _idle_at_first(arrivals: Sequence[float], service: float) -> list[float]:
    """As if it worked without a pause from the first arrival."""
    return _never_idle(arrivals, service, arrivals[0])


def _as_given(arrivals: Sequence[float], service: float) -> list[float]:
    """As if the requests arrived in the order of the list."""
    free_s, found = -math.inf, []
    for arrival in arrivals:
        free_s = max(free_s, arrival) + service
        found.append(free_s - arrival)
    return found


def _sorted(arrivals: Sequence[float], service: float) -> list[float]:
    return _right(sorted(arrivals), service)


IDLE = (
    "The server is never idle in your function. If nothing waits, it begins when the next request "
    "arrives: take the later of two moments."
)
MISTAKES: Mapping[str, Queue] = {
    "Your clock starts when the work on a request starts. A user's clock starts at the arrival: "
    "the wait is missing (coordinated omission).": _services,
    "That is the wait alone. The latency ends with the answer: add the work.": _waits,
    "Those are the moments of the answers. A latency is counted from the arrival.": _ends,
    IDLE: _never_idle,
    f"{IDLE} This holds after the first request, too.": _idle_at_first,
    "The arrivals need not be in order: here a request waits for a later one. The oldest of those "
    "that wait is next.": _as_given,
    "The latencies are right, but in order of arrival. Return them in the order of "
    "arrivals_s.": _sorted,
}


def _same(found: Sequence[float], wanted: Sequence[float]) -> bool:
    return all(math.isclose(a, b, abs_tol=1e-6) for a, b in zip(found, wanted, strict=True))


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
