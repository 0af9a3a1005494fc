"""Every page that the kit writes, in a real browser: no script runs, and nobody is left out."""

import json
import os
import re
from itertools import product
from pathlib import Path

import nbformat
import pytest
from axe import SCHEMES, violations
from browser import Watch, running_chromium

from kit.experiments import lessons, write_report
from kit.experiments.course_pages import Page, _cleaned, _index, write_page
from kit.experiments.recording import RECORDED_RUNS
from kit.experiments.report import write_card
from kit.plots import Table, curve, dots

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api")

ATTACK = (
    "<script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\">"
    "<svg onload=\"document.title='hit'\"><a href=\"javascript:document.title='hit'\">go</a></svg>"
    '<iframe srcdoc="<script>top.document.title=1</script>"></iframe>'
    '<form action="http://192.0.2.1/"><input name=q></form><meta http-equiv="refresh" content="0">'
    '<style>body { display: none }</style><base href="http://192.0.2.1/">'
    '<p style="position:fixed;inset:0;background:url(http://192.0.2.1/)">over all</p>'
)

STYLE = re.compile(r' style="([^"]*)"')
SHADOW = re.compile(r";background:linear-gradient[^\"]*(?=\")")


def attack(path: Path) -> Path:
    """A notebook that tries to run a script from all that a page shows of it."""
    kinds = ("text/html", "image/svg+xml", "text/markdown", "application/javascript", "text/latex")
    outputs = [
        nbformat.v4.new_output("display_data", data={kind: ATTACK, "text/plain": ATTACK})
        for kind in (*kinds, "text/plain", "application/vnd.jupyter.widget-view+json")
    ]
    outputs += [
        nbformat.v4.new_output("stream", text=ATTACK),
        nbformat.v4.new_output("error", ename=ATTACK, evalue=ATTACK, traceback=[ATTACK]),
    ]
    cells = [
        nbformat.v4.new_markdown_cell(f"# {ATTACK}\n\n{ATTACK}\n\n[x](javascript:alert(1))"),
        nbformat.v4.new_raw_cell(ATTACK, metadata={"raw_mimetype": "text/html"}),
        nbformat.v4.new_code_cell(ATTACK, outputs=outputs, metadata={"tags": [ATTACK]}),
    ]
    made = nbformat.v4.new_notebook(cells=cells, metadata={"title": ATTACK})
    made.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"x": ATTACK}}
    made.metadata["language_info"] = {"name": "python"}
    path.write_text(json.dumps(made))  # not nbformat, which would refuse some of it
    return path


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """One page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    runs = folder / "runs"
    runs.mkdir()
    for path in (RECORDED_RUNS / "eight").glob("*.ipynb"):
        (runs / path.name).write_bytes(path.read_bytes())
    (runs / "damaged.ipynb").write_text("{")
    lesson = folder / lessons()[2].name
    lesson.write_bytes(lessons()[2].read_bytes())
    done = [
        Page("02", "What does a step cost?", 25.0, write_page(lesson)),
        Page("03", f"Failed {ATTACK}", 1.0, None, f"cell 3 raised {ATTACK}"),
    ]
    (folder / "index.html").write_text(_index(done, runs))
    return {
        "report": write_report(runs).paths[2],
        "lesson": done[0].page,
        "course": folder / "index.html",
        "card": write_card(runs, folder / "card.html"),
        "attack": write_page(attack(folder / "attack.ipynb")),
    }


@pytest.fixture(scope="module")
def browser():
    with running_chromium() as browser:
        yield browser


@pytest.mark.parametrize("kind", ["report", "lesson", "course", "card"])
def test_a_page_is_accessible_on_a_screen_and_on_a_phone(kind, pages, browser):
    """Loaded once: its colours and its width change, as they may for a reader."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    watch = Watch(page)
    page.goto(pages[kind].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.title() and page.locator("html[lang=en]").count() == 1
    for landmark in ("header", "main", "footer"):
        assert page.locator(f"body > {landmark}").count() == 1
    for width, scheme in product((1280, 390), SCHEMES):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert not violations(page), (width, scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        if folder := os.environ.get("KIT_SCREENSHOTS"):  # for people who want to look
            path = Path(folder) / f"{kind}-{width}-{scheme}.png"
            page.screenshot(path=path, full_page=True)
    assert not watch.errors
    page.close()


@pytest.mark.parametrize("kind", ["report", "lesson", "course"])
def test_what_scrolls_sideways_can_be_scrolled_by_keyboard(kind, pages, browser):
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(pages[kind].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    wide = page.evaluate(
        """() => [...document.querySelectorAll('body *')].filter(each =>
            each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0 &&
            ['auto', 'scroll'].includes(getComputedStyle(each).overflowX))
            .map(each => [each.tabIndex, each.getAttribute('aria-label'), each.className])"""
    )
    assert wide and all(index == 0 and label for index, label, _ in wide), wide
    page.get_by_label(wide[0][1], exact=True).first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_timeout(500)  # it glides
    assert page.evaluate("document.activeElement.scrollLeft") > 0
    page.close()


def test_the_card_prints_on_few_sheets(browser, tmp_path):
    card = write_card(lessons()[0].parent, tmp_path / "card.html")
    page = browser.new_page()
    page.goto(card.as_uri())
    assert page.locator("article").count() == 38
    printed = page.pdf(prefer_css_page_size=True)
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", printed)) <= 8
    page.close()


@pytest.mark.parametrize("kind", ["attack", "course"])
def test_nothing_of_a_strangers_notebook_runs_or_asks_for_anything(kind, pages, browser):
    for csp in (False, True):  # what is taken out must be enough without the policy, too
        context = browser.new_context(bypass_csp=csp)
        page = context.new_page()
        watch = Watch(page)
        page.goto(pages[kind].as_uri())
        page.wait_for_timeout(300)
        assert page.title() != "hit" and page.evaluate("document.title") != "hit"
        bad = "script, iframe, form, input, base, object, [onerror], [onload], meta[content='0']"
        assert page.locator(bad).count() == 0
        assert page.locator("a[href^='javascript']").count() == 0
        assert page.locator("body").is_visible()
        assert not [url for url in watch.strangers if not url.startswith("file:")]
        context.close()


def test_the_policy_forbids_scripts(pages, browser, tmp_path):
    """Where something would get through all the same, as from a fault in what takes it out."""
    for kind, path in pages.items():
        through = ATTACK.partition("<form")[0]
        text = path.read_text(encoding="utf-8").replace("</main>", f"{through}</main>")
        (tmp_path / f"{kind}.html").write_text(text, encoding="utf-8")
        page = browser.new_page()
        page.goto((tmp_path / f"{kind}.html").as_uri())
        assert page.locator("script").count() > 0  # it is there,
        assert page.evaluate("document.title") != "hit"  # and has not run
        page.close()


def test_what_the_kit_shows_passes_unchanged():
    table = Table(("", "time"), [("cnn", "9 ms")], "On one thread.")._repr_html_()
    picture = dots({"a": (3, 2, 4)}, "ratio", caption="c < d")._repr_html_()
    for shown in (table, picture, curve([2.0, 1.0], 2, "loss")):
        cleaned = _cleaned(shown)
        for part in ("<table", "<th ", "9 ms", "<img", "<svg", "<polyline", "aria-label=", "alt="):
            assert (part in cleaned) == (part in shown), part
        assert "text-align" in cleaned or "<table" not in shown


def test_a_style_for_jupyterlab_leaves_no_text():
    assert _cleaned("<p>a</p><style class='x'>.a{\n}</style><p>b</p>") == "<p>a</p><p>b</p>"


def test_links_lead_to_pages_that_are_there(tmp_path):
    first = tmp_path / lessons()[0].name
    first.write_bytes(lessons()[0].read_bytes())
    alone = write_page(first).read_text()
    assert ".ipynb" not in alone
    beside = write_page(first, beside=[lessons()[1].name]).read_text()
    assert f'href="{lessons()[1].stem}.html"' in beside and ".ipynb" not in beside


def test_what_a_panel_shows_without_scripts_keeps_its_form():
    """All styles of the stored outputs may stay, so bars have their length and columns stand."""
    notebooks = [*lessons(), *lessons()[0].parent.glob("experiments/*.ipynb")]
    styled = 0
    for path in notebooks:
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get("outputs", []):
                shown = output.get("data", {}).get("text/html", "")
                # A background can load a file; the page's own style draws this shadow again.
                shown = SHADOW.sub("", shown)
                if not STYLE.search(shown):
                    continue
                names = [set(re.findall(r"([a-z-]+):", style)) for style in STYLE.findall(shown)]
                kept = [set(re.findall(r"([a-z-]+):", s)) for s in STYLE.findall(_cleaned(shown))]
                assert names == kept, path.name
                styled += len(names)
    assert styled > 100
