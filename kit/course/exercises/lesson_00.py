"""The exercise of lesson 00: when has the model been used as long as it was trained?"""

from kit.course.exercises.registry import exercise, hint_for_number

PREDICTIONS_PER_DAY = 200


@exercise("00-days", needs="number")
def days(answer: float, break_even: float) -> str | None:
    """Each day has 200 predictions. How many of such days have `break_even` predictions in all?"""
    mistakes = {
        PREDICTIONS_PER_DAY
        / break_even: "That is the other way round. How many times does 200 go into them?",
        PREDICTIONS_PER_DAY
        * break_even: "That is a product. How many times does 200 go into them?",
        break_even: "That is the number of predictions. How many days do they take?",
    }
    hint = "Divide: all predictions ÷ predictions per day."
    return hint_for_number(answer, break_even / PREDICTIONS_PER_DAY, mistakes, hint)
