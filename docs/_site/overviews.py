"""The pages that bring others together: the start page, the experiments, the report card."""

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from places import ROOT, Links, place, shown
from recorded_notebooks import Notebook

from kit.core.units import UNKNOWN
from kit.course.claims import CANNOT_TELL, COLOURS, ONLY_IF, ledger
from kit.experiments.records import ExecutedRun, executed_runs
from kit.experiments.report import claims_table
from kit.experiments.report_card import WORDS, Entry, _by_source, report_card

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


@cache
def recorded_runs() -> list[ExecutedRun]:
    """The recorded lessons and experiments of the course."""
    return executed_runs(ROOT / "notebooks")


@cache
def entries() -> list[Entry]:
    """Every claim with its verdict, from the recorded notebooks."""
    return report_card(recorded_runs())


def decided() -> str:
    """How many claims are decided, as `kit report` says it."""
    return claims_table(recorded_runs(), ROOT / "notebooks").caption


@dataclass(frozen=True)
class Finding:
    """Something measured that speaks against what an article says."""

    entry: Entry
    what: str
    value: str
    interval: str


def findings(most: int = 3) -> list[Finding]:
    """The first measurements that break a rule of a claim that is decided, as `SURPRISING` says."""
    by_id = {entry.claim.id: entry for entry in entries() if entry.word != CANNOT_TELL}
    found = []
    for id in filter(by_id.get, SURPRISING):
        broken = [row for row in by_id[id].rows if row[3] == "no"]
        for what, here, _, _ in broken[:1]:
            value, _, interval = here.partition(" [")
            what = re.sub(r",? with its interval.*|\s\(0 to 1\)", "", what)
            found.append(Finding(by_id[id], what, value, f"[{interval}" if interval else ""))
    return found[:most]


# Claims whose measurement surprises people most; the page shows the first that are not met. Not 36:
# the rule that it breaks first is broken by little, and other runs were on the other side.
SURPRISING = ("24", "09", "14", "13", "25")


def start_page(lessons: Sequence[Notebook], experiments: Sequence[Notebook], links: Links) -> str:
    """The first page: what this is, a first program, a card for each lesson, doors to the rest."""
    readme = links.rewrite((ROOT / "README.md").read_text(encoding="utf-8"), "README.md")
    program, output = (re.findall(rf"```{kind}\n(.*?)```", readme, re.DOTALL)[0] for kind in KINDS)
    claims_of = {
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
        claims_of=claims_of,
        guides=guides(),
        commands=re.findall(r"```sh\n(.*?)```", readme, re.DOTALL)[0],
        needs=next(part for part in readme.split("\n\n") if part.startswith("You need ")),
        examples=examples,
        claims=len(ledger()),
        verdicts=[(word, COLOURS[word], count) for word, count in verdicts().items() if count],
        only_if=ONLY_IF,
        findings=findings(),
        pages={each.number: each for each in lessons},
    )


def verdicts() -> dict[str, int]:
    """Word -> how many claims have this verdict."""
    return {word: sum(entry.word == word for entry in entries()) for word in COLOURS}


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
    dates = sorted(run.date[:10] for run in recorded_runs() if run.date)
    return render(
        "report-card.md.j2",
        entries=entries(),
        words=WORDS,
        by_source=_by_source(entries()),
        decided=decided(),
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
