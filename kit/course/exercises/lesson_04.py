"""Exercises of lesson 04: queues, and Little's law."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kit.core.checks import is_number, is_whole
from kit.core.errors import KitError
from kit.course.exercises.registry import exercise, near
from kit.loadgen import ScenarioResult

RATE, CALL_S, QUERY_S, TARGET_S = 5_000, 1e-3, 1e-4, 6e-3  # of the exercise on full batches


@exercise("04-in-system")
def in_system(answer: Any) -> str | None:
    """L = λ·W: a run has an arrival_rate and a mean_latency_s. Give (run, their product)."""
    run, number = answer if isinstance(answer, tuple) and len(answer) == 2 else (None, None)
    if not isinstance(run, ScenarioResult):
        return "Give two things: (run, number). The run is a result of kit.loadgen."
    if not is_number(number):
        return f"The second of the two must be a number; it is {number!r}."
    if run.answered < run.n:
        return "Not all of its queries were answered, and the law needs that all of them are."
    rate, mean_s = run.arrival_rate, run.mean_latency_s
    if near(number, rate * mean_s, within=0.01):
        return None
    if near(number, rate * np.mean(np.repeat(run.service_s, run.batch_sizes))):
        return "That is how many are being answered. The waiting ones are in the system as well."
    if near(number, rate * np.median(run.latencies_s)):
        return "That is with the median. The law is about the mean: run.mean_latency_s."
    if near(number, getattr(run, "rate", np.nan) * mean_s):
        return "run.rate is the requested rate; the rate at which they arrived is run.arrival_rate."
    return "Multiply: queries per second × mean seconds that a query is in the system."


@exercise("04-full-batch")
def full_batch(answer: int) -> str | None:
    """A small batch cannot keep up; in a large one the first query waits for the last. Try 10."""
    if not is_whole(answer) or not 1 <= answer <= 5_000:
        return "Give a batch size: a whole number from 1 to 5,000."
    busy = RATE / answer * (CALL_S + answer * QUERY_S)
    if busy >= 1:
        return (
            f"Batches of {answer} would keep the server busy {busy:.0%} of the time: queries "
            f"arrive faster than they are answered. A larger batch needs fewer calls."
        )
    late = float(np.mean(_filling(answer) > TARGET_S))
    if late <= 0.1:
        return None
    hint = f"With batches of {answer}, {late:.0%} of the answers take longer than 6 ms. "
    if busy > 0.9:
        return f"{hint}The server is busy {busy:.0%} of the time: batches wait for each other."
    return f"{hint}The first of each waits about {1000 * (answer - 1) / RATE:.0f} ms for the last."


def _filling(batch: int) -> np.ndarray:
    """Latencies of 20,000 queries in a server that waits for full batches."""
    due = np.random.default_rng(0).exponential(1 / RATE, 20_000 // batch * batch).cumsum()
    end, latencies = 0.0, []
    for members in due.reshape(-1, batch):
        end = max(end, members[-1]) + CALL_S + batch * QUERY_S
        latencies.append(end - members)
    return np.concatenate(latencies)


@exercise("04-queue", needs="function")
def queue(answer: Callable[[Any, float], Any]) -> str | None:
    """An answer starts when its query has arrived and the previous answer is done."""
    apart = [1.0, 2.0, 5.0]
    random = np.random.default_rng(1).exponential(1.0, 500).cumsum().tolist()
    for arrivals, service_s in ((apart, 0.5), ([1.0, 1.5, 1.75, 9.0], 1.0), (random, 0.8)):
        given, wanted = answer(arrivals, service_s), _waiting(arrivals, service_s)
        if given is None:
            return "It returned nothing: return the latencies in its last line."
        try:
            numbers = np.array(given, dtype=float)
        except (TypeError, ValueError) as error:
            raise KitError(f"it returned {given!r:.40}, not one number per query") from error
        if numbers.shape != wanted.shape:
            return (
                f"{len(arrivals)} queries arrived; it gives {numbers.size} numbers, not one each."
            )
        if not np.allclose(numbers, wanted):
            return _mistake(numbers, wanted, np.array(arrivals), service_s)
    return None


def _waiting(arrivals: list[float], service_s: float) -> np.ndarray:
    end, latencies = 0.0, []
    for arrival in arrivals:
        end = max(end, arrival) + service_s
        latencies.append(end - arrival)
    return np.array(latencies)


def _mistake(given: np.ndarray, wanted: np.ndarray, arrivals: np.ndarray, service_s: float) -> str:
    if np.allclose(given, service_s):
        return "That starts the clock at the call. Count the waiting for earlier answers, too."
    if np.allclose(given, wanted + arrivals):
        return "Those are the times of the answers. A latency counts from the arrival."
    if np.allclose(given, wanted - service_s):
        return "That is only the waiting. Add the time of the answer itself."
    if given.min() < service_s - 1e-9:
        return "No latency is shorter than service_s: an answer starts after its query has arrived."
    first = int(np.argmax(~np.isclose(given, wanted)))
    return (
        f"Arrivals {np.round(arrivals[: first + 1][-4:], 2).tolist()}, {service_s:g} s for each "
        f"answer: the last of these takes {wanted[first]:.3g} s in all, not {given[first]:.3g} s."
    )
