"""Exercises about drift: a label budget, when not to train, a threshold for false alarms."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from kit.course.exercises.registry import WrongForm, exercise, hint_for_number

# A model was right for 90 % of the examples. How many labels show its accuracy within 2 points?
ACCURACY, WITHIN, Z = 0.9, 0.02, 1.96
LABELS = Z**2 * ACCURACY * (1 - ACCURACY) / WITHIN**2

# Case -> why training is the right answer, or is not.
TRAIN = {"B"}
CASES = {
    "A": "the camera's lens is dirty. Clean it: training would have to be undone afterwards.",
    "C": "the detector alarms, but the score on new labels is what it was. Training gains nothing.",
    "D": "labels come too late: what they describe is over when the model has learnt it.",
}


@exercise("13-train")
def train(answer: Iterable[str]) -> str | None:
    """For each case, ask: is the cause in the weights, and are there labels of what comes next?"""
    if isinstance(answer, str):
        answer = answer.replace(",", " ").split() if len(answer) > 1 else [answer]
    if not isinstance(answer, (list, tuple, set, frozenset)) or "" in answer:
        return WrongForm('Give the letters of the cases as a list of texts, such as ["A", "B"].')
    chosen = {str(each).strip().upper() for each in answer}
    if unknown := sorted(chosen - TRAIN - set(CASES)):
        return f"There is no case {', '.join(unknown)}. The cases are A, B, C and D."
    for case in sorted(chosen - TRAIN):
        return f"Not {case}: {CASES[case]}"
    if chosen != TRAIN:
        hint = "Not every case is a reason against training: in one of them, "
        return hint + "the world has changed for good."
    return None


# Effects that a detector found where nothing had drifted, and a rate of false alarms.
QUIET = [0.08, 0.11, 0.05, 0.14, 0.09, 0.07, 0.12, 0.10, 0.06, 0.13]


@exercise("13-labels", needs="number")
def labels(answer: float) -> str | None:
    """The half-width of the interval is 1.96 × √(p·(1 − p) ÷ n). Solve it for n."""
    mistakes = {
        LABELS / Z**2: "That is for one standard error. A 95 % interval has 1.96 on each side.",
        LABELS * 4: "The interval is ± 2 points, so 4 points from end to end.",
        LABELS / 4: "The interval is ± 2 points. Yours goes ± 4 points.",
        Z**2 * 0.25 / WITHIN**2: "That is for a model that is right half of the time: p is 0.9.",
        math.sqrt(LABELS): "Square it: the width shrinks with the square root of n.",
    }
    hint = "n = 1.96² · p · (1 − p) ÷ 0.02², with p = 0.9."
    return hint_for_number(answer, LABELS, mistakes, hint, within=0.02)  # 864 or 865


@exercise("13-threshold", needs="function")
def threshold(answer: Callable[[Sequence[float], float], float]) -> str | None:
    """Sort the effects. How many of them may lie above the threshold? Begin at the largest."""
    generator = np.random.default_rng(0)
    tries = [(QUIET, 0.2), (QUIET, 0.1), (QUIET, 0.0), (generator.random(200).tolist(), 0.05)]
    for effects, rate in tries:
        found = answer(list(effects), rate)
        if not isinstance(found, (int, float)):
            return f"It returned {found!r}. Return a number."
        if hint := _threshold_hint(list(effects), rate, float(found)):
            return hint
    return None


def _threshold_hint(effects: list[float], rate: float, found: float) -> str | None:
    allowed, alarms = math.floor(rate * len(effects) + 1e-9), sum(e > found for e in effects)
    given = f"Of {len(effects)} effects without drift, a rate of {rate:g} allows {allowed}"
    if alarms > allowed:
        return f"{given} above the threshold; yours is {found:.3g} and lets {alarms} through."
    if alarms < allowed:
        return f"{given}. Yours, {found:.3g}, lets {alarms} through: it misses drift needlessly."
    if found > sorted(effects)[len(effects) - allowed - 1] + 1e-9:
        return f"{given}, as yours does. But {found:.3g} is not the smallest such number."
    return None
