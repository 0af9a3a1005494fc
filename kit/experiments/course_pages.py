"""The whole course as web pages: each lesson executed, and an index with the claims so far."""

from __future__ import annotations

import base64
import html
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit import __version__
from kit.core.errors import KitError, LessonFailed
from kit.core.files import NOTEBOOKS
from kit.core.units import UNKNOWN, words
from kit.experiments.execution import lessons, run
from kit.experiments.machine_lock import Say
from kit.experiments.outputs import strip_widgets, write_text
from kit.experiments.page_templates import POLICY, TEMPLATES, document
from kit.experiments.records import ExecutedRun, executed_runs
from kit.experiments.report import claims_table

PICTURES, GLOSSARY = "pictures", "glossary.md"  # beside the lessons
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
    "align-items background-color border border-left color display flex-wrap font-size "
    "font-variant-numeric font-weight gap height image-rendering line-height margin max-width "
    "min-width opacity outline overflow-x padding padding-left text-align vertical-align "
    "white-space width"
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
        shown = output.exists()  # a dead kernel may leave no file
        pictures, beside = notebook.parent / PICTURES, [each.name for each in chosen]
        page = write_page(output, pictures=pictures, beside=beside) if shown else None
        pages.append(Page(notebook.name[:2], _title(notebook), seconds, page, error))
    write_text(folder / "index.html", _index(pages, folder))
    return pages


def write_page(
    notebook: Path,
    index: str = "index.html",
    pictures: Path = NOTEBOOKS / PICTURES,
    beside: Sequence[str] = (),
) -> Path:
    """Write an executed notebook as one HTML file, which needs no network and runs no script.

    Links to notebooks that have a page `beside` it lead there; others become text.
    """
    import nbformat
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        extra_template_basedirs=[str(TEMPLATES)],
        template_name="lesson",
        sanitize_html=True,
        exclude_anchor_links=True,
        filters={"clean_html": lambda markup: _cleaned(_with_pictures(markup, pictures))},
    )
    style = (TEMPLATES / "lesson.css").read_text(encoding="utf-8")
    values = {"policy": POLICY, "version": __version__, "lesson_style": style, "index": index}
    executed = nbformat.read(notebook, as_version=4)
    strip_widgets(executed)  # the page has no scripts: it shows their pictures
    _add_glossary(executed)
    _link_pages(executed, beside)
    executed.metadata["title"] = _title(notebook)
    body, _ = exporter.from_notebook_node(executed, resources=values)
    return write_text(notebook.with_suffix(".html"), _accessible(body))


def _with_pictures(markup: object, folder: Path) -> str:
    """The HTML of a notebook with the diagrams of a folder in the text itself."""
    text = markup.decode() if isinstance(markup, bytes) else str(markup)

    def embedded(match: re.Match[str]) -> str:
        file = folder / f"{match[1]}.svg"
        if not file.is_file():
            return match[0]
        return f'src="data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode()}"'

    return re.sub(rf'src="{PICTURES}/([\w-]+)\.svg"', embedded, text)


def glossary() -> dict[str, tuple[str, str]]:
    """The terms that lessons explain: the anchor of each -> the term and its explanation."""
    parts = (NOTEBOOKS / GLOSSARY).read_text(encoding="utf-8").split("\n### ")[1:]
    entries = [(term, text.strip()) for term, _, text in (part.partition("\n") for part in parts)]
    return {
        re.sub(r"[^\w -]", "", term).lower().replace(" ", "-"): (term, text)
        for term, text in entries
    }


def _add_glossary(notebook: Any) -> None:
    """Add the terms that the notebook links to at its end, so that the page needs no other file."""
    import nbformat

    linked = set()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            linked |= set(re.findall(rf"\]\({re.escape(GLOSSARY)}#([\w-]+)", cell.source))
            cell.source = cell.source.replace(f"]({GLOSSARY}#", "](#")
    known = {anchor: entry for anchor, entry in glossary().items() if anchor in linked}
    entries = [
        f'<h3 id="{anchor}">{html.escape(term)}</h3>\n\n{text}'
        for anchor, (term, text) in known.items()
    ]
    if entries:
        source = "\n\n".join(["## Glossary", *entries])
        notebook.cells.append(nbformat.v4.new_markdown_cell(source))


def _link_pages(notebook: Any, beside: Sequence[str]) -> None:
    """Let links to notebooks lead to their pages, if these are there."""

    def linked(match: re.Match[str]) -> str:
        text, name = match.groups()
        return f"[{text}]({name.removesuffix('.ipynb')}.html)" if name in beside else text

    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"\[([^]]*)\]\(([\w/-]+\.ipynb)\)", linked, cell.source)


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
    # A style is for JupyterLab alone; of a tag that may not stay, the text would stay.
    return cleaner.clean(re.sub(r"(?s)<style\b.*?</style>", "", str(markup)))


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
    for table in soup.select(".kit-scroll"):  # here, the output around it scrolls
        del table["role"], table["aria-label"]
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
    runs, title = executed_runs(folder), "Training and inference, measured"
    machine, ledger = _machine(runs), claims_table(runs, folder)
    took = [words(page.seconds, "s") for page in pages]
    lessons = zip(pages, took, strict=True)
    return document("course", title=title, machine=machine, lessons=lessons, ledger=ledger)


def _machine(runs: Sequence[ExecutedRun]) -> str:
    """The computer, as a lesson describes it: lessons import PyTorch, this process need not."""
    records = (record for run in runs for record in run.records)
    one = next((record for record in records if record["kind"] == "Machine"), {})
    cores = f"{words(one.get('cores_allowed'))} of {one.get('cores_present', UNKNOWN)} cores"
    return f"{one.get('cpu', UNKNOWN)}, {cores}, PyTorch {one.get('torch', UNKNOWN)}"
