"""Tables and sentences, as text and as HTML."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from kit.core.units import UNKNOWN

UNKNOWN_INTERVAL = "[interval unknown]"
UNBROKEN = 16  # characters of text that stay on one line; a number stays on one line in any case
PHONE = 320  # px: a table that may be wider than a phone's page can be reached by keyboard
# A shadow at an edge behind which there is more. The two covers move with the content and hide the
# shadows, which stay; so the rows must be transparent. Grey shows in light and dark.
PAGE = "var(--jp-layout-color0,var(--vscode-editor-background,Canvas))"
SCROLLS = "overflow-x:auto;max-width:100%;background:" + ",".join(
    f"linear-gradient(to {side},{colour},transparent) {side_of} 0/{width} 100% no-repeat {moves}"
    for colour, width, moves in (
        (f"{PAGE} 12px", "40px", "local"),  # as wide as the shadow, then fading
        ("rgba(128,128,128,.7)", "12px", "scroll"),
    )
    for side, side_of in (("right", "left"), ("left", "right"))
)


@dataclass(frozen=True)
class Table:
    """Rows under a header. Cells are text, already rounded and with their units.

    A column without any known value is not shown; the caption names it.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""  # one line
    details: str = ""  # how it was measured: folded away under the caption

    def __repr__(self) -> str:
        shown = self._shown()
        columns = [shown._column(i) for i in range(len(shown.header))]
        text = [
            "  ".join(
                cell.rjust(width) if numbers else cell.ljust(width)
                for cell, (width, numbers) in zip(row, columns, strict=True)
            ).rstrip()
            for row in (shown.header, *shown.rows)
        ]
        return "\n".join([*text, *filter(None, (shown.caption, shown.details))])

    def _shown(self) -> Table:
        """The table as it is shown: without empty columns, with what its caption must say."""
        empty = [
            i
            for i, name in enumerate(self.header)
            if i and name and self.rows and all(row[i] == UNKNOWN for row in self.rows)
        ]
        caption = [self.caption]
        if empty:
            caption += [f"Without a value here: {', '.join(self.header[i] for i in empty)}."]
        if any(UNKNOWN_INTERVAL in cell for row in self.rows for cell in row):
            caption += ["Interval unknown: too little was measured to give one."]
        there = [i for i in range(len(self.header)) if i not in empty]
        header, *rows = ([line[i] for i in there] for line in (self.header, *self.rows))
        return Table(header, rows, " ".join(filter(None, caption)), self.details)

    def _column(self, i: int) -> tuple[int, bool]:
        """The width in characters, and whether the column holds numbers (aligned right)."""
        cells = [row[i] for row in self.rows]
        numbers = all(not cell or cell[0] in "0123456789-—><=" for cell in cells) and any(cells)
        return max(len(cell) for cell in [self.header[i], *cells]), numbers

    def _repr_html_(self) -> str:
        return self._shown()._html()

    def _html(self) -> str:
        numbers = [self._column(i)[1] for i in range(len(self.header))]

        named = not self.header[0]  # a first column without a header holds the names of the rows

        def row(cells: Sequence[str], scope: str) -> str:
            return "".join(
                _cell(cell, scope if scope == "col" or (named and i == 0) else "", numbers[i])
                for i, cell in enumerate(cells)
            )

        body = "".join(f"{row_tag(n)}{row(cells, 'row')}</tr>" for n, cells in enumerate(self.rows))
        head = f"<thead><tr>{row(self.header, 'col')}</tr></thead>" if any(self.header) else ""
        style = "font-variant-numeric:tabular-nums"
        table = f'<table style="{style}">{head}<tbody>{body}</tbody></table>'
        least = [
            max(_least_width(row[i], numbers[i]) for row in [*self.rows, self.header])
            for i in range(len(self.header))
        ]
        name = ", ".join(filter(None, self.header)) if sum(least) > PHONE else ""
        return figure_html(scrolling_html(table, name), self.caption, self.details)


def row_tag(number: int) -> str:
    """The tag of a row: every second one is shaded, and lets the shadows of `SCROLLS` through."""
    return (
        f'<tr style="background-color:{"rgba(128,128,128,.08)" if number % 2 else "transparent"}">'
    )


def scrolling_html(table: str, name: str = "") -> str:
    """A table in a box that scrolls sideways if there is too little space, and shows that it does.

    A box with a name can be reached and scrolled by keyboard.
    """
    if not name:
        return f'<div class="kit-scroll" style="{SCROLLS}">{table}</div>'
    # With the focus on the box, JupyterLab leaves the arrow keys to it. A click goes to what is
    # inside, so that after one Shift+Enter still runs the cell.
    label = f'role="region" aria-label="Table: {html.escape(name)}"'
    keys = 'tabindex="0" data-lm-suppress-shortcuts="true"'
    inside = f'<div tabindex="-1" style="outline:none">{table}</div>'
    return f'<div class="kit-scroll" {label} {keys} style="{SCROLLS}">{inside}</div>'


def _least_width(cell: str, right: bool) -> float:
    """About how many pixels a cell needs at least, in JupyterLab."""
    pieces = re.split(r" (?=\[)" if right else r"\s", cell)
    text = 6.5 * max(map(len, pieces))
    return 16 + (text if right or len(cell) <= UNBROKEN else max(text, 9 * 13))


def with_doubts(caption: str, doubts: Sequence[str], details: str = "") -> tuple[str, str]:
    """A caption that ends with the first and most important doubt, and details with the others.

    >>> with_doubts("Median.", ["the clock fell", "few timings"], "One thread.")
    ('Median. Doubts: the clock fell; 1 more below.', 'Also in doubt: few timings. One thread.')
    """
    if doubts:
        first, *others = doubts
        caption += f" Doubts: {first}{f'; {len(others)} more below' if others else ''}."
        details = f"Also in doubt: {'; '.join(others)}. {details}" if others else details
    return caption.strip(), details.strip()


def figure_html(content: str, caption: str, details: str = "", below: str = "") -> str:
    """HTML of a table or a picture above its caption, with details folded away and HTML below."""
    style = "font-size:90%;opacity:.8;max-width:46em"
    said = f'<figcaption style="{style}">{html.escape(caption)}</figcaption>' if caption else ""
    if details:
        text = f"<summary>How this was measured</summary>{html.escape(details)}"
        said += f'<details style="{style}">{text}</details>'
    return f'<figure style="margin:.4em 0">{content}{said}{below}</figure>'


def _cell(text: str, scope: str, right: bool) -> str:
    """A cell, or a header cell if it has a scope and is not empty (for screen readers)."""
    tag = "th" if scope and text else "td"
    of = f' scope="{scope}"' if tag == "th" else ""
    long = not right and scope != "col" and len(text) > UNBROKEN
    number = right and scope != "col"
    wraps = long or scope == "col" or (number and " [" in text)
    style = f"text-align:{'right' if right else 'left'};padding:.15em .6em"
    style += f";white-space:{'normal' if wraps else 'nowrap'}"
    style += ";min-width:9em" if long else ""
    style += ";font-weight:normal" if scope == "row" else ""
    return (
        f'<{tag}{of} style="{style}">{number_html(text) if number else html.escape(text)}</{tag}>'
    )


def number_html(text: str) -> str:
    """A number as HTML: its interval, and nothing else, may stand on a second line."""
    value, bracket, interval = map(html.escape, text.partition(" ["))
    unbroken = '<span style="white-space:nowrap">'
    return f"{unbroken}{value}</span> {unbroken}[{interval}</span>" if bracket else value


@dataclass(frozen=True)
class Note:
    """A sentence that contains measured numbers, shown as a paragraph."""

    text: str

    def __add__(self, other: Note) -> Note:
        return Note(f"{self.text} {other.text}")

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<p style="max-width:46em">{html.escape(self.text)}</p>'
