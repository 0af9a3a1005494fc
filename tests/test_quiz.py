"""Quizzes: each file well formed, and what stays without a kernel; see test_browser_panels."""

import html
import re

import nbformat
import pytest

import kit
from kit.core.errors import BadValue, UnknownName
from kit.course.quiz import FOLDER
from kit.experiments import lessons

WIDGET = "application/vnd.jupyter.widget-view+json"
NUMBERS = sorted(path.stem for path in FOLDER.glob("*.toml"))
GOOD = '[[questions]]\nquestion = "<Which>?"\noptions = ["a", "b"]\nright = 1\nwhy = "So."\n'

# --- The quizzes of the lessons ------------------------------------------------------------------


@pytest.mark.parametrize("number", NUMBERS)
def test_a_lesson_asks_three_questions(number):
    questions = kit.quiz(number).questions
    assert len(questions) == 3
    for asked in questions:
        assert asked["question"].endswith("?") and 3 <= len(asked["options"]) <= 4
        assert asked["why"].endswith(".") and len(re.findall(r"[.!?](\s|$)", asked["why"])) <= 2


@pytest.mark.parametrize("number", NUMBERS)
def test_the_right_answer_is_not_given_away(number):
    """Neither by its place nor by its length."""
    questions = kit.quiz(number).questions
    assert len({asked["right"] for asked in questions}) > 1
    longest = [
        max(asked["options"], key=len) == asked["options"][asked["right"]] for asked in questions
    ]
    assert not all(longest)


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.name[:2])
def test_a_quiz_stands_after_what_you_can_now_say(path):
    cells = nbformat.read(path, as_version=4).cells
    (place,) = [i for i, cell in enumerate(cells) if "kit.quiz(" in cell.source]
    (say,) = [i for i, cell in enumerate(cells) if "What you can now say" in cell.source]
    assert cells[place].source == f'kit.quiz("{path.name[:2]}")' and say < place
    assert path.name[:2] in NUMBERS


# --- Files ---------------------------------------------------------------------------------------


def quiz_of(text, folder):
    (folder / "77.toml").write_text(text, encoding="utf-8")
    return kit.quiz("77", folder)


def test_an_unknown_quiz_lists_the_known_ones():
    with pytest.raises(UnknownName, match=r"no quiz is called '2'.*There are: .*02"):
        kit.quiz("2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[questions", "77.toml is not TOML: "),
        ("", r"77.toml has no questions: each needs a table \[\[questions\]\]"),
        ("questions = 3", "has no questions"),
        ("questions = [3]", "77.toml, question 1: needs question .str., options .list.,"),
        (GOOD + GOOD.replace("why", "reason"), "77.toml, question 2: needs question .str."),
        (GOOD.replace("right = 1", 'right = "b"'), r"right \(int\)"),
        (GOOD.replace("right = 1", "right = 2"), "right = 2; needs the place of an option, 0 to 1"),
        (GOOD.replace('"b"', '"a"'), r"has the options \['a', 'a'\]; needs two to five different"),
        (GOOD.replace(', "b"', ""), r"has the options \['a'\]; needs two to five"),
        (GOOD.replace('"b"', "2"), "needs options that are text"),
    ],
)
def test_a_wrong_file_says_what_it_needs(text, message, tmp_path):
    with pytest.raises(BadValue, match=message):
        quiz_of(text, tmp_path)


# --- Shown ---------------------------------------------------------------------------------------


def test_without_a_kernel_the_answer_is_folded_away(tmp_path):
    bundle = quiz_of(GOOD, tmp_path)._repr_mimebundle_()
    assert WIDGET in bundle
    before, _, folded = bundle["text/html"].partition("<details>")
    assert html.escape("1. <Which>?") in before and "<li>a</li><li>b</li>" in before
    assert "So." not in before and folded.endswith("</summary>b. So.</details>")


def test_as_text_it_lists_the_questions_and_no_answers(tmp_path):
    bundle = quiz_of(GOOD + GOOD, tmp_path)._repr_mimebundle_()
    assert bundle["text/plain"] == "1. <Which>?\n   - a\n   - b\n2. <Which>?\n   - a\n   - b"
