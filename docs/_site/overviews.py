"""The pages that bring others together: the start page, the experiments, the report card."""

import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from places import ROOT, Links, place, shown
from recorded_notebooks import Notebook

from kit.core.units import UNKNOWN
from kit.course.claims import CANNOT_TELL, ledger
from kit.experiments.records import executed_runs
from kit.experiments.report_card import NOT_MEASURED, WORDS, _by_source, report_card

TEMPLATES = Path(__file__).with_name("templates")
GUIDES = (
    "learner",
    "teacher",
    "sessions",
    "experimenter",
    "your-own-model",
    "serving",
    "many-machines",
)
RESULTS = "benchmarks/results"


def render(template: str, **values: Any) -> str:
    """A page from its template, all text escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values) + "\n"


def start_page(lessons: Sequence[Notebook], experiments: Sequence[Notebook], links: Links) -> str:
    """The first page: what this is, a first program, a card for each lesson, doors to the rest."""
    readme = links.rewrite((ROOT / "README.md").read_text(encoding="utf-8"), "README.md")
    program, output = (re.findall(rf"```{kind}\n(.*?)```", readme, re.DOTALL)[0] for kind in KINDS)
    decided = {
        each.number: [id for id, claim in ledger().items() if each.number in claim.lessons]
        for each in lessons
    }
    examples = [(title(path), _doc(place(path) or "")) for path in shown("docs/gallery/*.md")]
    examples.sort(key=lambda example: not example[1].endswith("/index"))  # it leads to the others
    return render(
        "index.md.j2",
        lead=readme.split("\n\n")[1],
        program=program,
        output=output,
        lessons=lessons,
        experiments=experiments,
        decided=decided,
        guides=guides(),
        examples=examples,
        claims=len(ledger()),
    )


KINDS = ("python", "text")  # of the blocks in the README: the program, and what it prints


def guides() -> list[str]:
    """The guides in the order in which people need them; others after them."""
    there = [_doc(place(path) or "") for path in shown("docs/*.md") if place(path) != RESULTS_PAGE]
    first = [f"guides/{name}" for name in GUIDES if f"guides/{name}" in there]
    return first + [each for each in there if each not in first]


RESULTS_PAGE = "benchmarks.md"


def title(path: str) -> str:
    """The first heading of a page of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return text.partition("\n")[0].removeprefix("# ")


def experiments_page(experiments: Sequence[Notebook]) -> str:
    """What each experiment asks, and the command that runs it."""
    return render("experiments.md.j2", experiments=experiments)


def report_card_page(lessons: Sequence[Notebook]) -> str:
    """Every claim with its verdict, from the recorded notebooks."""
    runs = executed_runs(ROOT / "notebooks")
    entries = report_card(runs)
    dates = sorted(run.date[:10] for run in runs if run.date)
    decided = [e for e in entries if e.word not in (CANNOT_TELL, NOT_MEASURED)]
    return render(
        "report-card.md.j2",
        entries=entries,
        words=WORDS,
        by_source=_by_source(entries),
        decided=len(decided),
        dates=(dates[0], dates[-1]),
        pages={each.number: each for each in lessons},
    )


def results_table() -> str:
    """All stored results: the file, what it asks, when and where it was measured."""
    rows = []
    for path in sorted((ROOT / RESULTS).glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        machine = content.get("machine") or {}
        where = machine.get("accelerator") or machine.get("cpu") or "a simulation"
        rows.append((path.name, _asks(path.stem), content.get("date", UNKNOWN), where))
    return render("results.md.j2", rows=rows, folder=RESULTS)


def _asks(stem: str) -> str:
    """The first line of the script that wrote a result."""
    scripts = [p for p in (ROOT / "benchmarks").glob("*.py") if stem.startswith(p.stem)]
    if not scripts:
        return UNKNOWN
    script = max(scripts, key=lambda path: len(path.stem))
    said = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or UNKNOWN
    return said.partition("\n")[0]


def _doc(place: str) -> str:
    return place.removesuffix(".md")
