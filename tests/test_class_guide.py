"""The teacher's guides: a session of 90 minutes for each lesson; pages to print."""

import re
from pathlib import Path

import pytest
from axe import violations
from browser import Watch, running_chromium
from click.testing import CliRunner

from kit.classroom.board.questions import questions_of
from kit.cli.main import main
from kit.course.exercises import EXERCISES
from kit.experiments import lessons

SESSIONS = (Path(__file__).parents[1] / "docs" / "sessions.md").read_text(encoding="utf-8")
NUMBERS = [path.name[:2] for path in lessons()]


@pytest.fixture(scope="module")
def sessions():
    parts = re.split(r"^## (\d\d) · ", SESSIONS, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("number", NUMBERS)
def test_each_lesson_has_a_session_of_90_minutes(number, sessions):
    text = sessions[number]
    assert sum(map(int, re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE))) == 90
    path = next(path for path in lessons() if path.name[:2] == number)
    board = text.partition("**On the board:**")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\d\d-\d)`", board)) == {each.id for each in questions_of([path])}
    named = set(re.findall(r"`(\d\d-[a-z][\w-]*)`", text))
    assert named and named <= set(EXERCISES) and all(id[:2] == number for id in named)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("pages")
    answer = CliRunner().invoke(main, ["release", "02", "--pages", "--out", str(out)])
    assert answer.exit_code == 0, answer.output
    (path,) = out.iterdir()
    return path


def test_a_page_has_the_outputs_and_says_who_measured_them(page):
    text = page.read_text(encoding="utf-8")
    assert "All numbers on this page were measured on" in text and "<img alt=" in text
    assert "<script" not in text.lower() and "02-mlp-flops" in text
    assert "@media print" in text


@pytest.mark.browser
def test_a_page_prints_on_few_sheets_and_is_accessible(page):
    with running_chromium() as chromium:
        tab = chromium.new_page(viewport={"width": 1280, "height": 720})
        watch = Watch(tab)
        tab.goto(page.as_uri())
        assert violations(tab) == []
        sheets = len(re.findall(rb"/Type\s*/Page\b", tab.pdf(prefer_css_page_size=True)))
    assert not watch.errors and set(watch.strangers) == {page.as_uri()}
    assert 8 <= sheets <= 25


@pytest.mark.parametrize("words", [("--nbgrader",), ("--zip",), ("--hub", "https://h.example")])
def test_pages_are_pages_only(words, tmp_path):
    command = ["release", "02", "--pages", *words, "--out", str(tmp_path)]
    answer = CliRunner().invoke(main, command)
    assert answer.exit_code == 2 and "pages only" in answer.output
