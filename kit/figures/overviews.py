"""Pictures of many experiments at once: one row per thing, intervals, and what is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kit.figures.pictures import COLOURS, MARKERS, Picture, axes
from kit.units import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Interval = tuple[float, float, float]  # a value between its low and its high end


def dots(
    rows: Mapping[str, Interval],
    quantity: str,
    *,
    caption: str,
    unit: str = "",
    log: bool = False,
    level: tuple[str, float] | None = None,
) -> Picture:
    """One row per name: a dot with its interval, and a level to compare with.

    Parameters
    ----------
    rows
        Name -> (value, low, high).
    quantity
        The label of the axis.
    unit
        In which the ticks are written.
    level
        (name, value) of a dashed vertical line.
    """
    figure, (pane,) = axes(width=7.2, height=1.0 + 0.32 * len(rows))
    _dotted(pane, list(rows.values()), COLOURS[0])
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
        Of the rows.
    panes
        Quantity -> (a value per row, None where it is unknown; the unit).
    log
        Logarithmic axes: rows of different size can then be compared.
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
    """Points with names, an interval on their height, and a line through those on a front.

    Parameters
    ----------
    points
        Name -> (x, (y, low, high)).
    front
        Names in the order of x, for instance from `pareto_front`.
    """
    figure, (pane,) = axes(width=8.0, height=3.8)
    for i, (name, (at, (value, low, high))) in enumerate(points.items()):
        pane.errorbar(
            at,
            value,
            yerr=[[value - low], [high - value]],
            fmt=MARKERS[i % len(MARKERS)],
            color=COLOURS[i % len(COLOURS)],
            capsize=3,
            label=name,
        )
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


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The names that nothing beats: no other has both less cost and more worth.

    Parameters
    ----------
    points
        Name -> (cost, worth).

    >>> pareto_front({"slow": (9.0, 0.9), "quick": (1.0, 0.8), "neither": (9.5, 0.85)})
    ['quick', 'slow']
    """
    best, found = float("-inf"), []
    for name, (_, worth) in sorted(points.items(), key=lambda item: (item[1][0], -item[1][1])):
        if worth > best:
            best = worth
            found.append(name)
    return found


def _dotted(pane: Axes, rows: Sequence[Interval], colour: str) -> None:
    for row, (value, low, high) in enumerate(rows):
        error = [[value - low], [high - value]]
        pane.errorbar(value, row, xerr=error, fmt=MARKERS[0], color=colour, capsize=3)


def _finish(
    pane: Axes, quantity: str, unit: str, log: bool, rows: int, ticks: int | None = None
) -> None:
    """Axis in words with a few ticks, first row on top."""
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
