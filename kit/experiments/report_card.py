"""The report card: every claim with its verdict, what was measured for it, and what is in doubt.

It is one page that needs no other file, so that it can be sent, and it prints on a few sheets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kit.course.claims import CANNOT_TELL, COLOURS, Claim, Verdict, documents, ledger
from kit.course.earlier_lessons import stored_value
from kit.experiments.deciding_runs import Given, decides, deciding_verdicts, part_of
from kit.experiments.page_templates import document
from kit.experiments.records import ExecutedRun
from kit.experiments.untrusted_notebooks import safe_line

NOT_MEASURED = "not measured"
WORDS = (*COLOURS, NOT_MEASURED)  # the columns of the summary


@dataclass(frozen=True)
class Entry:
    """One claim on the card."""

    claim: Claim
    verdict: str
    rows: tuple[tuple[str, ...], ...] = ()  # measured, here, rule, met
    on: str = ""  # model, batch, device
    where: str = ""  # notebook, machine, date
    doubts: tuple[str, ...] = ()
    question: str = ""  # of a claim with parts: what this verdict is about
    others: str = ""  # verdicts of other runs, if they differ

    @property
    def word(self) -> str:
        """The verdict without its condition: one of `WORDS`."""
        return next(word for word in WORDS if self.verdict.startswith(word))

    @property
    def colour(self) -> str:
        """The colour beside the word."""
        return COLOURS.get(self.word, "transparent")


def report_card(runs: Iterable[ExecutedRun]) -> list[Entry]:
    """All claims in their order, each with the verdict of the run that measured all of its rule."""
    found: dict[str, list[Given]] = {}
    for run, record in deciding_verdicts(runs):
        found.setdefault(record["claim_id"], []).append((run, record))
    return [
        _entry(claim, found[id]) if id in found else Entry(claim, NOT_MEASURED)
        for id, claim in ledger().items()
    ]


def card_page(runs: Sequence[ExecutedRun], name: str) -> str:
    """The card as a page: a summary by source, then each claim. It loads no other file."""
    entries = report_card(runs)
    counts = Counter(entry.word for entry in entries)
    decided = len(entries) - counts[CANNOT_TELL] - counts[NOT_MEASURED]
    dates = sorted(run.date[:10] for run in runs if run.date)
    when = f" Measured from {dates[0]} to {dates[-1]}." if dates else ""
    return document(
        "card",
        title="Report card: claims about training and inference",
        lead=f"{decided} of {len(entries)} claims are decided by the notebooks in {name}: "
        + ", ".join(f"{word} {counts[word]}" for word in WORDS if counts[word])
        + ".",
        when=f"A verdict is about the models and machines named beside it.{when}",
        words=WORDS,
        by_source=_by_source(entries),
        entries=entries,
    )


def _by_source(entries: Sequence[Entry]) -> list[tuple[str, str, list[int]]]:
    """Letter, source, and how many of its claims have each verdict; all of them last."""
    rows = []
    for letter, source in {**documents(), "all": "all claims, each once"}.items():
        own = [e.word for e in entries if letter == "all" or letter in e.claim.said_by]
        rows.append((letter, source, [len(own), *(own.count(word) for word in WORDS)]))
    return rows


def _entry(claim: Claim, found: list[Given]) -> Entry:
    run, record = max(found, key=lambda pair: _worth(claim, *pair))
    # Of a rule that has changed since, some quantities are not there.
    measured = {name: stored_value(record["measured"].get(name)) for name in claim.conditions}
    given = record.get("measured_in")
    elsewhere = given if isinstance(given, dict) else {}
    verdict = Verdict(claim, measured, measured_in={n: str(v) for n, v in elsewhere.items()})
    return Entry(
        claim,
        safe_line(record["verdict"], "verdict"),
        tuple(tuple(row) for row in verdict.table().rows),
        safe_line(str(record.get("on", "")), "on") if record.get("on") else "",
        _where(run),
        tuple(_doubts(verdict, record)),
        part_of(run, claim, record),
        _others(claim, (run, record), found),
    )


def _others(claim: Claim, shown: Given, found: list[Given]) -> str:
    """The other verdicts, each with the number of its runs, or with its part of the claim."""
    counts = Counter((part_of(run, claim, each), str(each["verdict"])) for run, each in found)
    del counts[part_of(shown[0], claim, shown[1]), shown[1]["verdict"]]
    return "; ".join(
        f"{question}: {safe_line(word, 'verdict')}"
        if question
        else f"{safe_line(word, 'verdict')} ({n})"
        for (question, word), n in counts.most_common(3)
    )


def _worth(claim: Claim, run: ExecutedRun, record: dict[str, Any]) -> tuple[Any, ...]:
    """What makes a verdict the one to show: the full rule, a notebook that decides, the latest."""
    full = None not in record["measured"].values()
    clear = record["verdict"] != CANNOT_TELL
    return full, decides(run, claim), clear, run.notebook[:2], run.date


def _where(run: ExecutedRun) -> str:
    """Notebook, processor or accelerator, and day."""
    machine = next((record for record in run.records if record["kind"] == "Machine"), {})
    kind = machine.get("accelerator") or machine.get("cpu") or "machine unknown"
    name = run.notebook.removesuffix(".ipynb")
    lesson = f"lesson {name[:2]}" if name[:2].isdigit() else f"experiment {name}"
    longer = "longer run" if "longer/" in run.name else ""
    return ", ".join(filter(None, (lesson, longer, safe_line(str(kind), "machine"), run.date[:10])))


def _doubts(verdict: Verdict, record: dict[str, Any]) -> Iterable[str]:
    """Why another reader might not believe the verdict."""
    if record.get("rule") != verdict.claim.conditions:
        yield "the rule has changed since: run the lesson again"
    for name, met in verdict.met.items():
        what = verdict.claim.label(name)
        if verdict.measured[name] is None:
            yield f"{what} was not measured"
        elif met is None:
            yield f"the interval of {what} contains the limit"
        if name in verdict.measured_in:
            yield f"{what} is from lesson {verdict.measured_in[name]}, perhaps on another machine"
