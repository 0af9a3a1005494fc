"""The whole course as web pages: each lesson executed, and an index with the claims so far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit import __version__
from kit.core.errors import KitError, LessonFailed
from kit.core.units import words
from kit.devices import machine
from kit.experiments.execution import lessons, run
from kit.experiments.machine_lock import Say
from kit.experiments.outputs import strip_widgets, write_text
from kit.experiments.page_templates import POLICY, TEMPLATES, document
from kit.experiments.report import ledger_table

LONG_LINE = 38  # characters: longer lines scroll on a phone that is 390 px wide
# The HTML that notebooks may contain: text, tables, pictures, curves. No scripts, no forms.
TAGS = (
    "a abbr b blockquote br code del details div em figcaption figure h1 h2 h3 h4 h5 h6 hr i img "
    "li ol p pre small span strong sub summary sup table tbody td th thead tr ul "
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
    """The page of one lesson, which ran or failed."""

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
    """Run every lesson; write the executed notebooks, a page for each, and the index.

    A failed lesson does not stop the others: the index says which cell raised. For `bar`, `say` and
    `limit_s` see `kit.experiments.run`.
    """
    chosen = lessons() if notebooks is None else list(notebooks)
    if not chosen:
        raise KitError("no lessons found; give the path of a notebook, as in kit course 01.ipynb.")
    pages = []
    for notebook in chosen:
        started = time.perf_counter()
        output, error = folder / notebook.name, ""
        try:
            run(notebook, output, bar=bar, say=say, limit_s=limit_s)
        except LessonFailed as failure:
            error, output = str(failure), output.with_suffix(".failed.ipynb")
        seconds = time.perf_counter() - started
        page = _write_page(output) if output.exists() else None  # a dead kernel may leave no file
        pages.append(Page(notebook.name[:2], _title(notebook), seconds, page, error))
    write_text(folder / "index.html", _index(pages, folder))
    return pages


def _write_page(notebook: Path, index: str = "index.html") -> Path:
    """Write an executed notebook as one HTML file, which needs no network and runs no script."""
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
    values = {"policy": POLICY, "version": __version__, "lesson_style": style, "index": index}
    executed = nbformat.read(notebook, as_version=4)
    strip_widgets(executed)  # the page has no scripts: it shows their pictures
    executed.metadata["title"] = _title(notebook)
    body, _ = exporter.from_notebook_node(executed, resources=values)
    return write_text(notebook.with_suffix(".html"), _accessible(body))


def _cleaned(markup: object) -> str:
    """The HTML of a notebook without anything that could run, load a file, or cover the page."""
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
    """Whether an attribute may stay: pictures must be part of the page, links must not be."""
    if name == "src":
        return tag == "img" and value.startswith("data:image/")
    return name in ATTRIBUTES.split() and not (name == "href" and value.strip().startswith("data:"))


def _accessible(page: str) -> str:
    """The page with a name and keyboard access for every box that can scroll sideways."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page, features="html.parser")
    for each in soup.select("[tabindex]"):
        del each["tabindex"]
    for head in soup.select("th"):
        if not head.get_text(strip=True):
            head.name = "td"  # an empty header is not a header
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
    """Whether a box may be wider than a phone."""
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
    ledger, title = ledger_table(folder), "Training and inference, measured"
    took = [words(page.seconds, "s") for page in pages]
    lessons = zip(pages, took, strict=True)
    return document("course", title=title, machine=machine(), lessons=lessons, ledger=ledger)
