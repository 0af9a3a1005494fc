"""The whole course as web pages: each lesson executed, and the ledger so far as their index."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kit.devices import machine
from kit.errors import KitError, LessonFailed
from kit.runs.execution import lessons, run
from kit.runs.report import ledger_table
from kit.runs.turns import Say
from kit.units import words

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em;
       color: #222; background: #fff }
table { border-collapse: collapse; width: 100% } td, th { vertical-align: top }
th, td { text-align: left !important; border-bottom: 1px solid #ddd }
"""


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
    index = folder / "index.html"
    index.write_text(_index(pages, folder), encoding="utf-8")
    return pages


def _write_page(notebook: Path) -> Path:
    """The executed notebook as one HTML file that needs no network."""
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(
        template_name="lab", require_js_url="", mathjax_url="", jquery_url="", mermaid_js_url=""
    )
    body, _ = exporter.from_filename(str(notebook))
    page = notebook.with_suffix(".html")
    page.write_text(body, encoding="utf-8")
    return page


def _title(notebook: Path) -> str:
    """The first heading of a notebook."""
    import nbformat

    for cell in nbformat.read(notebook, as_version=4).cells:
        for line in cell.source.splitlines():
            if line.startswith("# "):
                return line.removeprefix("# ")
    return notebook.stem


def _link(page: Page) -> str:
    title = html.escape(f"{page.number} · {page.title}")
    return f'<a href="{html.escape(page.page.name)}">{title}</a>' if page.page else title


def _index(pages: list[Page], folder: Path) -> str:
    items = "".join(
        f"<li>{_link(page)} "
        f"({words(page.seconds, 's')})"
        f"{f'<br><b>failed:</b> {html.escape(page.error)}' if page.error else ''}</li>"
        for page in pages
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Training and inference, measured</title><style>{STYLE}</style>"
        f"<h1>Training and inference, measured</h1><p>Run on {html.escape(repr(machine()))}.</p>"
        f"<ul>{items}</ul><h2>The ledger so far</h2>{ledger_table(folder)._repr_html_()}</html>"
    )
