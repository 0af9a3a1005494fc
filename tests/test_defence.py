"""Exercise 15-defend: honest short answers pass, in four languages; guesses do not."""

import math
import re

import pytest

from kit.core.files import NOTEBOOKS
from kit.course.earlier_lessons import recorded_verdict
from kit.course.exercises import EXERCISES
from kit.course.exercises.lesson_15 import FIELDS

CHECK = EXERCISES["15-defend"]


def stored(lesson: str, claim: str, quantity: str) -> float:
    value = recorded_verdict(lesson, claim, NOTEBOOKS)["measured"][quantity]
    return value["value"] if isinstance(value, dict) else value


def defence(*fields: object) -> dict[str, object]:
    return dict(zip(FIELDS, fields, strict=True))


def comma(value: float, decimals: int = 2) -> str:
    """As it is written in German, French and Spanish."""
    return f"{value:.{decimals}f}".replace(".", ",")


MOVED = stored("01", "01", "weights_moved")
SIZE = stored("09", "23", "int8_size_ratio")
WAIT = stored("10", "25", "slowest_ttft_s")
PEAK = stored("12", "20", "edge_peak_bytes")
RATIO = stored("14", "14", "training_to_prediction_time_ratio")
GAIN = stored("11", "35", "two_replicas_goodput_ratio")
VERDICT = recorded_verdict("11", "35", NOTEBOOKS)["verdict"]
SHORT = re.match(r"holds only if|.*", VERDICT)[0]
FIVE = stored("15", "38", "questions_changing_choice_count")
EXCESS = stored("15", "27", "cheapest_training_excess_ratio")
PLAIN = ("01", "holds here", "weights_moved", MOVED, "share")
INT8 = ("23", "holds here", "int8_size_ratio", SIZE, "×")
LONG = (RATIO, "×", f"A training takes {RATIO:,.0f} times one prediction, for the GPT on this CPU.")

GOOD = {
    "plain": (*PLAIN, f"A share of {MOVED:.3g} of the weights moved, with this CNN."),
    "percent, in German": (
        *(1, "holds here", "weights_moved", 100 * MOVED, "%"),
        f"Nur mit diesem CNN: {comma(100 * MOVED, 1)} % der Gewichte haben sich bewegt.",
    ),
    "French": (*INT8, f"Le fichier int8 prend {comma(SIZE)} fois la place, pour ce CNN."),
    "milliseconds, in simple English": (
        *("25", "does not hold here", "slowest_ttft_s", 1000 * WAIT, "ms"),
        f"On this computer, GPT with 10,853,376 parameters: slowest {1000 * WAIT:.0f} ms. No GPU.",
    ),
    "megabytes": (
        *("20", "holds here", "edge_peak_bytes", PEAK / 1e6, "MB"),
        f"Peak memory was {PEAK / 1e6:.1f} MB, on this Xeon computer.",
    ),
    "a verdict without its condition": (
        *("35", SHORT, "two_replicas_goodput_ratio", GAIN, "×"),
        f"Two replicas have {GAIN:.2f} × the goodput of one, with an MLP on this computer.",
    ),
    "Spanish": (
        *("35", f"{SHORT.capitalize()} …", "two_replicas_goodput_ratio", GAIN, "×"),
        f"Con dos réplicas: {comma(GAIN)} veces, solo en este ordenador con un MLP.",
    ),
    "an interval": (
        *("27", "does not hold here", "cheapest_training_excess_ratio", EXCESS, "×"),
        f"It costs {EXCESS:.1f} × as much (95 % interval), with the times of this computer.",
    ),
    "a count": (
        *("38", "holds only if", "questions_changing_choice_count", FIVE, "count"),
        f"{FIVE} of the five questions change the choice, on this computer.",
    ),
}
BAD = {
    "another verdict": (
        ("01", "does not hold here", *PLAIN[2:], f"{MOVED:.3g} of the weights moved, with a CNN."),
        "The ledger says of claim 01: holds here",
    ),
    "the beginning of a verdict": (
        ("01", "h", *PLAIN[2:], f"{MOVED:.3g} of the weights moved, with this CNN."),
        "The ledger says",
    ),
    "no verdict": (
        ("01", None, *PLAIN[2:], f"{MOVED:.3g} of the weights moved, with this CNN."),
        "The ledger says",
    ),
    "the verdict of one lesson with the number of another": (
        ("14", "does not hold here", "training_to_prediction_time_ratio", *LONG),
        "It was measured as",
    ),
    "a figure that nobody measured": (
        (*INT8[:3], 0.25, "×", "The int8 file is 0.25 × as large, with this CNN only."),
        "It was measured as 0.35",
    ),
    "a share with the unit of percent": (
        (*PLAIN[:4], "%", f"A share of {MOVED:.3g} of the weights moved, with this CNN."),
        "It was measured as 100 %",
    ),
    "one more figure that nobody measured": (
        (*INT8, f"The int8 file is {SIZE:.2f} × as large and 87.3 % faster, with this CNN."),
        "87.3 % is not in the table of this verdict",
    ),
    "noise as the limit": (
        (*PLAIN, f"A share of {MOVED:.3g} of the weights moved. The limit is noise, as always."),
        "A word such as noise is not a condition",
    ),
    "no sentence": ((*PLAIN, f"{MOVED:.3g} with CNN"), "Write a sentence"),
    "no number": (
        ("25", "does not hold here", "slowest_ttft_s", WAIT, "s", "The GPT was fast on this CPU."),
        "do not contain the number",
    ),
    "a number as text": (
        (*PLAIN[:3], "1.0", "share", "A share of 1.0 of the weights moved, with this CNN."),
        "give the number alone",
    ),
    "nan": ((*PLAIN[:3], math.nan, "share", "The weights moved, with this CNN."), "It was"),
}


@pytest.mark.parametrize("fields", GOOD.values(), ids=GOOD)
def test_an_honest_defence_passes(fields):
    assert CHECK(defence(*fields)) is None


@pytest.mark.parametrize("fields, hint", BAD.values(), ids=BAD)
def test_a_weak_defence_gets_a_hint_that_says_what_is_missing(fields, hint):
    assert hint in str(CHECK(defence(*fields)))
