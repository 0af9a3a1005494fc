"""The quiz at the end of a lesson: questions with several answers, and feedback at once.

`quizzes/NN.toml` has the questions of lesson NN, each a table `[[questions]]`:

question   one sentence that ends in a question mark
options    two to five answers, of which one is right
right      the number of the right one, from 0
why        one or two sentences, shown with the right answer
"""

from __future__ import annotations

import html
import pathlib
import tomllib
from typing import Any

import traitlets

from kit.core.errors import BadValue, UnknownName
from kit.course.panels import CoursePanel, shown_with

FOLDER = pathlib.Path(__file__).parent / "quizzes"
FIELDS = {"question": str, "options": list, "right": int, "why": str}


class Quiz(CoursePanel):
    """Questions to answer by button or key; without a kernel, the answers are folded away."""

    questions: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    # Per question, the options that the reader chose, in their order.
    tries: traitlets.List[list[int]] = traitlets.List().tag(sync=True)

    def __repr__(self) -> str:
        lines = []
        for i, asked in enumerate(self.questions, 1):
            lines += [f"{i}. {asked['question']}", *(f"   - {each}" for each in asked["options"])]
        return "\n".join(lines)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        fallback = "".join(map(_question_html, range(1, 1 + len(self.questions)), self.questions))
        return shown_with(self, fallback, repr(self))


def _question_html(i: int, asked: dict[str, Any]) -> str:
    """A question with its answer folded away."""
    items = "".join(f"<li>{html.escape(each)}</li>" for each in asked["options"])
    answer = html.escape(f"{asked['options'][asked['right']]}. {asked['why']}")
    return (
        f"<p><b>{i}. {html.escape(asked['question'])}</b></p><ul>{items}</ul>"
        f"<details><summary>Answer to question {i}</summary>{answer}</details>"
    )


def quiz(number: str, folder: pathlib.Path = FOLDER) -> Quiz:
    """The quiz of a lesson, with feedback at once.

    Parameters
    ----------
    number
        The lesson's number, such as "02".
    folder
        Where the files of questions are.

    Raises
    ------
    UnknownName
        That lesson has no quiz.
    BadValue
        Its file is not TOML, or a question in it is not complete.
    """
    known = sorted(path.stem for path in folder.glob("*.toml"))
    if number not in known:
        raise UnknownName("quiz", number, known)
    file = folder / f"{number}.toml"
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")).get("questions")
    except ValueError as error:  # not TOML, or not UTF-8
        raise BadValue(f"{file.name} is not TOML: {error}") from error
    if not isinstance(found, list) or not found:
        raise BadValue(f"{file.name} has no questions: each needs a table [[questions]].")
    for i, asked in enumerate(found, 1):
        if fault := _fault(asked):
            raise BadValue(f"{file.name}, question {i}: {fault}.")
    return Quiz(questions=found, tries=[[] for _ in found])


def _fault(asked: Any) -> str:
    """What is wrong with a question; "" if nothing is."""
    if not isinstance(asked, dict) or {k: type(v) for k, v in asked.items()} != FIELDS:
        needed = ", ".join(f"{name} ({kind.__name__})" for name, kind in FIELDS.items())
        return f"needs {needed}, and nothing else"
    options = asked["options"]
    if not all(isinstance(text, str) and text.strip() for text in options):
        return "needs options that are text"
    if not 2 <= len(set(options)) == len(options) <= 5:
        return f"has the options {options}; needs two to five different ones"
    if not 0 <= asked["right"] < len(options):
        return f"right = {asked['right']}; needs the place of an option, 0 to {len(options) - 1}"
    return ""
