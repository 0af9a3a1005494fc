"""A loss curve that grows during a training and limits its own cost."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Sequence

from kit.core.tables import Table, figure_html
from kit.core.units import digits
from kit.plots import numbers
from kit.plots.pictures import COLOURS


class Live:
    """A loss curve that grows during a training: SVG in a notebook, one line in a terminal.

    It draws only while drawing has taken less than 1 % of the time since it was created. So
    watching a training does not slow it down.
    """

    share = 0.01
    pause_s = 0.25  # more often would flicker

    def __init__(self, total: int, label: str = "training loss", shown: bool = True):
        self.total, self.label = total, label
        self.began = self.drawn_at = time.perf_counter()
        self.spent_s = 0.0
        self.screen = screen() if shown else None

    def due(self) -> bool:
        """Whether drawing now would neither flicker nor take more than its share of the time."""
        now = time.perf_counter()
        cheap = self.spent_s <= self.share * (now - self.began)
        return self.screen is not None and cheap and now - self.drawn_at >= self.pause_s

    def draw(self, values: Sequence[float], note: str = "", last: bool = False) -> None:
        """Draw the values so far; `last` ends the axis, and the line in a terminal, with them."""
        if self.screen is None:
            return
        started = time.perf_counter()
        text = f"{self.label} {values[-1]:.4f}" if len(values) else self.label
        text = f"step {len(values):,} of {self.total:,} · {text}{' · ' + note if note else ''}"
        # A training may end early: its last curve is as wide as the picture.
        steps = len(values) if last else self.total
        table = self._numbers(values) if last and values else None
        self.screen.show(text, curve(values, steps, text, table), last)
        self.drawn_at = time.perf_counter()
        self.spent_s += self.drawn_at - started

    def _numbers(self, values: Sequence[float]) -> Table:
        line = {self.label: (range(1, len(values) + 1), values)}
        return numbers.of_lines(line, "step", self.label)


def curve(values: Sequence[float], total: int, text: str, table: Table | None = None) -> str:
    """The values as a small SVG line, at most 200 points, on an axis of `total` steps.

    A table of its numbers is folded away below it.
    """
    stride = max(1, -(-len(values) // 200))
    means = [
        sum(chunk) / len(chunk)
        for chunk in (values[i : i + stride] for i in range(0, len(values), stride))
    ]
    top = max(means, default=1.0) or 1.0
    points = " ".join(
        f"{min(i * stride, total) / max(total, 1) * 484:.1f},{96 - 90 * m / top:.1f}"
        for i, m in enumerate(means)
    )
    drawing = (
        f'<svg role="img" aria-label="{html.escape(text)}" width="540" '
        'height="118" style="max-width:100%;font-size:11px" fill="currentColor">'
        f'<g transform="translate(44 4)"><polyline points="{points}" fill="none" '
        f'stroke="{COLOURS[0]}" stroke-width="2"/><path d="M0 0V98H484" fill="none" stroke="#888"/>'
        f'<text x="-4" y="10" text-anchor="end">{digits(top)}</text>'
        f'<text x="-4" y="98" text-anchor="end">0</text><text x="0" y="111">step 0</text>'
        f'<text x="484" y="111" text-anchor="end">step {total:,}</text></g></svg>'
    )
    return figure_html(drawing, text, below=numbers.folded(table))


class _Notebook:
    def __init__(self) -> None:
        from IPython.display import DisplayHandle

        self.handle = DisplayHandle()
        self.shown = False

    def show(self, text: str, picture: str, last: bool) -> None:
        bundle = {"text/plain": text, "text/html": picture}
        (self.handle.update if self.shown else self.handle.display)(bundle, raw=True)
        self.shown = True


class _Terminal:
    def show(self, text: str, picture: str, last: bool) -> None:
        sys.stderr.write("\r\033[K" + text + ("\n" if last else ""))
        sys.stderr.flush()


def screen() -> _Notebook | _Terminal | None:
    """Where to draw: in a Jupyter kernel, in a terminal, or nowhere (None)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and hasattr(shell, "kernel"):
        return _Notebook()
    return _Terminal() if sys.stderr.isatty() else None
