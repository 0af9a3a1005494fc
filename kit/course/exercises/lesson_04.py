"""Exercises of lesson 04: queues, and Little's law. A docstring is the first hint."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kit.core.errors import KitError
from kit.course.exercises.lesson_00 import near
from kit.loadgen import Run

RATE, CALL_S, QUERY_S, TARGET_S = 5_000, 1e-3, 1e-4, 6e-3  # of the exercise on full batches


def in_system(answer: Any) -> str | None:
    """L = λ·W: a run knows its arrival_rate and its mean_latency_s. Give (run, their product)."""
    if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Run)):
        return "Give two things: (run, number), the run being one of kit.loadgen."
    run, number = answer
    if not isinstance(number, (int, float)):
        return f"The second thing is to be a number; it is {number!r}."
    if run.answered < run.n:
        return "Not all of its queries were answered: what came in has not all gone out."
    rate, mean_s = run.arrival_rate, run.mean_latency_s
    if near(number, rate * mean_s, within=0.01):
        return None
    if near(number, rate * np.mean(np.repeat(run.service_s, run.batch_sizes))):
        return "That is how many are being answered. Those who wait are in the system as well."
    if near(number, rate * np.median(run.latencies_s)):
        return "That is with the median. The law is about the mean: run.mean_latency_s."
    if near(number, getattr(run, "rate", np.nan) * mean_s):
        return "run.rate was asked for; how many really came per second is run.arrival_rate."
    return "Multiply: queries per second × seconds that each was in the system, on average."


def full_batch(answer: int) -> str | None:
    """Too small a batch cannot keep up, in too large a one the first wait for the last. Try 10."""
    if isinstance(answer, bool) or not isinstance(answer, int) or not 1 <= answer <= 5_000:
        return "Give a batch size: a whole number from 1 to 5,000."
    busy = RATE / answer * (CALL_S + answer * QUERY_S)
    if busy >= 1:
        return (
            f"Batches of {answer} would keep the server busy {busy:.0%} of the time: queries come "
            f"faster than they are answered. A larger batch makes fewer calls."
        )
    late = float(np.mean(_filling(answer) > TARGET_S))
    if late <= 0.1:
        return None
    told = f"With batches of {answer} {late:.0%} are later than 6 ms. "
    if busy > 0.9:
        return told + f"It keeps up, but busy {busy:.0%} of the time: batches wait for each other."
    return told + f"The first of each waits some {1000 * (answer - 1) / RATE:.0f} ms for the last."


def _filling(batch: int) -> np.ndarray:
    """Latencies of 20,000 queries in a server that waits for full batches."""
    due = np.random.default_rng(0).exponential(1 / RATE, 20_000 // batch * batch).cumsum()
    end, latencies = 0.0, []
    for members in due.reshape(-1, batch):
        end = max(end, members[-1]) + CALL_S + batch * QUERY_S
        latencies.append(end - members)
    return np.concatenate(latencies)


def queue(answer: Callable[[Any, float], Any]) -> str | None:
    """An answer begins when its query has come and the one before is done, whichever is later."""
    if not callable(answer):
        return "Give the function itself, without calling it."
    apart = [1.0, 2.0, 5.0]
    random = np.random.default_rng(1).exponential(1.0, 500).cumsum().tolist()
    for arrivals, service_s in ((apart, 0.5), ([1.0, 1.5, 1.75, 9.0], 1.0), (random, 0.8)):
        given, wanted = answer(arrivals, service_s), _waiting(arrivals, service_s)
        if given is None:
            return "It returned nothing: the last line is to return the latencies."
        try:
            numbers = np.array(given, dtype=float)
        except (TypeError, ValueError) as error:
            raise KitError(f"it returned {given!r:.40}, not one number per query") from error
        if numbers.shape != wanted.shape:
            return f"{len(arrivals)} queries came; it gives {numbers.size} numbers, not one each."
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
        return "That is the clock at the call: who comes while another is being answered waits."
    if np.allclose(given, wanted + arrivals):
        return "Those are the moments of the answers. A latency counts from the arrival."
    if np.allclose(given, wanted - service_s):
        return "That is the waiting alone. The answer itself takes its time as well."
    if given.min() < service_s - 1e-9:
        return "No latency is shorter than service_s: an answer begins after its query has come."
    first = int(np.argmax(~np.isclose(given, wanted)))
    return (
        f"Arrivals {np.round(arrivals[: first + 1][-4:], 2).tolist()} and {service_s:g} s for "
        f"each: the last of these takes {wanted[first]:.3g} s in all, not {given[first]:.3g} s."
    )


EXERCISES: dict[str, Callable[..., str | None]] = {
    "04-in-system": in_system,
    "04-full-batch": full_batch,
    "04-queue": queue,
}
