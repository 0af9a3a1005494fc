"""Exercises of lesson 14: the break-even, a server that waits, a demand that grows."""

import math
from collections.abc import Callable

from kit.course.exercises.limits import TookTooLong, within_seconds
from kit.course.exercises.registry import exercise, hint_for_number, near

HOURS, RATE, PER_DAY = 40, 5.0, 20_000  # GPU hours, requests/s of a GPU, requests per day
DAYS = HOURS * 3600 * RATE / PER_DAY
WAITING = 86_400 * RATE / PER_DAY  # seconds of a day ÷ seconds in which the GPU answers


@exercise("14-days", needs="number")
def days(answer: float) -> str | None:
    """How many answers fit into 40 hours? How many come in a day?"""
    mistakes = {
        DAYS / 3600: "The rate is per second: 40 hours are 40 × 3,600 seconds.",
        HOURS * 3600 * RATE: "That is the number of answers. In how many days do they come?",
        DAYS / RATE**2: "At 5 requests per second, an answer takes 1/5 s, not 5 s.",
        DAYS / RATE: "In a second, the GPU gives 5 answers, not one.",
    }
    hint = "Answers in 40 hours (5 in each second) ÷ answers of a day."
    return hint_for_number(answer, DAYS, mistakes, hint)


@exercise("14-waiting", needs="number")
def waiting(answer: float) -> str | None:
    """The GPU is paid for the whole day. For how long of it does it answer?"""
    mistakes = {
        1 / WAITING: "That is the share of the day in which it answers. Turn it round.",
        100 / WAITING: "That is a share of the day, in percent. Turn the share round.",
        86_400 / PER_DAY: "That is the time between two requests. An answer takes 1/5 s of it.",
    }
    hint = "Seconds of a day ÷ seconds in which it answers: 20,000 answers of 1/5 s each."
    return hint_for_number(answer, WAITING, mistakes, hint)


LIMIT_S = 2.0  # for each case: a loop that never ends is a common first answer
# Training, answer, answers on the first day, growth -> the day, by hand or by a closed form.
CASES: dict[tuple[float, float, float, float], float] = {
    (70.0, 1.0, 10.0, 1.0): 3,  # 10, 20, 40
    (101.0, 1.0, 10.0, 0.0): 11,
    (100.0, 1.0, 10.0, 0.0): 10,
    (0.5, 1.0, 10.0, 0.0): 1,
    (19.0, 1.0, 10.0, -0.5): 5,  # 10, 5, 2.5, 1.25, 0.625: 19.4
    (21.0, 1.0, 10.0, -0.5): math.inf,  # all of them together are 20
    (100.0, 1.0, 0.0, 0.0): math.inf,
}


@exercise("14-growth", needs="function")
def growth(answer: Callable[[float, float, float, float], float]) -> str | None:
    """Add up day by day; stop when the sum is large enough, or when it never will be."""
    for case, right in CASES.items():
        shown = "math.inf" if right == math.inf else f"{right:g}"
        training, each, per_day, grows = case
        asked = (
            f"Training {training:g}, answer {each:g}, {per_day:g} on the first day, growth "
            f"{grows:g}"
        )
        try:
            given = within_seconds(LIMIT_S, answer, *case)
        except OverflowError:
            given = math.nan
        except TookTooLong:
            return (
                f"{asked}: it does not return within {LIMIT_S:g} s, and the day is {shown}. Does "
                f"its loop go on for ever? First decide when the sum can never reach the training."
            )
        if case == (70.0, 1.0, 10.0, 1.0) and near(given, 4, 0.01):
            return "10 answers, then 20, then 40: after day 3 they are 70. It returns 4."
        if given == 10.1:
            return "After 10 days, 100 answers have cost 100, not yet 101. Give a day: 11."
        if given != right:
            return f"{asked}: it returns {given!r}, and the day is {shown}."
    return None
