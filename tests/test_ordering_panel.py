"""Guessing an order: the panel with and without a browser, the guess beside the measurement."""

from itertools import permutations

import pytest
from scipy.stats import kendalltau

from kit.core.errors import BadValue, UnknownName
from kit.core.results import RECORD, RECORDING
from kit.core.statistics import Estimate
from kit.course.ordering_panel import guess_order

RUNGS = ["a <fused> one", "bf16", "compile", "more data"]
SPEEDUPS = dict(zip(RUNGS, [1.1, 2.0, 1.5, 0.9], strict=True))
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture
def panel():
    return guess_order(RUNGS, "Which saves <most>? That first.")


@pytest.fixture
def guessed(panel):
    panel.value = ["compile", "bf16", "a <fused> one", "more data"]
    return panel


# --- The panel -----------------------------------------------------------------------------------


def test_nobody_has_guessed_before_something_moves(panel):
    assert panel.value is None
    assert repr(panel) == "Which saves <most>? That first. Your guess: no guess yet."


def test_what_the_browser_sends_is_the_guess(panel):
    panel.set_state({"value": list(reversed(RUNGS))})
    assert panel.value == tuple(reversed(RUNGS))
    assert repr(panel).endswith("Your guess: more data, compile, bf16, a <fused> one.")


@pytest.mark.parametrize("given", [RUNGS[:3], [*RUNGS, "new"], [*RUNGS[:3], "bf16"]])
def test_a_guess_has_each_name_once(panel, given):
    with pytest.raises(BadValue, match="needs each of a <fused> one, bf16, compile, more data"):
        panel.value = given
    assert panel.value is None


def test_without_a_kernel_the_panel_is_a_list(panel):
    bundle = panel._repr_mimebundle_()
    assert WIDGET in bundle
    assert bundle["text/plain"] == repr(panel)
    assert "Which saves &lt;most&gt;?" in bundle["text/html"]
    assert "(a list to sort, in JupyterLab)" in bundle["text/html"]
    assert "<ul><li>a &lt;fused&gt; one</li><li>bf16</li>" in bundle["text/html"]


def test_a_guess_is_shown_as_a_numbered_list(guessed):
    page = guessed._repr_mimebundle_()["text/html"]
    assert "(your guess)" in page and "<ol><li>compile</li><li>bf16</li>" in page


def test_a_recording_makes_the_plausible_guess(monkeypatch):
    assert guess_order(RUNGS, plausible=RUNGS[::-1]).value is None  # a reader makes it
    monkeypatch.setenv(RECORDING, "1")
    made = guess_order(RUNGS, plausible=RUNGS[::-1])
    assert made.value == tuple(RUNGS[::-1])
    assert "(a plausible guess)" in made._repr_mimebundle_()["text/html"]
    assert "a plausible guess" in made.against(SPEEDUPS).table().header


def test_a_plausible_guess_has_each_name_once():
    with pytest.raises(BadValue, match="needs each of a <fused> one, bf16"):
        guess_order(RUNGS, plausible=RUNGS[1:])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "0 names to put in order: needs at least two"),
        (["one"], "1 names to put in order: needs at least two"),
        (["a", "b", "a"], r"'a' twice in \['a', 'b', 'a'\]: needs each name once"),
        (["a", 2], r"\['a', 2\]: needs a list of names"),
        (["a", " "], "not empty"),
        ("abc", "'abc': needs a list of names"),
    ],
)
def test_an_order_needs_two_names_or_more_each_once(names, message):
    with pytest.raises(BadValue, match=message):
        guess_order(names)


# --- Beside what was measured --------------------------------------------------------------------


def test_without_a_guess_there_is_the_measured_order(panel):
    result = panel.against(SPEEDUPS)
    assert list(result.measured) == ["bf16", "compile", "a <fused> one", "more data"]
    assert result.pairs_right is None
    assert repr(result) == "No guess was made."
    assert list(result.table().header) == ["place", "", "measured, largest first"]


def test_the_guess_stands_beside_the_measured_order(guessed):
    result = guessed.against(SPEEDUPS)
    assert repr(result) == "5 of 6 pairs in the right order (by chance: half)."
    assert result.table().rows == [
        ("1", "bf16", "2", "2", "1 too low"),
        ("2", "compile", "1.50", "1", "1 too high"),
        ("3", "a <fused> one", "1.10", "3", "right"),
        ("4", "more data", "0.900", "4", "right"),
    ]


def test_the_smallest_may_come_first(guessed):
    times = {name: 1 / value for name, value in SPEEDUPS.items()}
    small, large = guessed.against(times, first="smallest"), guessed.against(SPEEDUPS)
    assert list(small.measured) == list(large.measured)
    assert small.pairs_right == large.pairs_right == 5
    assert small.pairs == large.pairs


def test_names_alone_are_an_order_too(guessed):
    by_value = guessed.against(SPEEDUPS)
    by_name = guessed.against(list(by_value.measured))
    assert by_name.pairs == by_value.pairs and by_name.pairs_right == 5
    assert list(by_name.table().header) == ["place", "", "your guess", "which is"]
    assert by_name.to_dict()["values"] is None


@pytest.mark.parametrize("guess", list(permutations(RUNGS))[::5])
def test_the_share_of_right_pairs_is_kendalls_tau(panel, guess):
    panel.value = guess
    result = panel.against(SPEEDUPS)
    places = [guess.index(name) for name in RUNGS]
    tau = kendalltau(places, [-SPEEDUPS[name] for name in RUNGS]).statistic
    assert 2 * result.pairs_right / len(result.pairs) - 1 == pytest.approx(tau)


def test_overlapping_intervals_do_not_count(guessed):
    """The middle one overlaps both others, which do not overlap: it may have any place."""
    around = {"bf16": 3, "compile": 2, "a <fused> one": 1}
    measured = {name: Estimate(v, v - 0.6, v + 0.6, "×") for name, v in around.items()}
    result = guessed.against({**measured, "more data": Estimate(0.1, 0.1, 0.2, "×")})
    assert len(result.pairs) == 4 and result.pairs_right == 4
    assert [row[0] for row in result.table().rows] == ["1 to 2", "1 to 3", "2 to 3", "4"]
    assert [row[4] for row in result.table().rows] == [*3 * ["possible"], "right"]
    assert "Pairs too close to distinguish, and not counted: 2." in repr(result)
    assert result.table().rows[0][2] == "3.00 × [2.40 to 3.60 ×]"


@pytest.mark.parametrize("first", ["smallest", "largest"])
def test_a_pair_that_was_measured_together_is_decided_by_its_ratio(panel, first):
    """Two intervals may overlap although one value is surely smaller in each round."""
    measured = {"bf16": Estimate(1, 0.5, 2, "s"), "compile": Estimate(2, 1, 4, "s")}
    far = {"a <fused> one": Estimate(9, 8, 10, "s")}
    together = {
        ("bf16", "compile"): Estimate(0.5, 0.4, 0.6),
        ("compile", "bf16"): Estimate(2, 1.7, 2.5),
    }
    apart = panel.against(measured | far, first)
    exact = panel.against(measured | far, first, ratio=lambda a, b: together.get((a, b)))
    assert len(apart.pairs) == 2 and len(exact.pairs) == 3
    assert (("bf16", "compile") in exact.pairs) == (first == "smallest")
    unsure = panel.against(measured | far, first, ratio=lambda a, b: Estimate(1, 0.1, 9))
    assert unsure.pairs == []


def test_equal_values_do_not_count(guessed):
    result = guessed.against(dict.fromkeys(RUNGS, 1.0))
    assert result.pairs == [] and result.pairs_right == 0
    assert repr(result) == "Nothing to compare: all 6 pairs are too close to distinguish."


def test_what_could_not_be_measured_is_left_out_of_the_guess(guessed):
    result = guessed.against({**SPEEDUPS, "compile": None})
    assert result.guess == ("bf16", "a <fused> one", "more data")
    assert (
        repr(result)
        == "3 of 3 pairs in the right order (by chance: half). Not measured, so left out: compile."
    )
    rest = {name: value for name, value in SPEEDUPS.items() if name != "compile"}
    assert guessed.against(rest) == result


def test_the_record_has_both_orders_and_the_pairs(guessed):
    record = guessed.against(SPEEDUPS)._repr_mimebundle_()[RECORD]
    assert record["kind"] == "GuessedOrder"
    assert record["guess"] == ["compile", "bf16", "a <fused> one", "more data"]
    assert record["measured"] == ["bf16", "compile", "a <fused> one", "more data"]
    assert (record["pairs_right"], record["pairs_distinguished"]) == (5, 6)
    assert record["values"]["bf16"]["value"] == 2.0 and record["first"] == "largest"
    assert guess_order(RUNGS).against(SPEEDUPS).to_dict()["guess"] is None


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ({"bf16": 1.0}, "1 of 4 names measured: needs at least two"),
        ({"bf16": 1.0, "compile": None}, "1 of 4 names measured: needs at least two"),
        ({"bf16": 1.0, "compile": float("nan")}, "'compile' was measured as nan: needs a number"),
        ({"bf16": 1.0, "compile": "fast"}, "'compile' was measured as 'fast': needs a number"),
        (["bf16", "compile", "bf16"], "'bf16' twice"),
        ("bf16", "needs a list of names"),
    ],
)
def test_a_measured_order_needs_two_numbers(panel, measured, message):
    with pytest.raises(BadValue, match=message):
        panel.against(measured)


@pytest.mark.parametrize("measured", [{**SPEEDUPS, "bf61": 1.0}, [*RUNGS, "bf61"]])
def test_what_is_not_in_the_list_is_named(panel, measured):
    with pytest.raises(UnknownName, match=r"no name in the list is called 'bf61'.*'bf16'"):
        panel.against(measured)


def test_only_the_largest_or_the_smallest_come_first(panel):
    with pytest.raises(BadValue, match="first='best': needs 'largest' or 'smallest'"):
        panel.against(SPEEDUPS, first="best")
