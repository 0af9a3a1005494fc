"""Sentences that measurements choose, and the marks of those that are true without one."""

import math

import pytest
from conftest import taken

import kit
from kit.core.errors import BadValue, UnknownName
from kit.core.statistics import Estimate
from kit.measurement import Comparison

# --- kit.conclude --------------------------------------------------------------------------------

TOLD = {"above": "Above: {}.", "below": "Below: {}.", "unclear": "Unclear: {}."}


def word(measured, **more):
    """The case that was chosen."""
    return kit.conclude(measured, **TOLD, **more).text.split(":")[0]


def ratio(low, high):
    return Estimate((low + high) / 2, low, high, "×")


@pytest.mark.parametrize(
    "low, high, case",
    [(1.01, 1.2, "Above"), (0.5, 0.99, "Below"), (0.9, 1.2, "Unclear"), (0.98, 1.02, "Unclear")],
)
def test_an_estimate_lies_above_or_below_with_its_whole_interval(low, high, case):
    assert word(ratio(low, high)) == case
    assert word(3 * ratio(low, high), at=3) == case


def test_an_interval_that_is_unknown_concludes_nothing():
    assert word(Estimate(3.0, 0.0, math.inf, "×")) == "Unclear"
    assert word(Estimate(math.nan, math.nan, math.nan)) == "Unclear"


def test_a_difference_is_compared_with_zero():
    assert word(Estimate(-0.02, -0.03, -0.01, "%"), at=0) == "Below"
    assert word(Estimate(0.02, 0.01, 0.03, "%"), at=0) == "Above"
    assert word(Estimate(0.0, -0.01, 0.01, "%"), at=0, same="Same: {}.") == "Unclear"


@pytest.mark.parametrize("low, high, case", [(0.97, 1.03, "Same"), (0.9, 1.03, "Unclear")])
def test_the_same_needs_a_narrow_interval(low, high, case):
    assert word(ratio(low, high), same="Same: {}.") == case
    assert word(2 * ratio(low, high), at=2, same="Same: {}.") == case


@pytest.mark.parametrize("number, case", [(4, "Above"), (2, "Below"), (3, "Same"), (3.01, "Above")])
def test_a_count_is_compared_exactly(number, case):
    assert word(number, at=3, same="Same: {}.") == case
    assert word(number, at=3) == case.replace("Same", "Unclear")


def test_the_value_stands_in_the_sentence_with_unit_and_interval():
    assert kit.conclude(ratio(2, 4), **TOLD).text == "Above: 3.00 × [2.00 to 4.00 ×]."
    assert kit.conclude(26_122, **TOLD).text == "Above: 26,122."
    assert kit.conclude(2.5, **TOLD).text == "Above: 2.50."
    twice = {**TOLD, "above": "{}, which is {}."}
    assert kit.conclude(2, **twice).text == "2, which is 2."


STEADY = [1.0, 1.01, 0.99, 1.0, 1.02, 0.98] * 5


def compared(*factors):
    """Calls that took a steady second, times these factors."""
    calls = {"base": 1.0, **{f"call {i}": factor for i, factor in enumerate(factors)}}
    return Comparison({name: taken([f * t for t in STEADY]) for name, f in calls.items()})


@pytest.mark.parametrize("factor, case", [(1.5, "Above"), (0.5, "Below"), (1.0, "Same")])
def test_a_comparison_is_decided_by_its_own_rule(factor, case):
    assert word(compared(factor), same="Same: {}.") == case
    assert word(compared(factor)) == case.replace("Same", "Unclear")


def test_noise_prevents_a_conclusion_from_a_comparison():
    # The two turns of a round differ by a third, and so may the calls.
    noisy = Comparison({name: taken([f, f * 1.33] * 15) for name, f in (("a", 1.0), ("b", 1.2))})
    assert noisy.ratio().low > 1.1 and word(noisy) == "Unclear"


def test_a_comparison_may_be_asked_for_another_call_or_another_factor():
    assert word(compared(0.5, 1.5), of="call 0") == "Below"
    assert word(compared(1.5), at=1.2) == "Above" and word(compared(1.5), at=2) == "Below"
    with pytest.raises(UnknownName):
        word(compared(0.5), of="no such call")


def shares(**intervals):
    return {name: ratio(*ends) for name, ends in intervals.items()}


NAMED = {"most": "{} takes most.", "tied": "{} share the first place."}
FIRST = {"least": "{} takes least.", "tied": "{} share the last place."}


def test_the_largest_and_the_smallest_are_named():
    parts = shares(forward=(1, 2), backward=(5, 6), optimizer=(3, 4))
    assert kit.conclude(parts, **NAMED).text == "backward takes most."
    assert kit.conclude(parts, **FIRST).text == "forward takes least."
    assert kit.conclude({"a": 1, "b": 2}, **NAMED).text == "b takes most."


def test_intervals_that_overlap_share_a_place():
    parts = shares(forward=(1, 2), backward=(5, 6), optimizer=(3, 5))
    assert kit.conclude(parts, **NAMED).text == "backward and optimizer share the first place."
    parts["loss"] = Estimate(1.0, 0.0, math.inf)  # unknown
    text = "backward, optimizer and loss share the first place."
    assert kit.conclude(parts, **NAMED).text == text
    assert kit.conclude({"a": 1, "b": 1}, **FIRST).text == "a and b share the last place."


@pytest.mark.parametrize("missing", TOLD)
def test_every_sentence_is_asked_for_also_those_that_are_not_shown(missing):
    with pytest.raises(BadValue, match=f"{missing}=''; needs a sentence for each case"):
        kit.conclude(2, **{**TOLD, missing: ""})
    with pytest.raises(BadValue, match="full stop"):
        kit.conclude(2, **{**TOLD, missing: "no full stop: {}"})


@pytest.mark.parametrize("given", [{"most": "{} is it."}, {"tied": "{} are it."}, TOLD])
def test_names_need_their_own_two_sentences(given):
    with pytest.raises(BadValue, match="needs a sentence for each case"):
        kit.conclude({"a": 1, "b": 2}, **given)


@pytest.mark.parametrize("wrong", ["3", None, True, [1, 2], {"a": "1"}, {}])
def test_what_was_not_measured_is_refused(wrong):
    with pytest.raises(BadValue, match=r"kit\.conclude: given .*; needs"):
        kit.conclude(wrong, **TOLD, **NAMED)


def test_conclusions_are_shown_as_a_paragraph_and_several_as_one():
    both = kit.conclude(2, **TOLD) + kit.conclude({"<a>": 1, "b": 2}, **FIRST)
    assert repr(both) == "Above: 2. <a> takes least."
    assert "Above: 2. &lt;a&gt; takes least.</p>" in both._repr_html_()
