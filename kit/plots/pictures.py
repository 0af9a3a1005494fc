"""Pictures made from labels and numbers, each with a caption that is also its alt text."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kit.core.tables import Table, figure_html
from kit.core.units import words
from kit.plots import numbers

if TYPE_CHECKING:  # importing matplotlib takes a third of a second: only when something is drawn
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe & Ito's colours, which people with any colour vision can distinguish. Markers differ too.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]


@dataclass(frozen=True)
class Picture:
    """A matplotlib figure whose caption, made from its numbers, is also its alt text.

    Below it, folded away, stands a table of its numbers.
    """

    figure: Figure = field(repr=False)
    caption: str
    details: str = ""  # more alt text: what the picture shows that the caption does not say
    numbers: Table | None = field(default=None, repr=False)

    def png(self) -> bytes:
        """The picture as PNG."""
        from matplotlib import rc_context
        from matplotlib.text import Text

        for text in self.figure.findobj(Text):
            text.set_parse_math(False)  # a name that contains two $ is not a formula
        buffer = io.BytesIO()
        with rc_context({"text.parse_math": False}):  # for text that is created during drawing
            self.figure.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.png()).decode()
        alt = html.escape(f"{self.caption} {self.details}".strip())
        source = f"data:image/png;base64,{data}"
        image = f'<img alt="{alt}" style="max-width:100%" src="{source}">'
        return figure_html(image, self.caption, below=numbers.folded(self.numbers))


def style(i: int) -> dict[str, Any]:
    """The colour and the marker of the i-th series or point."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def axes(
    width: float = 6.4, height: float = 3.4, columns: int = 1, count: int = 0
) -> tuple[Figure, list[Axes]]:
    """An empty figure in the kit's style, with `columns` axes side by side; or `count` in rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    rows = -(-(count or columns) // columns)
    panes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for pane in panes[count or columns :]:
        pane.remove()
    panes = panes[: count or columns]
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
    shaded: tuple[str, float, float] | None = None,
    joined: Sequence[str] | None = None,
    unit: str = "",
    rows: bool = False,
) -> Picture:
    """Values over a quantity: one line per name.

    Parameters
    ----------
    series
        Name -> (xs, ys).
    x, y
        Axis labels: quantity and unit.
    marks
        Whether each point has a marker. Turn it off for hundreds of points.
    log
        "x", "y" or "xy" for logarithmic axes.
    bands
        Name -> (lows, highs): the interval of each value, drawn as error bars.
    level
        (name, value) of a dashed horizontal line to compare with.
    shaded
        (name, from, to) of a stretch of the x axis.
    joined
        Names that are lines without markers; the others are then markers without lines. None: all
        are lines.
    unit
        The unit of the ticks on the y axis; "" for plain numbers.
    rows
        Whether the series lie above each other. Then each has its name at its mean height, and
        there are neither numbers nor a legend.
    """
    figure, (pane,) = axes()
    if shaded:
        pane.axvspan(*shaded[1:], color="0.88", zorder=0, label=shaded[0])
    for i, (name, (xs, ys)) in enumerate(series.items()):
        point = len(xs) == 1  # no line shows it
        look = {**style(i), "label": name, **({} if marks or point else {"marker": None})}
        if joined is not None:
            look |= {"marker": None} if name in joined else {"linestyle": "none"}
        if i and point:  # it may lie on that of another series
            look |= {"markerfacecolor": "none", "markersize": 6 + 4 * i, "markeredgewidth": 2}
        if bands and name in bands:
            low, high = bands[name]
            error = [np.subtract(ys, low), np.subtract(high, ys)]
            pane.errorbar(xs, ys, yerr=error, capsize=3, **look)
        else:
            pane.plot(xs, ys, **look)
    if level:
        pane.axhline(level[1], color="black", linestyle="--", linewidth=1, label=level[0])
    if all(isinstance(v, int) for xs, _ in series.values() for v in xs):
        pane.xaxis.set_major_locator(_few_ticks(whole=True))  # counts of steps, say, are whole
    if "x" in log:
        _ticks_at(pane, sorted({v for xs, _ in series.values() for v in xs}))
    if "y" in log:
        pane.set_yscale("log")
        log_ticks(pane.yaxis, unit)
    elif unit or 0 < max(max(ys, default=0) for _, ys in series.values()) < SMALL:
        pane.yaxis.set_major_formatter(lambda value, _: numbers.tick(value, unit))
    pane.set(xlabel=x, ylabel=y)
    if rows:
        pane.set_yticks([float(np.mean(ys)) for _, ys in series.values()], list(series))
    elif len(series) > 1 or level or shaded:
        pane.legend(frameon=False)
    like = (unit, bands, level)
    table = numbers.of_rows(series, x) if rows else numbers.of_lines(series, x, y, *like)
    return Picture(figure, caption, numbers=table)


def log_ticks(axis: Axis, unit: str) -> None:
    """Writes the ticks of a logarithmic axis in words, at 1, 2, 5, 10, … or, if wide, 1, 10, …"""
    from matplotlib.ticker import LogLocator

    low, high = axis.get_view_interval()
    wide = high > 1e4 * low  # labels at 2 and 5 would overlap
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: numbers.tick(value, unit))
    axis.set_minor_formatter(lambda value, _: "")


SMALL = 1e-3  # below it, Matplotlib writes a power of ten above the axis, which is easily missed


def _ticks_at(pane: Axes, values: Sequence[float]) -> None:
    """Makes the x axis logarithmic, with ticks at the values that were tried."""
    pane.set_xscale("log")
    if len(values) <= 12:
        pane.set_xticks(values, [f"{v:,.9g}" for v in values])
        pane.set_xticks([], minor=True)
    else:
        log_ticks(pane.xaxis, "")
        pane.xaxis.set_major_formatter(lambda value, _: f"{value:,.9g}")


def bars(
    stacks: Mapping[str, Mapping[str, float]],
    quantity: str,
    *,
    caption: str,
    unit: str = "",
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> Picture:
    """Horizontal bars, one per name: each is a stack of parts with its total at the end.

    Parameters
    ----------
    stacks
        Name of the bar -> {part: value}. A part has the same colour in all bars.
    quantity
        The label of the axis: quantity and unit.
    unit
        The unit of the totals.
    intervals
        Name of the bar -> (low, high) of its total, drawn as a line. It is cut where it goes far
        beyond the longest bar.
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
    for row, (name, total) in enumerate(zip(names, left, strict=True)):
        low, high = (intervals or {}).get(name, (total, total))
        high = min(high, 1.3 * max(left))  # a very wide interval must not hide the bars
        if low < high:
            pane.plot([low, high], [row, row], "k|-", markersize=9, linewidth=1.5)
        pane.text(max(total, high), row, f"  {words(total, unit)}", va="center")
    pane.invert_yaxis()
    pane.margins(x=0.15)
    pane.grid(visible=False, axis="y")
    pane.set(xlabel=quantity)
    pane.xaxis.set_major_formatter(lambda value, _: numbers.tick(value, unit))  # "10 µs", not 1e-5
    pane.xaxis.set_major_locator(_few_ticks())
    if len(parts) > 1:
        pane.legend(frameon=False, ncols=len(parts), loc="lower left", bbox_to_anchor=(0, 1))
    table = numbers.of_bars(stacks, quantity, unit, intervals)
    return Picture(figure, caption, numbers=table)


def _few_ticks(whole: bool = False) -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(6, integer=whole, min_n_ticks=1)  # whole, even if there is only one


def images(pixels: Sequence[Any], titles: Sequence[str], *, caption: str) -> Picture:
    """A row of small greyscale images, each (H, W) with values from 0 (white) to 1 (black)."""
    width, lines = min(8.0, 1.1 * len(titles)), 1 + max(title.count("\n") for title in titles)
    down, across = np.shape(pixels[0])
    height = 0.2 * lines + width / len(titles) * down / across  # no empty space below
    figure, panes = axes(width, height, columns=len(titles))
    for pane, image, title in zip(panes, pixels, titles, strict=True):
        pane.imshow(image, cmap="gray_r", vmin=0, vmax=1)
        pane.set_title(title, fontsize=9)
        pane.axis("off")
    details = f"From left to right: {'; '.join(titles)}."
    return Picture(figure, caption, details, numbers.of_images(titles))


def roofline(
    peaks: Mapping[str, float],
    bandwidth: float,
    points: Mapping[str, tuple[float, float]],
    *,
    cache: float | None = None,
    hollow: Collection[str] = (),
    caption: str,
    details: str = "",
) -> Picture:
    """Work per second over work per byte, under the limits of the machine.

    Parameters
    ----------
    peaks
        Name of the limit (a dtype) -> FLOP/s.
    bandwidth
        Bytes/s of main memory.
    points
        Name -> (FLOP per byte, FLOP/s).
    cache
        Bytes/s of the last-level cache: a second roof, dashed.
    hollow
        Names of points to which no sloping roof applies.

    Notes
    -----
    Williams, Waterman & Patterson, "Roofline: an insightful visual performance model", 2009.
    """
    figure, (pane,) = axes(width=8.0, height=3.8)
    limits: list[str] = []
    xs = [0.03, *sorted(peak / bandwidth for peak in peaks.values()), 3_000]
    for i, (name, peak) in enumerate(peaks.items()):
        roof = [min(peak, bandwidth * x) for x in xs]
        label = f"{name}: {words(peak, 'FLOP/s')}, memory {words(bandwidth, 'B/s')}"
        limits.append(label)
        pane.plot(xs, roof, color=COLOURS[-1 - i], linewidth=1.5, label=label)
    if cache and cache > bandwidth:
        ends = [xs[0], max(peaks.values()) / cache]
        roof, label = [cache * x for x in ends], f"last cache: {words(cache, 'B/s')}"
        limits.append(label)
        pane.plot(ends, roof, "--", color="#555555", linewidth=1.2, label=label)
    for i, (name, (intensity, rate)) in enumerate(points.items()):
        fill = "none" if name in hollow else None
        look = {**style(i), "markerfacecolor": fill, "markersize": 8, "linestyle": "none"}
        pane.plot(intensity, rate, label=name, **look)
    pane.set_xscale("log")
    pane.set_yscale("log")
    pane.set(xlabel="work per byte moved (FLOP/byte)", ylabel="work per second (FLOP/s)")
    pane.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    pane.yaxis.set_major_formatter(lambda value, _: numbers.tick(value, "FLOP/s"))
    pane.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return Picture(figure, caption, details, numbers.of_roofline(limits, points))
