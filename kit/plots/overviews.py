"""Pictures that compare many experiments: rows with intervals, and the best trade-offs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kit.core.units import SHARES
from kit.plots import numbers
from kit.plots.numbers import Interval
from kit.plots.pictures import COLOURS, MARKERS, Picture, axes, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


IN_A_ROW = 3  # panes: with more, a page makes the picture, and its text, too small


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
    table = numbers.of_panes(list(rows), {quantity: (list(rows.values()), unit)}, level)
    return Picture(figure, caption, numbers=table)


def multiples(
    names: Sequence[str],
    panes: Mapping[str, tuple[Sequence[float | Interval | None], str]],
    *,
    caption: str,
    log: bool = True,
    hollow: Collection[str] = (),
    half: Collection[str] = (),
    limits: Mapping[str, float | None] | None = None,
    chosen: str = "",
) -> Picture:
    """Small multiples: the same rows in each pane, one quantity per pane.

    Parameters
    ----------
    names
        One for each row.
    panes
        Quantity -> (one value per row, or value, low and high; None if unknown; the unit).
    log
        Whether axes are logarithmic, so that small and large rows can be compared.
    hollow, half
        Names of rows whose markers are hollow or half filled.
    limits
        Quantity -> the largest value that is allowed: a dashed line.
    chosen
        The name of a row to draw rings around.
    """
    rows = -(-len(panes) // IN_A_ROW)
    columns = -(-len(panes) // rows)
    height = rows * (1.0 + 0.3 * len(names))
    figure, drawn = axes(1.9 * columns + 1.6, height, columns, len(panes))
    for i, (pane, (quantity, (values, unit))) in enumerate(zip(drawn, panes.items(), strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        for row, (name, each) in enumerate(zip(names, values, strict=True)):
            if each is None:
                continue
            value, low, high = each if isinstance(each, tuple) else (each, each, each)
            (down,), (up,) = _reach(value, low, high)
            if down or up:
                pane.hlines(row, value - down, value + up, color=colour)
            look: dict[str, Any] = {"color": colour, "markerfacecoloralt": "white"}
            look["markerfacecolor"] = "white" if name in hollow else colour
            look["fillstyle"] = "left" if name in half else "full"
            pane.plot(value, row, MARKERS[0], markersize=7, **look)
            if name == chosen:
                pane.plot(value, row, "o", markersize=15, markerfacecolor="none", color="black")
        if limits and (limit := limits.get(quantity)) is not None:
            pane.axvline(limit, color="black", linestyle="--", linewidth=1)
        pane.set_yticks(range(len(names)), names if i % columns == 0 else [""] * len(names))
        _finish(pane, quantity, unit, log and unit not in SHARES, len(names), ticks=3)
    return Picture(figure, caption, numbers=numbers.of_panes(names, panes))


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
    if places := _log_places(*pane.get_xlim(), 6):
        pane.set_xticks(places)
    pane.set(xlabel=x, ylabel=y)
    pane.xaxis.set_major_formatter(lambda value, _: numbers.tick(value, x_unit))
    pane.xaxis.set_minor_formatter(lambda value, _: "")
    pane.yaxis.set_major_formatter(lambda value, _: numbers.tick(value, y_unit))
    pane.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    across, up = [at for at, _ in points.values()], [value for _, value in points.values()]
    table = numbers.of_panes(list(points), {x: (across, x_unit), y: (up, y_unit)})
    return Picture(figure, caption, numbers=table)


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
    from matplotlib.ticker import FixedLocator, MaxNLocator

    if log:
        pane.set_xscale("log")
        pane.xaxis.set_minor_formatter(lambda value, _: "")
    if ticks:
        places = _log_places(*pane.get_xlim(), ticks) if log else []
        even = MaxNLocator(ticks, steps=[1, 2, 5, 10])  # 97.75 % would be rounded to 97.7 %
        pane.xaxis.set_major_locator(FixedLocator(places) if places else even)
    # A unit as long as "points" stands once, in the label: beside each number, ticks would overlap.
    spelt = f" {unit}" if unit == "points" else ""
    pane.xaxis.set_major_formatter(lambda value, _: numbers.tick(value, unit).removesuffix(spelt))
    pane.tick_params(axis="x", labelsize=8)
    pane.set_ylim(rows - 0.5, -0.5)
    pane.set_xlabel(f"{quantity},{spelt}" if spelt else quantity)


def _log_places(low: float, high: float, most: int) -> list[float]:
    """Two to `most` round numbers in a range: decades if there are some; [] if it is too narrow.

    >>> _log_places(3e-4, 0.2, 3), _log_places(1.1, 6.0, 3), _log_places(1.1, 1.3, 3)
    ([0.001, 0.01, 0.1], [2.0, 5.0], [])
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5)):
        round_numbers = [float(f"{m}e{ten}") for ten in decades for m in steps]
        found = [number for number in round_numbers if low <= number <= high]
        if len(found) >= 2:
            return found[:: math.ceil(len(found) / most)]
    return []
