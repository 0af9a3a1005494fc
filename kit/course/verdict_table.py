"""The verdicts of a lesson in one table: each number beside its rule."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from kit.core.errors import BadValue
from kit.core.results import SEVERAL, Result
from kit.core.tables import figure_html, number_html, row_tag, scrolling_html
from kit.course.claims import Verdict
from kit.plots import Table

HEADER = ("claim", "verdict", "measured", "here", "rule", "met")
CELL = "text-align:left;padding:.3em .6em"
CAPTION = "In brackets: the articles that claim it."
UNKNOWN = "Interval unknown: too little was measured to give one, so it decides nothing."


@dataclass(frozen=True)
class Verdicts(Result):
    """The verdicts of a lesson in one table; each keeps its own record."""

    verdicts: tuple[Verdict, ...]

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.verdicts))

    def table(self) -> Table:
        """A row per condition: what was measured, the rule, whether it is met; and the verdict."""
        rows = []
        for v in self.verdicts:
            claim = _claim(v)
            first, *more = v.lines
            rows += [(claim, v.word, *first), *(("", "", *line) for line in more)]
        return Table(HEADER, rows, CAPTION)

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col" style="{CELL}">{name}</th>' for name in HEADER)
        body = "".join(_rows_html(v, n) for n, v in enumerate(self.verdicts))
        table = f"<table><thead><tr>{head}</tr></thead>{body}</table>"
        caption = f"{CAPTION} {UNKNOWN}" if "[interval unknown]" in body else CAPTION
        cards = "".join(verdict._repr_html_() for verdict in self.verdicts)
        return (
            figure_html(scrolling_html(table, ", ".join(HEADER)), caption)
            + "<details><summary>What was measured, and where each claim stops holding</summary>"
            f"{cards}</details>"
        )

    def to_dict(self) -> dict[str, Any]:
        """The record of each verdict."""
        return {SEVERAL: [{"kind": "Verdict", **verdict.to_dict()} for verdict in self.verdicts]}


def _claim(verdict: Verdict) -> str:
    """Number, claim, who says it, and of a claim with parts the question that is decided here."""
    claim = verdict.claim
    about = f". Here: {verdict.question}" if verdict.question else ""
    return f"{claim.id} · {claim.claim} ({', '.join(claim.said_by)}){about}"


def _rows_html(verdict: Verdict, number: int) -> str:
    """A body of the table of verdicts: a number and its rule stand on one line."""
    first, *more = [
        f'<td style="{CELL}">{html.escape(label)}</td>'
        f'<td style="{CELL}">{number_html(here)}</td>'
        f'<td style="{CELL};white-space:nowrap">{html.escape(rule)}</td>'
        f'<td style="{CELL}">{met}</td>'
        for label, here, rule, met in verdict.lines
    ]
    spans = f'rowspan="{len(more) + 1}" style="{CELL};vertical-align:top'
    head = (
        f'<th scope="rowgroup" {spans};font-weight:normal;min-width:12em">'
        f"{html.escape(_claim(verdict))}</th>"
        f'<td {spans};border-left:4px solid {verdict.colour};min-width:6em">'
        f"<b>{html.escape(verdict.word)}</b></td>"
    )
    lines = [head + first, *more]
    return f"<tbody>{''.join(f'{row_tag(number)}{line}</tr>' for line in lines)}</tbody>"


def verdicts(*given: Verdict) -> Verdicts:
    """Several verdicts in one table, to close a lesson; the details are folded away.

    Raises
    ------
    BadValue
        There is no verdict, or something else is among them.
    """
    if not given or not all(isinstance(each, Verdict) for each in given):
        kinds = ", ".join(type(each).__name__ for each in given) or "nothing"
        raise BadValue(f"given {kinds}; needs verdicts: kit.verdicts(kit.verdict(…), …).")
    return Verdicts(given)
