"""Pictures that compare many experiments: rows with intervals, and the best trade-offs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kit.core.units import words
from kit.plots.pictures import COLOURS, MARKERS, Picture, axes, log_ticks, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Interval = tuple[float, float | None, float | None]  # value, low, high; None: unknown


def dots(
    rows: Mapping[str, Interval],
    quantity: str,
    *,
    caption: str,
    unit: str = "",
    log: bool = False,
    level: tuple[str, float] | None = None,
) -> Picture:
    """One row per name: a dot with its interval, and optionally a level to compare with.

    Parameters
    ----------
    rows
        Name -> (value, low, high).
    quantity
        The label of the axis.
    unit
        The unit of the ticks.
    level
        (name, value) of a dashed vertical line.
    """
    figure, (pane,) = axes(width=7.2, height=1.0 + 0.32 * len(rows))
    for row, (value, low, high) in enumerate(rows.values()):
        pane.errorbar(value, row, xerr=_reach(value, low, high), capsize=3, **style(0))
    pane.set_yticks(range(len(rows)), list(rows))
    _finish(pane, quantity, unit, log, len(rows))
    if level:
        pane.axvline(level[1], color="black", linestyle="--", linewidth=1, label=level[0])
        pane.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1))
    return Picture(figure, caption)


def multiples(
    names: Sequence[str],
    panes: Mapping[str, tuple[Sequence[float | None], str]],
    *,
    caption: str,
    log: bool = True,
) -> Picture:
    """Small multiples: the same rows in each pane, one quantity per pane.

    Parameters
    ----------
    names
        One for each row.
    panes
        Quantity -> (one value per row, None if unknown; the unit).
    log
        Whether axes are logarithmic, so that small and large rows can be compared.
    """
    figure, drawn = axes(
        width=1.75 * len(panes) + 1.2, height=1.0 + 0.3 * len(names), columns=len(panes)
    )
    for i, (pane, (quantity, (values, unit))) in enumerate(zip(drawn, panes.items(), strict=True)):
        for row, value in enumerate(values):
            if value is not None:
                pane.plot(value, row, MARKERS[0], color=COLOURS[i % len(COLOURS)])
        pane.set_yticks(range(len(names)), names if i == 0 else [""] * len(names))
        _finish(pane, quantity, unit, log and unit != "%", len(names), ticks=3)
    return Picture(figure, caption)


def scatter(
    points: Mapping[str, tuple[float, Interval]],
    x: str,
    y: str,
    *,
    caption: str,
    x_unit: str = "",
    y_unit: str = "",
    front: Sequence[str] = (),
) -> Picture:
    """Named points with vertical intervals, and a line through the points on the front.

    Parameters
    ----------
    points
        Name -> (x, (y, low, high)).
    front
        Names in the order of x, such as `pareto_front` gives.
    """
    figure, (pane,) = axes(width=8.0, height=3.8)
    for i, (name, (at, (value, low, high))) in enumerate(points.items()):
        error, look = _reach(value, low, high), {**style(i), "linestyle": "none"}
        pane.errorbar(at, value, yerr=error, capsize=3, label=name, **look)
    if front:
        best = [points[name] for name in front]
        pane.step(
            [at for at, _ in best], [y[0] for _, y in best],
            where="post", color="black", linewidth=1, linestyle="--", label="nothing is better",
        )  # fmt: skip
    pane.set_xscale("log")
    pane.set(xlabel=x, ylabel=y)
    pane.xaxis.set_major_formatter(lambda value, _: words(value, x_unit))
    pane.xaxis.set_minor_formatter(lambda value, _: "")
    pane.yaxis.set_major_formatter(lambda value, _: words(value, y_unit))
    pane.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return Picture(figure, caption)


def trade_offs(
    points: Mapping[str, tuple[float, float, Interval]],
    x: str,
    y: str,
    score: str,
    *,
    caption: str,
    x_unit: str = "",
    y_unit: str = "",
    front: Collection[str] = (),
    limits: tuple[float | None, float | None] = (None, None),
    chosen: str = "",
) -> Picture:
    """Two costs of each point, and beside them its score, by number and name.

    Parameters
    ----------
    points
        Name -> (x, y, (score, low, high)). Costs are better the smaller, scores the larger.
        Scores are drawn in per cent.
    front
        Names of the points on the Pareto front, drawn filled. The others are hollow.
    limits
        The largest y and the smallest score that are allowed: dashed lines.
    chosen
        The name of a point to draw a ring around.
    """
    figure, (plane, scores) = axes(width=9.6, height=max(3.6, 1.1 + 0.24 * len(points)), columns=2)
    for row, (name, (at, height, (value, low, high))) in enumerate(points.items()):
        colour = COLOURS[0] if name in front else "#777777"
        look: Any = {"color": colour, "markerfacecolor": colour if name in front else "white"}
        plane.plot(at, height, MARKERS[0], markersize=8, **look)
        error = _reach(value, low, high)
        scores.errorbar(value, row, xerr=error, fmt=MARKERS[0], capsize=3, **look)
    plane.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    plane.margins(0.12)
    for at, height, label in _numbered([(at, height) for at, height, _ in points.values()]):
        plane.annotate(
            label, (at, height), (0, 7), textcoords="offset points", ha="center", fontsize=8
        )
    if chosen:
        at, height, _ = points[chosen]
        plane.plot(at, height, "o", markersize=17, markerfacecolor="none", color=COLOURS[1])
    most, least = limits
    if most is not None:
        plane.axhline(most, color=COLOURS[1], linestyle="--", linewidth=1)
    if least is not None:
        scores.axvline(least, color=COLOURS[1], linestyle="--", linewidth=1)
    for axis, unit in ((plane.xaxis, x_unit), (plane.yaxis, y_unit)):
        log_ticks(axis, unit)
        axis.set_tick_params(labelsize=8)
    names = [f"{row + 1} {name}" for row, name in enumerate(points)]
    scores.set_yticks(range(len(points)), names, fontsize=8)
    _finish(scores, score, "%", False, len(points), ticks=4)
    return Picture(figure, caption)


def _numbered(points: Sequence[tuple[float, float]]) -> list[tuple[float, float, str]]:
    """Labels and their positions: points are numbered from 1, and close points share a label.

    A label with more numbers is wider: each adds 3 % of the plane on either side.
    """
    xs, ys = zip(*points, strict=True)
    wide, high = (math.log(max(v) / min(v)) or 1.0 for v in (xs, ys))
    labels: list[tuple[float, float, list[str]]] = []
    for number, (x, y) in enumerate(points, start=1):
        for at, height, numbers in labels:
            reach = 0.03 * (len(numbers) + 1) * wide
            if abs(math.log(x / at)) < reach and abs(math.log(y / height)) < 0.06 * high:
                numbers.append(str(number))
                break
        else:
            labels.append((x, y, [str(number)]))
    return [(x, y, ", ".join(numbers)) for x, y, numbers in labels]


def pareto_front(points: Mapping[str, tuple[float, ...]]) -> list[str]:
    """The names that nothing beats, by their first number: the Pareto front.

    A point beats another if it is at least as good in every number and better in one.

    Parameters
    ----------
    points
        Name -> (cost, …, worth): the last number is better the larger, all others the smaller.

    >>> pareto_front({"slow": (9.0, 0.9), "quick": (1.0, 0.8), "neither": (9.5, 0.85)})
    ['quick', 'slow']
    """

    def beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        cheaper = all(a <= b for a, b in zip(one[:-1], other[:-1], strict=True))
        return cheaper and one[-1] >= other[-1] and one != other

    front = [
        name for name, mine in points.items() if not any(beats(p, mine) for p in points.values())
    ]
    return sorted(front, key=lambda name: points[name][0])


def _reach(value: float, low: float | None, high: float | None) -> list[list[float]]:
    """The lengths of an error bar down and up; 0 towards an unknown end."""
    down, up = (value if e is None or not math.isfinite(e) else e for e in (low, high))
    return [[max(0.0, value - down)], [max(0.0, up - value)]]


def _finish(
    pane: Axes, quantity: str, unit: str, log: bool, rows: int, ticks: int | None = None
) -> None:
    """Labels the x axis in words, and puts the first row on top."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if log:
        pane.set_xscale("log")
        pane.xaxis.set_minor_formatter(lambda value, _: "")
    if ticks:
        pane.xaxis.set_major_locator(LogLocator(numticks=ticks) if log else MaxNLocator(ticks))
    pane.xaxis.set_major_formatter(lambda value, _: words(value, unit))
    pane.tick_params(axis="x", labelsize=8)
    pane.set_ylim(rows - 0.5, -0.5)
    pane.set_xlabel(quantity)
