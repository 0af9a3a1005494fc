"""Panels of one notebook, opened once: a quiz, an order that one guesses, a server under load."""

import os
import re
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell

import kit
from kit.course.traffic_panel import READY
from kit.serving import Server

playwright = pytest.importorskip("playwright.sync_api")
from axe import violations  # noqa: E402
from browser import (  # noqa: E402
    THEMES,
    Watch,
    choose_theme,
    open_notebook,
    run_all,
    running_chromium,
)
from written import written  # noqa: E402

expect = playwright.expect
pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
SCREEN = {"width": 1280, "height": 900}
REPLICAS = hasattr(Server, "restart")  # without it, their number is fixed
CELLS = [
    'import kit\nasked = kit.quiz("02")\nasked',
    "asked.tries",
    'rungs = kit.guess_order(["batch 64", "bf16", "compile", "fused optimizer", "workers"],\n'
    '    "Which change makes training shorter? The largest saving first.")\nrungs',
    'rungs.against({"bf16": 1.9, "batch 64": 1.6, "compile": 1.4, "fused optimizer": 1.2})',
    "server = kit.serve(kit.models.MLP())\nkit.live_traffic(server, target_s=1.0)",
]


@pytest.fixture(scope="module")
def opened(lab):
    """The page of the notebook, after all its cells ran."""
    with running_chromium() as chromium:
        notebook = written(lab.folder / "notebooks" / "panels.ipynb", map(new_code_cell, CELLS))
        page = chromium.new_page(viewport=SCREEN)
        try:
            watch = Watch(page)
            open_notebook(page, lab, notebook)
            run_all(page, notebook)
            yield page, watch
        finally:  # also if a cell failed: the next file has the same JupyterLab
            page.close()
            lab.end_kernels()


@pytest.fixture
def page(opened):
    """That page; after the test, no error was shown and nothing left this computer."""
    page, watch = opened
    page.set_viewport_size(SCREEN)  # the test on a phone may come before another one
    yield page
    watch.check()


def code_cell(page, words):
    """The cell whose source has these words."""
    return page.locator(".jp-CodeCell").filter(has=page.locator(".jp-InputArea", has_text=words))


def shot(page, name):
    """A screenshot, for people to look at, where they asked for some."""
    if folder := os.environ.get("KIT_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


# --- A quiz --------------------------------------------------------------------------------------


def test_answer_by_key_and_pointer_in_light_and_dark(page):
    answer(page)
    for theme in THEMES:
        choose_theme(page, theme)
        assert violations(page, ".jp-OutputArea-output:has(.kit-quiz)", ("region",)) == []
        shot(page, f"quiz-{theme[11:].lower()}")


def answer(page):
    """One wrong answer, then all the right ones: by key, then by pointer."""
    panel = page.locator(".kit-quiz")
    groups, questions = panel.get_by_role("group"), kit.quiz("02").questions
    expect(groups).to_have_count(3)
    size = panel.bounding_box()
    right = [groups.nth(i).get_by_role("button").nth(q["right"]) for i, q in enumerate(questions)]
    wrong = groups.first.get_by_role("button").nth((questions[0]["right"] + 1) % 3)

    wrong.focus()
    for key in ("x", "d", "d", "Escape"):  # no key reaches JupyterLab, where an x would cut a cell
        page.keyboard.press(key)
    expect(page.locator(".jp-Notebook .jp-Cell")).to_have_count(len(CELLS))
    page.keyboard.press("Enter")
    told = groups.first.get_by_role("status")
    expect(told).to_have_text("Not this one. Try another.")
    expect(wrong).to_be_focused()
    right[0].press("Space")
    expect(told).to_have_text(f"Right. {questions[0]['why']}")
    expect(right[0]).to_have_attribute("aria-pressed", "true")
    for button in right[1:]:
        button.click()
    expect(panel).to_contain_text("All 3 answered, 2 of them at the first try.")
    assert panel.bounding_box()["width"] == size["width"]

    code_cell(page, "asked.tries").click()
    page.keyboard.press("Shift+Enter")
    tries = [[(questions[0]["right"] + 1) % 3, questions[0]["right"]]]
    tries += [[asked["right"]] for asked in questions[1:]]
    expect(code_cell(page, "asked.tries")).to_contain_text(str(tries))

    wrong.click()  # after the right one: its reason stays
    expect(told).to_have_text(f"Not this one. {questions[0]['why']}")


# --- An order -----------------------------------------------------------------------------------


def test_an_item_moved_by_key_and_pointer_is_a_guess(page):
    """Move with the arrow keys, a button and the mouse; confirm; look at the comparison."""
    panel, comparison = page.locator(".kit-order"), code_cell(page, "rungs.against")
    items, status = panel.get_by_role("listitem"), panel.get_by_role("status")
    expect(comparison).to_contain_text("No guess was made.")
    expect(status).to_have_text("No guess yet.")
    panel.scroll_into_view_if_needed()
    size = panel.bounding_box()
    shot(page, "order-start")

    up, down = (panel.get_by_role("button", name=f"Move {n}") for n in ("bf16 up", "compile down"))
    up.press("Enter")
    expect(status).to_have_text("Guess saved: bf16 is number 1 of 5.")
    page.keyboard.press("ArrowUp")  # it is at the top: nothing happens, nothing is lost
    expect(up).to_be_focused()
    expect(up).to_have_attribute("aria-disabled", "true")
    down.focus()
    page.keyboard.press("ArrowDown")
    expect(status).to_have_text("Guess saved: compile is number 4 of 5.")
    expect(down).to_be_focused()  # the key did not take JupyterLab to its next cell
    shot(page, "order-moved")

    last, third = items.nth(4).bounding_box(), items.nth(2).bounding_box()
    page.mouse.move(last["x"] + 80, last["y"] + last["height"] / 2)
    page.mouse.down()
    page.mouse.move(third["x"] + 80, third["y"] + third["height"] / 2 - 2, steps=8)
    shot(page, "order-dragged")
    page.mouse.up()
    names = ["bf16", "batch 64", "workers", "fused optimizer", "compile"]
    expect(items.locator(".name")).to_have_text(names)
    panel.get_by_role("button", name="This is my guess").press("Space")
    expect(status).to_have_text("Guess saved.")
    assert panel.bounding_box() == size  # nothing jumps

    comparison.click()
    page.keyboard.press("Shift+Enter")
    expect(comparison).to_contain_text("5 of 6 pairs in the right order")
    expect(comparison).to_contain_text("Not measured, so left out: workers.")
    shot(page, "order-compared")


# --- A server under load ------------------------------------------------------------------------


def test_turn_it_up_in_a_browser_by_keys_and_on_a_phone(page):
    panel = page.locator(".kit-traffic")
    button, told = panel.get_by_role("button"), panel.get_by_role("status")
    rate = panel.get_by_role("slider", name="arrival rate")
    names = [label.text_content() for label in panel.locator("label").all()]
    assert names[1:] == [
        "largest batch",
        "longest wait",
        "queue bound",
        *(["replicas"] if REPLICAS else []),
    ]
    expect(told).to_have_text(READY)
    panel.scroll_into_view_if_needed()
    size = panel.bounding_box()

    rate.focus()
    for key in ("Home", "ArrowRight", "x", "d", "d"):  # no key cuts a cell of the notebook
        page.keyboard.press(key)
    expect(rate).to_have_attribute("aria-valuetext", "12 requests/s")
    button.press("Enter")
    expect(button).to_have_text("Stop")
    for line in ("arriving", "good", "p50_s", "waiting"):
        expect(panel.locator(f"path.line.{line}")).to_have_attribute("d", re.compile("M.*L"))
    for _ in range(5):
        rate.press("ArrowRight")
    expect(rate).to_have_attribute("aria-valuetext", "40 requests/s")
    expect(panel.get_by_role("img", name=re.compile(r"arriving [3-6]\d"))).to_have_count(1)
    shot(page, "traffic")
    button.press("Enter")
    expect(button).to_have_text("Start")
    expect(told).to_have_text(re.compile("The highest goodput was|Nothing was counted"))
    expect(button).to_be_focused()
    assert panel.bounding_box() == size  # nothing jumps
    assert size["height"] < 700  # the sliders and all charts are on a screen of 900 pixels

    output = ".jp-OutputArea-output:has(.kit-traffic)"
    assert violations(page, output, ("region",)) == []
    page.get_by_role("tab", name="File Browser").first.click()  # folds it away
    page.set_viewport_size({"width": 390, "height": 844})
    narrow = "panel => panel.clientWidth < 400 && panel.scrollWidth <= panel.clientWidth"
    page.wait_for_function(narrow, arg=panel.element_handle())  # nothing is cut off
    edge = panel.bounding_box()["x"] + panel.bounding_box()["width"]
    for part in panel.locator(".value, .key, button, svg").all():
        assert part.bounding_box()["x"] + part.bounding_box()["width"] <= edge
    assert violations(page, output, ("region",)) == []
    shot(page, "traffic-phone")
