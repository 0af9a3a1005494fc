"""Rows under a header, and sentences, as text and as HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows under a header; cells are text already."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""

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
        return "\n".join([*text, *([self.caption] if self.caption else [])])

    def _column(self, i: int) -> tuple[int, bool]:
        """Its width in characters, and whether it holds numbers, which stand to the right."""
        cells = [row[i] for row in self.rows]
        numbers = all(not cell or cell[0] in "0123456789-—><=" for cell in cells) and any(cells)
        return max(len(cell) for cell in [self.header[i], *cells]), numbers

    def _repr_html_(self) -> str:
        numbers = [self._column(i)[1] for i in range(len(self.header))]

        named = not self.header[0]  # a first column without a name names the rows

        def row(cells: Sequence[str], scope: str) -> str:
            return "".join(
                _cell(cell, scope if scope == "col" or (named and i == 0) else "", numbers[i])
                for i, cell in enumerate(cells)
            )

        body = "".join(f"<tr>{row(cells, 'row')}</tr>" for cells in self.rows)
        caption = (
            '<figcaption style="font-size:90%;opacity:.8;max-width:46em">'
            f"{html.escape(self.caption)}</figcaption>"
            if self.caption
            else ""
        )
        head = f"<thead><tr>{row(self.header, 'col')}</tr></thead>" if any(self.header) else ""
        return (
            f'<figure style="margin:.4em 0"><table style="font-variant-numeric:tabular-nums">'
            f"{head}<tbody>{body}</tbody></table>{caption}</figure>"
        )


def _cell(text: str, scope: str, right: bool) -> str:
    """A cell; where it has a scope, a column's or a row's header, unless it is empty."""
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
    """A sentence made from numbers, shown as a sentence."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<p style="max-width:46em">{html.escape(self.text)}</p>'
