"""Recorded notebooks as sources of pages: each has its outputs, and says when and where it ran."""

import html
import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from places import ROOT, Links, place, without_remarks

READING = re.compile(r"Reading (\d+) min \((\d+) with the code\)")
RUNNING = re.compile(r"[Rr]unning ([^·*\n]+?)\s*(?:on 2 CPU cores[^·*\n]*)?(?=[·*\n.])")
PICTURE = re.compile(r"!\[([^\]]*)\]\((pictures/[^)\s]+)\)")
INSTALL = "../guides/install.html"  # until the repository has a public address
WIDGET = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class Notebook:
    """A lesson or an experiment."""

    path: str  # in the repository
    cells: list[dict[str, Any]] = field(repr=False)
    metadata: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, path: str) -> "Notebook":
        """Read a notebook of the repository."""
        content = json.loads((ROOT / path).read_text(encoding="utf-8"))
        return cls(path, content["cells"], content["metadata"])

    @property
    def name(self) -> str:
        """Its file's name without the ending, such as 04-one-at-a-time-or-all-at-once."""
        return PurePosixPath(self.path).stem

    @property
    def number(self) -> str:
        """The number of a lesson; "" for an experiment."""
        return self.name[:2] if self.name[:2].isdigit() else ""

    @property
    def head(self) -> str:
        """The text of its first cell."""
        return source(self.cells[0])

    @property
    def title(self) -> str:
        """Its question."""
        return self.head.partition("\n")[0].removeprefix("# ")

    @property
    def minutes(self) -> tuple[str, str]:
        """Minutes to read it, without and with the code."""
        found = READING.search(self.head)
        return (found[1], found[2]) if found else ("", "")

    @property
    def picture(self) -> tuple[str, str]:
        """Alt text and file of its first diagram; of an experiment: none."""
        texts = (source(cell) for cell in self.cells if cell["cell_type"] == "markdown")
        found = next((match for text in texts if (match := PICTURE.search(text))), None)
        return (found[1], found[2]) if found else ("", "")

    @property
    def doc(self) -> str:
        """Its page, as Sphinx names it."""
        return str(PurePosixPath(place(self.path) or "").with_suffix(""))


def source(cell: dict[str, Any]) -> str:
    """The source of a cell as one text."""
    return "".join(cell["source"])


def page(notebook: Notebook, links: Links, binder: str) -> str:
    """The notebook as a source of Sphinx: JSON, with links, buttons and outputs that fit a page."""
    cells = [_cell(cell, i, notebook.path, links) for i, cell in enumerate(notebook.cells, 1)]
    title, _, rest = cells[0]["source"].partition("\n")
    cells[0]["source"] = f"{title}\n\n{bar(notebook, binder)}\n{rest}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    made = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(made, ensure_ascii=False)


def bar(notebook: Notebook, binder: str) -> str:
    """What stands under the title: buttons, and when and where the notebook ran."""
    recorded = notebook.metadata.get("kit_recording", {})
    when = html.escape(f"{recorded.get('machine', 'an unknown machine')}")
    date = html.escape(str(recorded.get("date", "an unknown day")))
    file, name = f"../notebooks/{notebook.path.removeprefix('notebooks/')}", notebook.number
    what = f"lesson {name}" if name else notebook.name
    run = f"Run {what} on Binder" if binder else f"Run {what} on your computer"
    return (
        '<div class="bar">\n'
        f'<a class="button main" href="{html.escape(binder or INSTALL)}">{run}</a>\n'
        f'<a class="button" href="{file}" download>Download the notebook</a>\n'
        f'<p>Last run on <time datetime="{date}">{date}</time>: {when}</p>\n'
        "</div>\n"
    )


def _cell(cell: dict[str, Any], number: int, path: str, links: Links) -> dict[str, Any]:
    text, kind = source(cell), cell["cell_type"]
    made: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    if kind == "code":
        outputs = [_output(each) for each in cell["outputs"]]
        return made | {"source": text, "outputs": outputs, "execution_count": None}
    return made | {"source": links.rewrite(without_remarks(text), path)}


def _output(output: dict[str, Any]) -> dict[str, Any]:
    """An output with the picture or the text of a panel, never the panel itself."""
    if "data" not in output:
        return output
    data = {kind: value for kind, value in output["data"].items() if kind != WIDGET}
    for best in ("text/html", "image/svg+xml", "image/png"):
        if best in data:
            data = {best: data[best]}
            break
    return {"output_type": "display_data", "metadata": {}, "data": data}
