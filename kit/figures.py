"""How things look: tables and pictures, made from labels and numbers alone.

Nothing here knows a type of the kit, touches pyplot or chooses a backend. A picture is HTML with
the alt text made from its numbers, shown as a caption too: it survives every front end.

Table              rows under a header, with a caption
Note               a sentence made from numbers
Picture            a matplotlib figure with its caption
├── lines          values over a quantity, with a band or marks
├── bars           one bar (or a stack) per name
├── images         a row of small grey images
└── roofline       work per byte against work per second, under the machine's limit
Live               a loss curve that grows while a loop runs
"""

from __future__ import annotations

import base64
import html
import io
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kit.units import digits, words

if TYPE_CHECKING:  # matplotlib costs a third of a second: wait until something is drawn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours, told apart by people with any kind of colour vision; markers say it again.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]


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

        def row(cells: Sequence[str], tag: str) -> str:
            return "".join(
                f'<{tag} style="text-align:{"right" if right else "left"};padding:.15em .6em;'
                f'white-space:{"nowrap" if len(cell) < 32 else "normal"}">'
                f"{html.escape(cell)}</{tag}>"
                for cell, right in zip(cells, numbers, strict=True)
            )

        body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in self.rows)
        caption = (
            '<figcaption style="font-size:90%;opacity:.8;max-width:46em">'
            f"{html.escape(self.caption)}</figcaption>"
            if self.caption
            else ""
        )
        head = f"<thead><tr>{row(self.header, 'th')}</tr></thead>" if any(self.header) else ""
        return (
            f'<figure style="margin:.4em 0"><table style="font-variant-numeric:tabular-nums">'
            f"{head}<tbody>{body}</tbody></table>{caption}</figure>"
        )


@dataclass(frozen=True)
class Note:
    """A sentence made from numbers, shown as a sentence."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<p style="max-width:46em">{html.escape(self.text)}</p>'


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure whose caption, made from its numbers, is its alt text too."""

    figure: Figure = field(repr=False)
    caption: str

    def png(self) -> bytes:
        """The picture as PNG."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png()).decode()
        caption = html.escape(self.caption)
        return (
            f'<figure style="margin:.4em 0"><img alt="{caption}" '
            f'style="max-width:100%" src="data:image/png;base64,{data}">'
            f'<figcaption style="font-size:90%;opacity:.8;max-width:46em">{caption}</figcaption>'
            "</figure>"
        )


def axes(width: float = 6.4, height: float = 3.4, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure in the kit's style, with `columns` axes beside each other."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    panes = list(figure.subplots(1, columns, squeeze=False)[0])
    for pane in panes:
        pane.spines[["top", "right"]].set_visible(False)
        pane.grid(alpha=0.25)
        pane.set_axisbelow(True)
    return figure, panes


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    *,
    caption: str,
    marks: bool = True,
    log: str = "",
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    level: tuple[str, float] | None = None,
    unit: str = "",
) -> Picture:
    """Values over a quantity: one line per name.

    Parameters
    ----------
    series
        Name -> (xs, ys).
    x, y
        Axis labels: quantity and unit.
    marks
        A marker at each point; off where there are hundreds.
    log
        "x", "y" or "xy" for logarithmic axes.
    bands
        Name -> (lows, highs): the interval of each value, drawn as error bars.
    level
        (name, value) of a dashed horizontal line to compare with.
    unit
        In which the ticks of the y axis are written; "" for bare numbers.
    """
    figure, (pane,) = axes()
    for i, (name, (xs, ys)) in enumerate(series.items()):
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "label": name}
        marker = MARKERS[i % len(MARKERS)] if marks else None
        if bands and name in bands:
            low, high = bands[name]
            error = [
                [v - b for v, b in zip(ys, low, strict=True)],
                [b - v for v, b in zip(ys, high, strict=True)],
            ]
            pane.errorbar(xs, ys, yerr=error, marker=marker, capsize=3, **style)
        else:
            pane.plot(xs, ys, marker=marker, linewidth=1.5, **style)
    if level:
        pane.axhline(level[1], color="black", linestyle="--", linewidth=1, label=level[0])
    if unit:
        pane.yaxis.set_major_formatter(lambda value, _: words(value, unit))
    if all(isinstance(v, int) for xs, _ in series.values() for v in xs):
        pane.xaxis.set_major_locator(_few_ticks(whole=True))  # steps and batches have no halves
    if "x" in log:
        _log_ticks(pane, sorted({v for xs, _ in series.values() for v in xs}))
    if "y" in log:
        pane.set_yscale("log")
    pane.set(xlabel=x, ylabel=y)
    if len(series) > 1 or level:
        pane.legend(frameon=False)
    return Picture(figure, caption)


def _log_ticks(pane: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis whose ticks are the values that were tried."""
    pane.set_xscale("log")
    if len(values) <= 12:
        pane.set_xticks(values, [words(v) for v in values])
        pane.set_xticks([], minor=True)


def bars(
    stacks: Mapping[str, Mapping[str, float]], quantity: str, *, caption: str, unit: str = ""
) -> Picture:
    """Horizontal bars, one per name, each a stack of parts with its total written at the end.

    Parameters
    ----------
    stacks
        Name of the bar -> {part: value}; parts share colours between bars.
    quantity
        The label of the axis: quantity and unit.
    unit
        In which the totals are written.
    """
    figure, (pane,) = axes(height=0.9 + 0.5 * len(stacks))
    parts = list(dict.fromkeys(part for stack in stacks.values() for part in stack))
    names = list(stacks)
    left = [0.0] * len(names)
    hatches = ["", "//", "..", "xx", "\\\\"]
    for i, part in enumerate(parts):
        widths = [stacks[name].get(part, 0.0) for name in names]
        pane.barh(
            names,
            widths,
            left=left,
            label=part,
            color=COLOURS[i % len(COLOURS)],
            hatch=hatches[i % len(hatches)],
            edgecolor="white",
        )
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for row, total in enumerate(left):
        pane.text(total, row, f" {words(total, unit)}", va="center")
    pane.invert_yaxis()
    pane.margins(x=0.15)
    pane.grid(visible=False, axis="y")
    pane.set(xlabel=quantity)
    _scaled_ticks(pane, unit)
    if len(parts) > 1:
        pane.legend(frameon=False, ncols=len(parts), loc="lower left", bbox_to_anchor=(0, 1))
    return Picture(figure, caption)


def _scaled_ticks(pane: Axes, unit: str) -> None:
    """Tick labels in words, so that no axis says 1e-5."""
    pane.xaxis.set_major_formatter(lambda value, _: words(value, unit))
    pane.xaxis.set_major_locator(_few_ticks())


def _few_ticks(whole: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(6, integer=whole)


def images(pixels: Sequence[Any], titles: Sequence[str], *, caption: str) -> Picture:
    """A row of small grey images, each (H, W) with values 0 to 1 (ink is dark)."""
    figure, panes = axes(width=min(8.0, 1.1 * len(titles)), height=1.5, columns=len(titles))
    for pane, image, title in zip(panes, pixels, titles, strict=True):
        pane.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        pane.set_title(title, fontsize=9)
        pane.axis("off")
    return Picture(figure, caption)


def roofline(
    peaks: Mapping[str, float],
    bandwidth: float,
    points: Mapping[str, tuple[float, float]],
    *,
    caption: str,
) -> Picture:
    """Work per byte against work per second, under the limits of the machine.

    Parameters
    ----------
    peaks
        Name of the limit (a dtype) -> FLOP/s.
    bandwidth
        Bytes/s of the memory.
    points
        Name -> (FLOP per byte, FLOP/s).

    Notes
    -----
    Williams, Waterman & Patterson, "Roofline: an insightful visual performance model", 2009.
    """
    figure, (pane,) = axes(width=8.0, height=3.8)
    xs = [0.03, *sorted(peak / bandwidth for peak in peaks.values()), 3_000]
    for i, (name, peak) in enumerate(peaks.items()):
        roof = [min(peak, bandwidth * x) for x in xs]
        label = f"{name}: {words(peak, 'FLOP/s')}"
        pane.plot(xs, roof, color=COLOURS[-1 - i], linewidth=1.5, label=label)
    for i, (name, (intensity, rate)) in enumerate(points.items()):
        pane.plot(
            intensity,
            rate,
            MARKERS[i % len(MARKERS)],
            color=COLOURS[i % len(COLOURS)],
            markersize=8,
            linestyle="none",
            label=name,
        )
    pane.set_xscale("log")
    pane.set_yscale("log")
    pane.set(xlabel="work per byte moved (FLOP/byte)", ylabel="work per second (FLOP/s)")
    pane.xaxis.set_major_formatter(lambda value, _: digits(value))
    pane.yaxis.set_major_formatter(lambda value, _: words(value, "FLOP/s"))
    pane.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return Picture(figure, caption)


class Live:
    """A loss curve that grows while a loop runs: SVG in a notebook, one line in a terminal.

    It watches its own cost: it draws only while drawing has taken less than 1 % of the time
    since it was made, so that watching a loop does not slow it.
    """

    share = 0.01
    pause_s = 0.25  # faster than this is flicker

    def __init__(self, total: int, label: str = "loss", shown: bool = True):
        self.total, self.label = total, label
        self.began = self.drawn_at = time.perf_counter()
        self.spent_s = 0.0
        self.screen = _screen() if shown else None

    def due(self) -> bool:
        """Whether drawing now would neither flicker nor cost more than its share."""
        now = time.perf_counter()
        cheap = self.spent_s <= self.share * (now - self.began)
        return self.screen is not None and cheap and now - self.drawn_at >= self.pause_s

    def draw(self, values: Sequence[float], note: str = "", last: bool = False) -> None:
        """Show the values so far; `last` also ends the line in a terminal."""
        if self.screen is None:
            return
        started = time.perf_counter()
        text = f"{self.label} {values[-1]:.4f}" if len(values) else self.label
        text = f"step {len(values):,} of {self.total:,} · {text}{' · ' + note if note else ''}"
        self.screen.show(text, curve(values, self.total, text), last)
        self.drawn_at = time.perf_counter()
        self.spent_s += self.drawn_at - started


def curve(values: Sequence[float], total: int, text: str) -> str:
    """The values as a small SVG line, at most 200 points, on an axis of `total` steps."""
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
    label = html.escape(text)
    return (
        f'<figure style="margin:.4em 0"><svg role="img" aria-label="{label}" width="540" '
        'height="118" style="max-width:100%;font-size:11px" fill="currentColor">'
        f'<g transform="translate(44 4)"><polyline points="{points}" fill="none" '
        f'stroke="{COLOURS[0]}" stroke-width="2"/><path d="M0 0V98H484" fill="none" stroke="#888"/>'
        f'<text x="-4" y="10" text-anchor="end">{digits(top)}</text>'
        f'<text x="-4" y="98" text-anchor="end">0</text><text x="0" y="111">step 0</text>'
        f'<text x="484" y="111" text-anchor="end">step {total:,}</text></g></svg>'
        f'<figcaption style="font-size:90%">{label}</figcaption></figure>'
    )


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


def _screen() -> _Notebook | _Terminal | None:
    """Where a live curve can be shown: in a kernel, in a terminal, or nowhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and hasattr(shell, "kernel"):
        return _Notebook()
    return _Terminal() if sys.stderr.isatty() else None
