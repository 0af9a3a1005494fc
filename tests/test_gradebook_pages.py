"""The gradebook and the feedback in a real browser: readable, also by keyboard and on a phone."""

import json
import os
from dataclasses import replace
from itertools import product
from pathlib import Path

import hand_ins
import pytest
from axe import SCHEMES, violations
from browser import Watch, running_chromium

from kit.classroom.grade_pages import write
from kit.classroom.gradebook import GradeBook, rows_of
from kit.classroom.hand_ins import find_hand_ins
from kit.experiments.execution import find_notebook

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api")

IDS = ["02-account", "02-mlp-flops"]
ATTACK = "<script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">"
NAMES = ("Ada Lovelace", "Bo", "Chen Wei", "Dilâra", f"Eve {ATTACK}"[:60].replace("/", ""))


def judged(name: str, first: str, second: str, reason: str = "") -> dict:
    """What the judge says about a notebook."""
    hint = {
        "wrong": "weights: those are numbers; a float32 number takes 4 bytes.",
        "failed": ATTACK,
    }
    exercises = [
        {"id": id, "state": state, "reason": hint.get(state, ""), "answer": "{'weights': 26122}"}
        | {"first_step": "Begin with the weights." * (state == "wrong"), "same": "x" * (i == 0)}
        for i, (id, state) in enumerate(zip(IDS, (first, second), strict=True))
    ]
    handout = {"student": name, "kit": "0.1.0", "course": "Measuring"}
    return {"exercises": [] if reason else exercises, "problem": reason, "handout": handout}


FOUND = (
    judged("", "right", "right"),
    judged("Bo B.", "wrong", "right"),
    judged("", "wrong", "failed"),
    judged("", "no answer", "no answer"),
    judged(ATTACK, "", "", f"it is not a notebook {ATTACK}"),
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("class")
    for name in NAMES:
        (folder / name).mkdir()
        (folder / name / "02.ipynb").write_text(json.dumps({"of": name}))
    sent = find_hand_ins(folder)
    by_name = dict(zip(NAMES, FOUND, strict=True))
    found = [by_name[each.student] for each in sent]
    digests = [each.digest() for each in sent]
    rows = rows_of(sent, found, digests, IDS, None, find_notebook("02").stem)
    worth = (("02-account", 3.0), ("02-mlp-flops", 1.0))
    rows = [replace(row, worth=worth) for row in rows]
    assert [row.points for row in rows][:4] == [4, 1, 0, None]
    assert [row.share for row in rows][:4] == [1, 0.25, 0, None]
    book = GradeBook("02", "what does a training step cost", tuple(rows))
    out = tmp_path_factory.mktemp("grades")
    written = write(book, out, find_notebook(hand_ins.LESSON))
    feedback = {path.stem[:2]: path for path in written.paths[3].glob("*.html")}
    return {"gradebook": written.paths[2], "feedback": feedback["Bo"], "attack": feedback["Ev"]}


@pytest.fixture(scope="module")
def browser():
    with running_chromium() as browser:
        yield browser


@pytest.mark.parametrize("kind", ["gradebook", "feedback", "attack"])
def test_a_page_is_accessible_on_a_screen_and_on_a_phone(kind, pages, browser, tmp_path):
    """Loaded once: its colours and its width change, as they may for a reader."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    watch = Watch(page)
    page.goto(pages[kind].as_uri())
    assert page.title() != "hit" and page.locator("html[lang=en]").count() == 1
    for landmark in ("header", "main", "footer"):
        assert page.locator(f"body > {landmark}").count() == 1
    folder = Path(os.environ.get("KIT_SCREENSHOTS", tmp_path))
    for width, scheme in product((1280, 390), SCHEMES):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert not violations(page), (width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        page.screenshot(path=folder / f"{kind}-{width}-{scheme}.png", full_page=True)
    assert page.title() != "hit" and not watch.errors
    page.close()


def test_a_name_leads_to_the_page_of_feedback(pages, browser):
    page = browser.new_page()
    page.goto(pages["gradebook"].as_uri())
    assert page.locator("tbody tr").count() >= len(NAMES)
    page.get_by_role("link", name="Bo", exact=True).click()
    assert page.get_by_role("heading", name="Bo B.").count() == 1
    assert "1 of 2 exercises" in page.content() and "Begin with the weights." in page.content()
    page.close()
