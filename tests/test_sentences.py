"""Sentences that measurements choose, and the marks of those that are true without one."""

import math

import nbformat
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import taken
from written import written

import kit
from kit.cli.main import main
from kit.core.errors import BadValue, UnknownName
from kit.core.files import NOTEBOOKS
from kit.core.statistics import Estimate, proportion
from kit.course.sentences import unmarked_sentences
from kit.experiments import lessons
from kit.experiments.recording import record_lesson
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
    # The interval alone would decide, so the sentence names what leaves it open.
    assert kit.conclude(noisy, **TOLD).text.endswith("[1.20 to 1.20 ×; noise floor 33.0 %].")
    assert "noise floor" not in kit.conclude(compared(1.5), **TOLD).text
    assert "noise floor" not in kit.conclude(compared(1.0), **TOLD).text  # its interval contains 1


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
    assert kit.conclude({"a": 1, "b": 1}, **FIRST).text == "a and b share the last place."


UNKNOWN = Estimate(0.08, 0.0, math.inf, "%")


def test_a_name_whose_interval_is_unknown_gets_no_place():
    """Lesson 11 said that connect, 12 times as fast as predict, shares the first place with it."""
    parts = {"connect": UNKNOWN, "predict": ratio(0.50, 0.52), "parse": ratio(0.1, 0.2)}
    most = "predict takes most. This leaves out connect: its interval is unknown."
    assert kit.conclude(parts, **NAMED).text == most
    parts["queue"] = Estimate(0.5, 0.0, 1.0, "%")  # a share always lies there
    ends = "This leaves out connect and queue: their intervals are unknown."
    assert kit.conclude(parts, **NAMED).text == f"predict takes most. {ends}"
    assert kit.conclude(parts, **FIRST).text == f"parse takes least. {ends}"
    parts["sure"] = Estimate(0.6, 0.51, math.inf)  # one known end is something
    assert kit.conclude(parts, **NAMED).text == f"predict and sure share the first place. {ends}"


def test_with_fewer_than_two_known_intervals_nobody_can_tell():
    one = {"a": UNKNOWN, "b": ratio(1, 2), "c": UNKNOWN}
    text = "Only the interval of b is known, so we cannot tell."
    assert kit.conclude(one, **NAMED).text == text
    assert kit.conclude(one, **NAMED, unclear="Who knows: {}?").text == "Who knows: a, b and c?"
    none = {"a": UNKNOWN, "b": Estimate(math.nan, math.nan, math.nan)}
    text = "We cannot tell: the intervals of a and b are unknown."
    assert kit.conclude(none, **NAMED).text == text
    assert kit.conclude({"a": ratio(1, 2)}, **NAMED).text == "a takes most."


# --- Measured together ---------------------------------------------------------------------------

HARD = np.random.default_rng(0).random(300)  # how hard each example is
RIGHT = {name: (level > HARD) * 1.0 for name, level in (("fix", 0.72), ("tune", 0.69), ("no", 0.5))}


def test_samples_of_the_same_examples_are_compared_in_pairs():
    """Lesson 13: two intervals overlap, but nearly all examples agree, and the rest decide."""
    apart = {name: proportion(each.sum(), 300) for name, each in RIGHT.items()}
    assert kit.conclude(apart, **NAMED).text == "fix and tune share the first place."
    assert kit.conclude(RIGHT, **NAMED).text == "fix takes most."
    assert kit.conclude(RIGHT, **FIRST).text == "no takes least."
    lists = {name: each.tolist() for name, each in RIGHT.items()}
    assert kit.conclude(lists, **NAMED).text == "fix takes most."
    trained = {name: np.stack([each] * 3) for name, each in RIGHT.items()}
    assert kit.conclude(trained, **NAMED).text == "fix takes most."
    shuffled = RIGHT | {"fix": np.random.default_rng(1).permutation(RIGHT["fix"])}
    assert kit.conclude(shuffled, **NAMED).text == "fix and tune share the first place."


def test_other_numbers_are_compared_by_their_differences():
    """Costs of three lives under each policy: the lives differ more than the policies."""
    costs = {"monthly": [700, 900, 400], "never": [897, 1_096, 772], "weekly": [739, 975, 530]}
    tied = kit.conclude(costs, least="“{}” costs least.", tied="We cannot tell: {}.").text
    assert tied == "We cannot tell: monthly and weekly."
    sure = {name: 4 * each for name, each in costs.items()}
    assert kit.conclude(sure, least="“{}” costs least.", tied="?").text == "“monthly” costs least."
    once = {name: each[:1] for name, each in costs.items()}  # a single pair has no interval
    assert "We cannot tell: the intervals of" in kit.conclude(once, **FIRST).text


def test_differences_that_were_measured_together_decide():
    alone = {"a": ratio(1, 5), "b": ratio(2, 6), "c": UNKNOWN}
    gaps = {("b", "a"): ratio(0.5, 1.5), ("a", "b"): ratio(-1.5, -0.5)}
    assert kit.conclude(alone, **NAMED).text.startswith("a and b share the first place.")
    told = kit.conclude(alone, **NAMED, difference=lambda x, y: gaps.get((x, y)))
    assert told.text == "b takes most. This leaves out c: its interval is unknown."
    gaps |= {("c", "b"): ratio(0.1, 0.2), ("b", "c"): ratio(-0.2, -0.1)}
    told = kit.conclude(alone, **NAMED, difference=lambda x, y: gaps.get((x, y)))
    assert told.text == "c takes most."  # of a, nothing more is known than that b is above it


@pytest.mark.parametrize("wrong", [{"a": [1, 2], "b": [1]}, {"a": [1], "b": 1}, {"a": [], "b": []}])
def test_pairs_need_samples_of_one_shape(wrong):
    with pytest.raises(BadValue, match=r"kit\.conclude: given samples .*; needs samples"):
        kit.conclude(wrong, **NAMED)


# --- Full sentences ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        (Estimate(0.414, 0.245, 0.606, "%"), " The interval contains 50.0 %, so we cannot tell."),
        (Estimate(0.414, 0.0, 1.0, "%"), " The interval is unknown, so we cannot tell."),
    ],
)
def test_an_unclear_sentence_without_a_verb_gets_one(measured, reason):
    """Lesson 11 said "All three protections: 41.4 % [24.5 to 60.6 %]." and no more."""
    sentences = dict.fromkeys(("above", "below"), "It is.")

    def ending(unclear):
        text = kit.conclude(measured, at=0.5, unclear=unclear, **sentences).text
        return text.removeprefix(unclear.replace("{}", repr(measured)))

    assert ending("All three protections: {}.") == reason
    assert ending("No protection: {} of the requests after the flood.") == reason
    for full in ("{} are late.", "We cannot tell: {}.", "No clear gap: {}.", "No difference: {}."):
        assert ending(full) == ""
    assert kit.conclude(0.5, at=0.5, unclear="All: {}.", **sentences).text == "All: 0.500."


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


# --- Marks in markdown ---------------------------------------------------------------------------

PLAIN = [
    "A model has weights.",
    "Run it one more time, as many times as you like.",
    "The text is no longer empty, and at least one example is left.",
    "It runs many times, ten times a second, and so on.",
    "The other half is kept, in half precision.",
    "One thread is kept free so that the system can work.",
    "A prompt is read so far, and so is the answer.",
    "A tensor of 64 × 128 numbers.",
    "This has changed since then, at this size and other sizes than this.",
    "The interest of the computer is a number, after the latest test.",
    "How much faster is it?",
    "Is it slower because of its size? Nobody knows.",
    "**Which is larger?** Guess.",
    "Articles say “training takes far more computing than inference.”",
    'It is called "the fastest".',
    "The function `more_than(half)` returns it.",
    "See [the page](longer.md#faster 'slower') or [a term](glossary.md#a \"More than that.\").",
    "# What is larger, and why is it slower",
    "*Reading 20 min · running less than 30 s on 2 CPU cores*",
    "```python\nx = 1  # faster because smaller\n```",
    "Find a batch size with which more than half are in time.",
    "Then make the batch larger.",
    "It has 1,536 × width² weights.",
    "- Choose the smallest model.",
]
CLAIMS = {
    "A step takes more time than a prediction.": "more, than",
    "Most of the time is spent here.": "Most",
    "The optimizer takes the largest share.": "largest",
    "A step takes three times as long.": "three times",
    "It takes twice the memory, or hundreds of times the work.": "takes twice, hundreds of times",
    "It needs 3 × the memory.": "3 × the",
    "This happens because memory is slow.": "because",
    "Memory is slow, so the answer is late.": "so",
    "So the answer is late.": "So",
    "The time grows with the batch.": "grows",
    "Hardly anything is lost.": "Hardly",
    "Only the optimizer does this.": "Only",
    "The optimizer is as fast as the backward pass.": "as fast as",
    "The step is limited by memory.": "limited by",
    "Its time does not depend on the batch.": "not depend on",
    "Half of it is lost, and a quarter of the rest.": "Half of, quarter of",
    "It is much faster: why?  It is slow.": "",
    "Look at the table: the optimizer is slowest.": "slowest",
    "Change the batch: the step is slower.": "slower",
    "Call overhead is larger.": "larger",
    "Why is it slower? It does more.": "more",
    "![A step is longer than a prediction](pictures/02-step.svg)": "longer, than",
    "**Large batches:** the ratio *falls*.": "falls",
    "| a | b |\n| --- | --- |\n| one | faster |": "faster",
    "> It is slower, e.g. here.": "slower",
}


def code(*sources):
    return [nbformat.v4.new_code_cell(source) for source in sources]


def faults(*cells):
    """What is wrong in a notebook of these cells; a text is a markdown cell."""
    made = [nbformat.v4.new_markdown_cell(c) if isinstance(c, str) else c for c in cells]
    return unmarked_sentences(nbformat.v4.new_notebook(cells=made))


@pytest.mark.parametrize("text", PLAIN)
def test_a_sentence_that_compares_nothing_needs_no_mark(text):
    assert faults(text) == []


@pytest.mark.parametrize("text", CLAIMS)
def test_a_sentence_of_direction_or_cause_needs_a_mark(text):
    found = faults(text)
    assert [f.split(" → ")[1].split(": needs")[0] for f in found] == list(
        filter(None, [CLAIMS[text]])
    )
    assert faults(f"{text} <!-- construction -->") == []


def test_a_fault_names_the_cell_the_sentence_its_words_and_what_to_do():
    assert faults("# A title", *code("1"), "One. Two is `x` and *larger*, since it is. Three.") == [
        "cell 2: Two is `…` and larger, since it is. → larger, since: needs a mark or kit.conclude"
    ]


def test_a_mark_covers_its_paragraph_or_item_since_the_mark_before():
    mark = "<!-- construction -->"
    assert not faults(f"A is larger. B is smaller. {mark} C is here.\n\nD is cheaper. {mark}")
    assert len(faults(f"A is larger. {mark} B is smaller.")) == 1
    assert len(faults(f"A is larger.\n\nB is smaller. {mark}")) == 1
    assert len(faults(f"- A is larger.\n- B is smaller. {mark}\n1. C is cheaper.")) == 2
    assert not faults(f"- A is larger. {mark}\n  And B is smaller.\n  {mark}")


@pytest.mark.parametrize("kind", ["constructed", "assert: a step", "", "hypothesis: it is so"])
def test_a_mark_has_one_of_three_kinds(kind):
    (found,) = faults(f"It is larger. <!-- {kind} -->")
    assert f"It is larger. → unknown mark {kind!r}: needs construction" in found


ASSERTS = code(
    'assert a > b, "a step takes longer"\nassert a > c, f"a step of {n} does more"',
    'for x in y:\n    assert x, ("a prediction "\n        "is short")\nassert z',
)


@pytest.mark.parametrize("words", ["a step takes", "a step of", "a prediction is short"])
def test_an_assertion_is_named_by_the_first_words_of_its_message(words):
    assert faults(f"It is larger. <!-- asserted: {words} -->", *ASSERTS) == []


@pytest.mark.parametrize(
    "words, n", [("a step", 2), ("takes longer", 0), ("", 3), ("a step of 3", 0)]
)
def test_the_words_have_to_name_exactly_one_assertion(words, n):
    (found,) = faults(f"It is larger. <!-- asserted: {words} -->", *ASSERTS)
    assert f"begins {n} messages of asserts; needs just one" in found


def test_one_claim_may_rest_on_two_assertions():
    marks = "<!-- asserted: a step takes --> <!-- asserted: a prediction -->"
    assert faults(f"It is larger. {marks}", *ASSERTS) == []


HYPOTHESIS = "If starting is the cost, a larger batch helps more. <!-- hypothesis -->"
TEST = code("found = kit.compare(calls)\nfound")
CONCLUSION = code("kit.conclude(found, above='a', below='b', unclear='c')")


def test_a_hypothesis_is_tested_and_concluded_before_the_next_heading():
    assert faults(HYPOTHESIS, *TEST, "Now the table.", *CONCLUSION, "## Next") == []
    assert faults(f"## One\n\n{HYPOTHESIS}\n\nLook:", *TEST, *CONCLUSION) == []


@pytest.mark.parametrize(
    "after",
    [
        [],
        TEST,
        CONCLUSION,
        [*TEST, "## Next", *CONCLUSION],
        ["Text.\n### Next\n", *TEST, *CONCLUSION],
        [*code("kit.guess('Which?', 1, 2)\nkit.plots.Table((), ())"), *CONCLUSION],
    ],
)
def test_a_hypothesis_without_its_test_is_refused(after):
    (found,) = faults(HYPOTHESIS, *after)
    assert "helps more. → hypothesis: test it, with kit.conclude, before the next heading" in found


def test_a_heading_after_the_hypothesis_ends_its_part():
    assert len(faults(f"{HYPOTHESIS}\n\n## Next", *TEST, *CONCLUSION)) == 1
    assert not faults(f"{HYPOTHESIS}\n\n```sh\n# no heading\n```", *TEST, *CONCLUSION)


def test_a_cell_that_python_cannot_read_is_the_kernels_to_refuse():
    assert faults("It is larger. <!-- construction -->", *code("a b")) == []


# --- Lessons -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.name[:2])
def test_each_sentence_of_a_lesson_is_vouched_for(path):
    found = unmarked_sentences(nbformat.read(path, as_version=4))
    assert not found, "\n".join(["", *found])


def test_the_template_keeps_to_its_own_rules():
    assert not unmarked_sentences(nbformat.read(NOTEBOOKS / "_template.ipynb", as_version=4))


@pytest.mark.slow
def test_only_a_lesson_whose_sentences_are_marked_is_recorded(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("A is larger."), *code("1 + 1")]
    for name in ("00-a.ipynb", "an-experiment.ipynb"):
        written(tmp_path / name, cells)
    before = (tmp_path / "00-a.ipynb").read_bytes()
    refused = CliRunner().invoke(main, ["record", str(tmp_path / "00-a.ipynb")])
    assert refused.exit_code != 0 and "Traceback" not in refused.output
    assert "cell 0: A is larger. → larger: needs a mark or kit.conclude" in refused.output
    assert (tmp_path / "00-a.ipynb").read_bytes() == before
    record_lesson(tmp_path / "an-experiment.ipynb")
    cells[0].source += " <!-- construction -->"
    record_lesson(written(tmp_path / "00-a.ipynb", cells))
