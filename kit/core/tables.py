"""Tables and sentences, as text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows under a header. Cells are text, already rounded and with their units."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""  # one line
    details: str = ""  # how it was measured: folded away under the caption

    def __repr__(self) -> str:
        lines = [self.header, *self.rows]
        columns = [self._column(i) for i in range(len(self.header))]
        text = [
            "  ".join(
                cell.rjust(width) if numbers else cell.ljust(width)
                for cell, (width, numbers) in zip(row, columns, strict=True)
            ).rstrip()
            for row in lines
        ]
        return "\n".join([*text, *filter(None, (self.caption, self.details))])

    def _column(self, i: int) -> tuple[int, bool]:
        """The width in characters, and whether the column holds numbers (aligned right)."""
        cells = [row[i] for row in self.rows]
        numbers = all(not cell or cell[0] in "0123456789-—><=" for cell in cells) and any(cells)
        return max(len(cell) for cell in [self.header[i], *cells]), numbers

    def _repr_html_(self) -> str:
        numbers = [self._column(i)[1] for i in range(len(self.header))]

        named = not self.header[0]  # a first column without a header holds the names of the rows

        def row(cells: Sequence[str], scope: str) -> str:
            return "".join(
                _cell(cell, scope if scope == "col" or (named and i == 0) else "", numbers[i])
                for i, cell in enumerate(cells)
            )

        body = "".join(f"<tr>{row(cells, 'row')}</tr>" for cells in self.rows)
        head = f"<thead><tr>{row(self.header, 'col')}</tr></thead>" if any(self.header) else ""
        style = "font-variant-numeric:tabular-nums"
        table = f'<table style="{style}">{head}<tbody>{body}</tbody></table>'
        return figure_html(table, self.caption, self.details)


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


def figure_html(content: str, caption: str, details: str = "") -> str:
    """HTML of a table or a picture above its caption, with details folded away."""
    style = "font-size:90%;opacity:.8;max-width:46em"
    below = f'<figcaption style="{style}">{html.escape(caption)}</figcaption>' if caption else ""
    if details:
        text = f"<summary>How this was measured</summary>{html.escape(details)}"
        below += f'<details style="{style}">{text}</details>'
    return f'<figure style="margin:.4em 0">{content}{below}</figure>'


def _cell(text: str, scope: str, right: bool) -> str:
    """A cell, or a header cell if it has a scope and is not empty (for screen readers)."""
    tag = "th" if scope and text else "td"
    of = f' scope="{scope}"' if tag == "th" else ""
    return (
        f"<{tag}{of} "
        f'style="text-align:{"right" if right else "left"};padding:.15em .6em;'
        f"white-space:{'nowrap' if len(text) < 32 else 'normal'}"
        f'{";font-weight:normal" if scope == "row" else ""}">{html.escape(text)}</{tag}>'
    )


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
