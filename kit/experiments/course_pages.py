"""The whole course as web pages: each lesson executed, and the ledger so far as their index."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kit import __version__
from kit.core.errors import KitError, LessonFailed
from kit.core.files import atomic_write
from kit.core.units import words
from kit.devices import machine
from kit.experiments.execution import lessons, run
from kit.experiments.machine_lock import Say
from kit.experiments.outputs import strip_widgets
from kit.experiments.page_templates import POLICY, TEMPLATES, document
from kit.experiments.report import ledger_table

LONG_LINE = 38  # characters: longer ones scroll on a phone, 390 px wide
# What notebooks may bring along in HTML: text, tables, pictures, curves. No scripts, no forms.
TAGS = (
    "a abbr b blockquote br code del div em figcaption figure h1 h2 h3 h4 h5 h6 hr i img li ol p "
    "pre small span strong sub sup table tbody td th thead tr ul "
    "circle g line path polyline rect svg text"
)
ATTRIBUTES = (
    "alt aria-label class colspan height href id role rowspan scope style title width "
    "cx cy d fill points r stroke stroke-width text-anchor transform viewbox x x1 x2 y y1 y2"
)
STYLES = (
    "border-left color font-size font-variant-numeric font-weight margin max-width opacity "
    "padding padding-left text-align white-space width"
)


@dataclass(frozen=True)
class Page:
    """One lesson of the course, run or failed."""

    number: str
    title: str
    seconds: float
    page: Path | None
    error: str = ""


def course(
    folder: Path,
    notebooks: Sequence[Path] | None = None,
    bar: bool = True,
    say: Say | None = None,
    limit_s: float | None = None,
) -> list[Page]:
    """Run every lesson headless; write the executed notebooks, a page each, and the index.

    A lesson that fails does not stop the others: the index says which cell raised. Where one
    waits for another run on this machine, or has a cell that takes long, `say` is told. A cell
    may take `limit_s` seconds at most; None: as long as it needs.
    """
    chosen = lessons() if notebooks is None else list(notebooks)
    if not chosen:
        raise KitError("no lessons found: run this where the kit's notebooks/ folder is.")
    pages = []
    for notebook in chosen:
        started = time.perf_counter()
        output, error = folder / notebook.name, ""
        try:
            run(notebook, output, bar=bar, say=say, limit_s=limit_s)
        except LessonFailed as failure:
            error, output = str(failure), output.with_suffix(".failed.ipynb")
        seconds = time.perf_counter() - started
        page = _write_page(output) if output.exists() else None  # a dead kernel leaves none
        pages.append(Page(notebook.name[:2], _title(notebook), seconds, page, error))
    _write(folder / "index.html", _index(pages, folder))
    return pages


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8", errors="replace")


def _write_page(notebook: Path, index: str = "index.html") -> Path:
    """The executed notebook as one HTML file that needs no network and runs no script."""
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        extra_template_basedirs=[str(TEMPLATES)],
        template_name="lesson",
        sanitize_html=True,
        exclude_anchor_links=True,
        filters={"clean_html": _cleaned},
    )
    style = (TEMPLATES / "lesson.css").read_text(encoding="utf-8")
    told = {"policy": POLICY, "version": __version__, "lesson_style": style, "index": index}
    executed = nbformat.read(notebook, as_version=4)
    strip_widgets(executed)  # a page without scripts shows what stands in for them
    executed.metadata["title"] = _title(notebook)
    body, _ = exporter.from_notebook_node(executed, resources=told)
    page = notebook.with_suffix(".html")
    _write(page, _reachable(body))
    return page


def _cleaned(markup: object) -> str:
    """HTML of a notebook without what could run, ask for something, or cover the page."""
    from bleach import Cleaner
    from bleach.css_sanitizer import CSSSanitizer

    cleaner = Cleaner(
        tags=set(TAGS.split()),
        attributes=_allowed,
        protocols={"http", "https", "mailto", "data"},
        strip=True,
        css_sanitizer=CSSSanitizer(allowed_css_properties=STYLES.split()),
    )
    return cleaner.clean(markup.decode() if isinstance(markup, bytes) else str(markup))


def _allowed(tag: str, name: str, value: str) -> bool:
    """A picture comes with the page; a link does not."""
    if name == "src":
        return tag == "img" and value.startswith("data:image/")
    return name in ATTRIBUTES.split() and not (name == "href" and value.strip().startswith("data:"))


def _reachable(page: str) -> str:
    """The page in which all that can scroll sideways can be reached by keyboard, and has a name."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page, features="html.parser")
    for each in soup.select("[tabindex]"):
        del each["tabindex"]
    for head in soup.select("th"):
        if not head.get_text(strip=True):
            head.name = "td"  # a header that says nothing is none
    for number, cell in enumerate(soup.select(".jp-Cell"), 1):
        for table in cell.select(".jp-MarkdownCell table"):
            table.wrap(soup.new_tag("div", attrs={"class": "side"}))
        boxes = cell.select(".jp-MarkdownCell .side, .jp-MarkdownCell pre")
        code, outputs = cell.select(".cm-editor .highlight"), cell.select(".jp-OutputArea-output")
        for what, found in (("Table", boxes), ("Code", code), ("Output", outputs)):
            for i, box in enumerate(filter(_scrolls, found), 1):
                which = f" {i}" if i > 1 else ""
                box.attrs |= {"tabindex": "0", "role": "region"}
                box["aria-label"] = f"{what}{which} of cell {number}"
    return str(soup)


def _scrolls(box: Any) -> bool:
    """Whether it may be wider than a phone."""
    lines = box.get_text().splitlines()
    return box.find("table") is not None or max(map(len, lines), default=0) > LONG_LINE


def _title(notebook: Path) -> str:
    """The first heading of a notebook."""
    import nbformat

    for cell in nbformat.read(notebook, as_version=4).cells:
        for line in cell.source.splitlines():
            if line.startswith("# "):
                return line.removeprefix("# ")
    return notebook.stem


def _index(pages: list[Page], folder: Path) -> str:
    ledger = ledger_table(folder)
    lessons = [
        {
            "title": f"{page.number} · {page.title}",
            "link": quote(page.page.name) if page.page else "",
            "took": words(page.seconds, "s"),
            "error": page.error,
        }
        for page in pages
    ]
    return document(
        "course",
        title="Training and inference, measured",
        machine=repr(machine()),
        lessons=lessons,
        rows=[(row[0], row[1], row[2], row[3]) for row in ledger.rows],
        caption=ledger.caption,
    )
