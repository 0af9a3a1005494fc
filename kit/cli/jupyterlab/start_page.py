"""The page START.md beside the lessons: which there are, what the reader has solved, what is next.

It is read from the saved notebooks, in which two things stay:

exercises  `kit.check` prints "ID: right." below a right answer
verdicts   a card is a record; one that differs from the kit's own was measured by the reader

A quiz and a guess live in the kernel, and end with it: nothing of them is listed.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kit.core.files import NOTEBOOKS, atomic_write, read_file
from kit.core.results import records_in

NAME = "START.md"
MOST_BYTES = 50_000_000  # of a notebook; a lesson has at most some megabytes
CHECK = re.compile(r"kit\.check\(\s*[\"']([\w-]+)[\"']")
RIGHT = re.compile(r"([\w-]+): right\.")


@dataclass(frozen=True)
class Progress:
    """One lesson, and what its saved notebook shows of the reader's work."""

    name: str  # of the file
    title: str
    minutes: str
    exercises: tuple[str, ...]  # their ids, in order
    right: frozenset[str]
    verdicts: int  # cards in the kit's own copy
    measured: int  # cards that the reader's notebook has measured by itself

    @property
    def done(self) -> bool:
        """Whether all exercises are right."""
        return bool(self.exercises) and self.right >= set(self.exercises)

    @property
    def state(self) -> str:
        """*done*, *begun* or *new*."""
        return "done" if self.done else "begun" if self.right or self.measured else "new"


def lesson_progress(path: Path, original: Path) -> Progress:
    """What a reader's lesson shows; outputs of the original, the kit's own copy, are not theirs."""
    # In a checkout the reader's lesson is the kit's own: nobody knows whose verdicts those are.
    cells = _cells(path)
    own = {} if path.resolve() == original.resolve() else _verdicts(_cells(original))
    head = _source(cells[0]) if cells else ""
    ids = dict.fromkeys(id for cell in cells for id in CHECK.findall(_source(cell)))
    right = {id for cell in cells for text in _texts(cell) for id in RIGHT.findall(text)}
    measured = [claim for claim, card in own.items() if _verdicts(cells).get(claim, card) != card]
    return Progress(
        path.name,
        head.splitlines()[0].lstrip("# ") if head.strip() else path.stem,
        next(iter(re.findall(r"Reading (\d+) min", head)), "—"),
        tuple(ids),
        frozenset(right & set(ids)),
        len(own),
        len(measured),
    )


def progress(folder: Path, originals: Path = NOTEBOOKS) -> list[Progress]:
    """All lessons of a folder, in order."""
    paths = sorted(folder.glob("[0-9][0-9]-*.ipynb"))
    return [lesson_progress(path, originals / path.name) for path in paths]


def start_page(found: list[Progress]) -> str:
    """The page as Markdown: what comes next, then a line for each lesson."""
    lines = ["# Your lessons", ""]
    following = next((each for each in found if not each.done), None)
    if following:
        verb = "Continue" if any(each.state != "new" for each in found) else "Begin"
        lines += [f"**{verb} with [{following.title}]({following.name}).**", ""]
    solved, asked = (sum(len(getattr(p, n)) for p in found) for n in ("right", "exercises"))
    done = sum(each.done for each in found)
    lines += [
        f"{done} of {len(found)} lessons done, {solved} of {asked} exercises right. A lesson is "
        f"done when `kit.check` has called all of its exercises right and you have saved it. "
        f"Close and open this page to count again.",
        "",
        "| no. | lesson | minutes | exercises right | claims measured by you | state |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in found:
        cards = f"{each.measured} of {each.verdicts}" if each.verdicts else "—"
        lines.append(
            f"| {each.name[:2]} | [{each.title}]({each.name}) | {each.minutes} | "
            f"{len(each.right)} of {len(each.exercises)} | {cards} | {each.state} |"
        )
    more = "Words are explained in the [glossary](glossary.md). [experiments](experiments) holds "
    return "\n".join([*lines, "", f"{more}notebooks for models and data of your own.", ""])


def write_start_page(folder: Path) -> bool:
    """Write START.md into the folder of lessons; whether the reader has begun any of them."""
    found = progress(folder)
    # A folder of somebody else's is opened without the page.
    with suppress(OSError), atomic_write(folder / NAME) as draft:
        draft.write_text(start_page(found), encoding="utf-8")
    return any(each.state != "new" for each in found)


# --- What a saved notebook contains: a reader's file can be anything -----------------------------


def _cells(path: Path) -> list[dict[str, Any]]:
    try:
        cells = json.loads(read_file(path, MOST_BYTES))["cells"]
        return [cell for cell in cells if isinstance(cell, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return "".join(source) if isinstance(source, str | list) else ""


def _outputs(cell: dict[str, Any]) -> list[dict[str, Any]]:
    return [output for output in cell.get("outputs", []) if isinstance(output, dict)]


def _texts(cell: dict[str, Any]) -> list[str]:
    """The plain texts below a cell."""
    return ["".join(o.get("data", {}).get("text/plain", "")) for o in _outputs(cell)]


def _verdicts(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Claim -> the record of its card."""
    records = [r for cell in cells for output in _outputs(cell) for r in records_in(output)]
    return {r["claim_id"]: r for r in records if r["kind"] == "Verdict" and "claim_id" in r}
