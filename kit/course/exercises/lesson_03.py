"""Exercises of lesson 03: stopwatches, right and wrong."""

from collections.abc import Callable, Mapping

from kit.course.exercises.registry import WrongForm, exercise, hint_for_number

MISTAKES = {
    "A": "no repeats",
    "B": "no waiting",
    "C": "no warm-up",
    "D": "not in turns",
    "E": "no noise floor",
}
DECISIONS = {  # (low, high, floor) -> the first word whose rule is met
    (1.10, 1.20, 0.01): "slower",
    (0.70, 0.90, 0.05): "faster",
    (0.98, 1.03, 0.01): "same",
    (0.90, 1.20, 0.02): "cannot tell",
    (1.06, 1.08, 0.10): "same",
    (0.97, 1.09, 0.01): "cannot tell",
    (1.02, 1.04, 0.01): "slower",
    (1.02, 1.04, 0.03): "same",
}


@exercise("03-which-mistake")
def which_mistake(answer: Mapping[str, str]) -> str | None:
    """Give a dictionary: {"A": "no …", …}. Ask each: does it wait, warm up, repeat, take turns?"""
    if not isinstance(answer, Mapping) or set(answer) != set(MISTAKES):
        return WrongForm('Give a dictionary with the keys "A", "B", "C", "D" and "E".')
    unknown = [given for given in answer.values() if given not in MISTAKES.values()]
    if unknown:
        return f"{unknown[0]!r} is none of the five: {', '.join(sorted(MISTAKES.values()))}."
    wrong = [name for name, mistake in MISTAKES.items() if answer[name] != mistake]
    return f"Look at {wrong[0]} again: each mistake occurs once." if wrong else None


@exercise("03-impossible", needs="number")
def impossible(answer: float) -> str | None:
    """Count the FLOPs of the matmul, divide by the time, divide by the peak."""
    right = 2 * 4096**3 / 20e-6 / 60e12
    mistakes = {
        right / 2: "It should be twice as much: a multiply-add is 2 FLOPs.",
        100 * right: "That is in percent. Give a share: 1 is all of the peak.",
        60e12 * right: "That is the rate in FLOP/s. Which share of 60e12 is it?",
    }
    hint = "2 × 4096³ FLOPs in 20e-6 seconds, as a share of 60e12 FLOP/s: far over 1."
    return hint_for_number(answer, right, mistakes, hint)


@exercise("03-decide", needs="function")
def decide(answer: Callable[[float, float, float], str]) -> str | None:
    """Four rules, in order: low against 1 + floor, high against its inverse, both ends for same."""
    for (low, high, floor), wanted in DECISIONS.items():
        given = answer(low, high, floor)
        if given != wanted:
            return f"An interval from {low} to {high} with a floor of {floor}: not {given!r}."
    return None
