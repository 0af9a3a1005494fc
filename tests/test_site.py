"""The site: built once from the recorded notebooks, then read as files and in a real browser."""

import itertools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import pytest
from bs4 import BeautifulSoup
from filelock import FileLock

from kit.classroom.releasing import binder_link
from kit.core.files import NOTEBOOKS
from kit.course.claims import ledger
from kit.experiments import lessons

if find_spec("myst_nb") is None:
    pytest.skip("needs the extra `docs`", allow_module_level=True)

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "docs/_site"))
from badges import with_badges  # noqa: E402
from places import repository  # noqa: E402
from recorded_notebooks import Notebook, bar  # noqa: E402

WEIGHT = 1.5e6  # bytes: the most for a page with all that it loads
WIDTHS = 1280, 390  # px: a screen, a phone
ALL = os.environ.get("KIT_TEST_SITE") == "all"
# A page of each kind; by KIT_TEST_SITE=all, every page.
KINDS = (
    "index.html",
    "lessons/02-what-does-a-training-step-cost.html",
    "experiments/index.html",
    "experiments/class-results.html",
    "report-card.html",
    "benchmarks.html",
    "gallery/index.html",
    "gallery/is-this-speed-up-real.html",
    "glossary.html",
    "guides/serving.html",
    "reference/index.html",
    "reference/this-computer.html",
    "search.html",
)
BROKEN = r"Loading widget|VBox\(|HBox\(|object at 0x|model not found|Traceback \(most recent"


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id) -> Path:
    """The site, built once for all workers of the tests; KIT_SITE names one that is there."""
    if there := os.environ.get("KIT_SITE"):
        return Path(there)
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "site"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            command = [sys.executable, str(ROOT / "docs/_site/build.py"), "--out", str(folder)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


class Pages(Mapping):
    """Every page of the site by its place; each is parsed when it is asked for, once."""

    def __init__(self, site):
        self.site = site
        self.names = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html"))
        self.text = cache(lambda name: (site / name).read_text("utf-8"))
        self.parsed = cache(lambda name: BeautifulSoup(self.text(name), "html.parser"))
        self.tags = cache(lambda name: start_tags(self.text(name)))

    def __getitem__(self, name):
        return self.parsed(name)

    def __iter__(self):
        return iter(self.names)

    def __len__(self):
        return len(self.names)


class StartTags(HTMLParser):
    """Collects the tags of a page."""

    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attrs):
        """Add it."""
        self.tags.append((tag, {key: value or "" for key, value in attrs}))


def start_tags(text):
    """The name and the attributes of each tag of a page, without the tree: much faster."""
    found = StartTags()
    found.feed(text)
    return found.tags


@pytest.fixture(scope="session")
def pages(site) -> Pages:
    """Every page of the site by its place."""
    return Pages(site)


# --- What is there -------------------------------------------------------------------------------


def test_each_lesson_experiment_and_guide_has_a_page(pages):
    named = [f"lessons/{path.stem}.html" for path in lessons()]
    named += [f"experiments/{path.stem}.html" for path in NOTEBOOKS.glob("experiments/*.ipynb")]
    guides = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"results"}
    named += [f"guides/{name}.html" for name in guides]
    named += [f"gallery/{path.stem}.html" for path in (ROOT / "docs").glob("gallery/*.md")]
    assert {*named, "benchmarks.html", "reference/index.html"} <= set(pages)


@pytest.mark.parametrize("path", lessons(), ids=lambda path: path.name[:2])
def test_a_lesson_says_when_and_where_it_ran_and_leads_on(path, pages, site):
    import nbformat

    recorded = nbformat.read(path, as_version=4).metadata.kit_recording
    page = pages[f"lessons/{path.stem}.html"]
    top = page.select_one(".bar")
    assert recorded.date in top.text and recorded.machine in top.text
    run, download = (link["href"] for link in top.select("a"))
    if repository():
        assert run.startswith("https://mybinder.org/v2/") and run.endswith(path.name)
    else:
        assert run == "../guides/install.html"
    assert (site / "lessons" / download).read_bytes() == path.read_bytes()
    beside = [f"{other.stem}.html" for other in lessons()]
    i = beside.index(f"{path.stem}.html")
    near = {beside[j] for j in (i - 1, i + 1) if 0 <= j < len(beside)}
    assert near <= {link["href"] for link in page.select("footer a, .related-pages a")}


def test_the_start_page_has_a_card_for_each_lesson(pages):
    cards = pages["index.html"].select(".cards:not(.findings) > .card")
    assert [card.h3.a["href"] for card in cards] == [f"lessons/{p.stem}.html" for p in lessons()]
    assert all(re.search(r"\d+ min", card.text) and card.img["alt"] for card in cards)


def test_the_report_card_has_every_claim(pages):
    shown = [each["id"] for each in pages["report-card.html"].select(".claim")]
    assert shown == [f"claim-{id}" for id in ledger()]


def test_outputs_are_shown_as_recorded_and_no_panel_is_missing(pages):
    for name in pages:
        if name.startswith(("lessons", "experiments")):
            assert not re.search(BROKEN, pages[name].get_text()), name
        for tag, about in pages.tags(name):
            assert "widget" not in about.get("class", ""), (name, tag)
            assert tag != "script" or "jupyter" not in about.get("type", ""), name
    shown = pages["lessons/04-one-at-a-time-or-all-at-once.html"].select(".cell_output")
    assert len(shown) == 23


def test_badges_and_links_to_binder_need_an_address_and_have_no_other():
    """Nothing leads to a repository that does not exist: pyproject.toml is the one place for it."""
    readme = (ROOT / "README.md").read_text("utf-8")
    assert with_badges(readme, repository()) == readme  # else: python docs/_site/badges.py
    address = "https://github.com/you/ml"
    badged = with_badges(readme, address)
    for path in lessons():
        link = binder_link(address, "main", f"notebooks/{path.name}")
        assert f"on Binder](docs/_site/static/binder.svg)]({link}) |" in badged
        assert f'href="{link}"' in bar(Notebook.read(f"notebooks/{path.name}"), link)
    assert badged.count("binder.svg") == len(lessons())
    assert with_badges(badged, "") == with_badges(readme, "") and "run it |" in badged


def test_without_an_address_no_page_leads_to_binders_builds(pages):
    if not repository():
        assert not [name for name in pages if "mybinder.org/v2" in pages.text(name)]


def test_the_start_page_says_what_was_found_with_the_numbers_of_the_report_card(pages):
    claims = {each["id"]: each.get_text(" ") for each in pages["report-card.html"].select(".claim")}
    found = pages["index.html"].select(".findings .card")
    assert len(found) == 3
    for card in found:
        claim = claims[card.a["href"].partition("#")[2]]
        assert card.select_one(".measured").get_text().strip() in claim
        assert card.select_one(".verdict").text in claim
        parts = ledger()[card.a["href"].partition("#claim-")[2]].parts.values()
        assert not parts or any(f"{part}: " in card.get_text() for part in parts)
    counts = [int(each.text) for each in pages["index.html"].select(".verdicts b")]
    assert sum(counts) <= len(ledger()) and len(counts) > 1


# --- Links, pictures, other hosts ----------------------------------------------------------------


def test_every_link_inside_leads_to_a_page_and_a_place_that_are_there(pages, site):
    tags = {name: pages.tags(name) for name in pages}
    anchors = {name: {about.get("id") for _, about in tags[name]} for name in pages}
    broken, followed = [], 0
    for name in pages:
        for link in [about["href"] for tag, about in tags[name] if tag == "a" and "href" in about]:
            target, part = urldefrag(urljoin(f"http://site/{name}", link))
            if not target.startswith("http://site/"):
                continue
            place, followed = unquote(target.removeprefix("http://site/")), followed + 1
            place = place or "index.html"
            there = part == "" or unquote(part) in anchors.get(place, ())
            if not (site / place).is_file() or not there:
                broken.append(f"{name}: {link}")
    assert not broken and followed > 1_000


def test_every_picture_has_alt_text(pages):
    for name in pages:
        for tag, about in pages.tags(name):
            if tag == "img" or (tag == "svg" and "role" in about):
                assert about.get("alt", about.get("aria-label", "")).strip(), name


def test_every_picture_of_a_measurement_has_its_table(pages):
    """Its own, folded away below it; or, if it is older than those, a link to one beside it."""
    missing, seen = set(), 0
    for name in pages:
        if "cell_output" not in pages.text(name):
            continue
        page = pages[name]
        for picture in filter(_is_output, page.find_all(["img", "svg"])):
            figure, seen = picture.find_parent("figure"), seen + 1
            if not (_beside_its_numbers(picture) if figure is None else _has_table(figure, page)):
                missing.add((name, picture.find_previous("h2").text.split(" ")[0]))
    assert not missing and seen > 60


def _is_output(tag) -> bool:
    return tag.find_parent(class_="cell_output") is not None


def _has_table(figure, page) -> bool:
    if (link := figure.select_one(".beside a")) is not None:
        return page.select_one(f"{link['href']} table tr") is not None
    return len(figure.select("details table tr")) > 1


def _beside_its_numbers(picture) -> bool:
    """Whether it is a small image in a table, or a drawing with the answers to it."""
    answers = picture.parent.parent.select('[role="img"][aria-label*="reads"]')
    return picture.find_parent("table") is not None or bool(answers)


def test_no_page_loads_anything_from_another_host(pages, site):
    outside = re.compile(r"^(https?:)?//")
    for name in pages:
        tags = pages.tags(name)
        loaded = [about["src"] for _, about in tags if "src" in about]
        links = [about for tag, about in tags if tag == "link" and "href" in about]
        loaded += [about["href"] for about in links if about["rel"] != "canonical"]
        assert not [address for address in loaded if outside.match(address)], name
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text("utf-8")), path


# --- In a browser --------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, *words):
        """Nothing."""


@pytest.fixture(scope="module")
def address(site):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")  # while it lives, Playwright's event loop counts as running
def browser():
    from browser import running_chromium

    with running_chromium() as browser:
        yield browser


@pytest.mark.browser
@pytest.mark.parametrize("name", KINDS)
def test_a_page_is_accessible_light_and_loads_only_from_its_own_server(
    name, address, browser, pages
):
    i, n = KINDS.index(name), len(KINDS)
    for each in sorted(pages)[i::n] if ALL else [name]:
        look_at(f"{address}/{each}", browser)


def look_at(url, browser):
    """What must hold for a page: light on a screen, dark on a phone; with all pages, each on each.

    It is loaded once; then its colours and its width change, as they may for a reader. The weight
    is what the page and all that it loads come to, without compression.
    """
    from axe import SCHEMES, violations
    from browser import Watch

    page = browser.new_page(viewport={"width": 1280, "height": 900})
    watch, weights = Watch(page), []
    page.on("response", partial(weigh, weights))
    page.goto(url)
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    looks = itertools.product(SCHEMES, WIDTHS) if ALL else zip(SCHEMES, WIDTHS, strict=True)
    for scheme, width in looks:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        assert not violations(page), (url, scheme, width)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (url, width)
    assert 0 < sum(weights) <= WEIGHT, (url, sum(weights))
    assert not watch.errors and not watch.strangers, (url, watch.errors, watch.strangers)
    page.close()


def weigh(weights, answer):
    """Add the bytes of an answer; pictures inside the page are counted with it."""
    if answer.url.startswith("http"):
        weights.append(len(answer.body()))


@pytest.mark.browser
def test_search_finds_without_a_server_of_its_own(address, browser):
    page = browser.new_page()
    page.goto(f"{address}/index.html")
    page.get_by_role("searchbox").or_(page.locator(".sidebar-search")).first.fill("roofline")
    page.keyboard.press("Enter")
    # Sphinx shows one result after the other.
    page.wait_for_selector("#search-results li a[href*='lessons/05-']", state="attached")
    page.close()


@pytest.mark.browser
def test_on_a_phone_the_keyboard_opens_and_closes_the_list_of_pages(address, browser):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.goto(f"{address}/glossary.html")
    link = page.locator(".sidebar-tree a").first
    assert not link.is_visible()
    page.locator("#__navigation").focus()
    page.keyboard.press("Space")
    page.wait_for_timeout(500)  # it slides in
    assert link.is_visible() and link.bounding_box()["x"] >= 0
    page.keyboard.press("Space")
    page.wait_for_timeout(500)
    assert not link.is_visible()
    page.close()


@pytest.mark.browser
def test_the_colour_scheme_can_be_chosen(address, browser):
    page = browser.new_page(viewport={"width": 1400, "height": 800}, color_scheme="light")
    page.goto(f"{address}/glossary.html")
    colours = set()
    for _ in range(3):
        page.locator(".theme-toggle-content .theme-toggle").click()
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2
    page.close()
