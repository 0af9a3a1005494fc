"""The numbers of a picture as a table: for readers who do not see it, and to copy a value.

Each way to draw in this room has its function here, which takes the same arguments.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kit.core.statistics import Estimate
from kit.core.tables import UNKNOWN_INTERVAL, Table
from kit.core.units import UNKNOWN, digits, span, words

SUMMARY = "The numbers of this picture"
Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]
Interval = tuple[float, float | None, float | None]  # value, low, high; None: unknown
MOST = 12  # values of a line that are listed: hundreds would not be read
MOST_ROWS = 48
MOST_COLUMNS = 5


def folded(table: Table | None) -> str:
    """HTML of a table that a click opens; nothing without rows."""
    if table is None or not table.rows:
        return ""
    return f"<details><summary>{SUMMARY}</summary>{table._repr_html_()}</details>"


def interval(value: float | None, low: float | None, high: float | None, unit: str) -> str:
    """A value with its interval; without one if there is nothing on either side.

    >>> interval(0.5, 0.25, 0.75, "%"), interval(2.0, 2.0, 2.0, "×"), interval(2.0, None, None, "s")
    ('50.0 % [25.0 to 75.0 %]', '2.00 ×', '2.00 s [interval unknown]')
    >>> interval(2.0, 0.0, math.inf, "s"), interval(2.0, 1.5, math.inf, "s")
    ('2.00 s [interval unknown]', '2.00 s [at least 1.50 s]')
    """
    text = words(value, unit)
    if value is None or math.isnan(value) or low == high == value:
        return text
    if low is None or high is None:
        return f"{text} {UNKNOWN_INTERVAL}"
    return repr(Estimate(value, low, high, unit))


def tick(value: float, unit: str) -> str:
    """A round number on an axis, in words and without zeros that say nothing.

    >>> tick(0.25, "%"), tick(1.2e-3, "s"), tick(20, "×"), tick(2e-5, ""), tick(1000, "")
    ('25 %', '1.2 ms', '20 ×', '0.00002', '1,000')
    """
    if not unit and 1000 <= value < 100_000:
        return f"{value:,.0f}"  # a count without a prefix: 1,000 stands beside 800
    text = words(value, unit)
    if not unit and "e-" in text:
        text = f"{value:.9f}"
    number, space, of = text.partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number}{space}{of}"


def of_lines(
    series: Series,
    x: str,
    y: str,
    unit: str = "",
    bands: Series | None = None,
    level: tuple[str, float] | None = None,
) -> Table:
    """Of lines: a column for each line if they share their positions, else a row for each point."""
    shared = len({tuple(xs) for xs, _ in series.values()}) == 1 and len(series) <= MOST_COLUMNS
    some = {name: _some(len(xs), len(series)) for name, (xs, _) in series.items()}
    cells = {name: _cells(series[name], (bands or {}).get(name), unit) for name in series}
    if shared:
        first = next(iter(series))
        heads = (x, y) if len(series) == 1 else (x, *series)
        rows = [
            (_position(series[first][0][i]), *(cells[name][i] for name in series))
            for i in some[first]
        ]
    else:
        heads = ("", x, y)
        rows = [
            (name, _position(series[name][0][i]), cells[name][i])
            for name in series
            for i in some[name]
        ]
    return Table(heads, rows, f"{_level(level, unit)} {_left_out(series, some, unit)}".strip())


def _level(level: tuple[str, float] | None, unit: str) -> str:
    return f"{level[0]}: {words(level[1], unit)}." if level else ""


def _some(n: int, lines: int) -> list[int]:
    """The positions of a line that are listed: its ends, and between them in even steps."""
    most = max(3, min(MOST, MOST_ROWS // max(lines, 1)))
    return list(range(n)) if n <= most else [round(i * (n - 1) / (most - 1)) for i in range(most)]


def _cells(
    line: tuple[Sequence[float], Sequence[float]],
    band: tuple[Sequence[float], Sequence[float]] | None,
    unit: str,
) -> list[str]:
    lows, highs = band or (line[1], line[1])
    return [interval(*each, unit) for each in zip(line[1], lows, highs, strict=True)]


def _position(value: float) -> str:
    """A position on the x axis: a whole number in full, others with four digits."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _left_out(series: Series, some: Mapping[str, list[int]], unit: str) -> str:
    """What the table of some points says about all: how many there are, and their ends."""
    said = []
    for name, (_, ys) in series.items():
        known = [value for value in ys if math.isfinite(value)]
        if len(some[name]) < len(ys) and known:
            said.append(f"{name}: {len(ys):,} points from {span(min(known), max(known), unit)}")
    return f"Some of them, in even steps. {'; '.join(said)}." if said else ""


def of_rows(series: Series, x: str) -> Table:
    """Of lines that lie above each other: where each begins and ends."""
    rows = [
        (name, f"{len(xs):,}", *(_position(end(xs)) if len(xs) else UNKNOWN for end in (min, max)))
        for name, (xs, _) in series.items()
    ]
    return Table(("", "points", f"first: {x}", f"last: {x}"), rows)


def of_bars(
    stacks: Mapping[str, Mapping[str, float]],
    quantity: str,
    unit: str,
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> Table:
    """Of stacked bars: the parts, and the total with its interval."""
    parts = list(dict.fromkeys(part for stack in stacks.values() for part in stack))
    rows = []
    for name, stack in stacks.items():
        total = sum(stack.values())
        low, high = (intervals or {}).get(name, (total, total))
        each = [words(stack.get(part), unit) for part in parts] if len(parts) > 1 else []
        rows.append((name, *each, interval(total, low, high, unit)))
    return Table(("", *parts, "together") if len(parts) > 1 else ("", quantity), rows)


def of_panes(
    names: Sequence[str],
    panes: Mapping[str, tuple[Sequence[float | Interval | None], str]],
    level: tuple[str, float] | None = None,
) -> Table:
    """Of panes side by side: a row for each name, a column for each pane."""
    columns = [[_pane_cell(each, unit) for each in values] for values, unit in panes.values()]
    rows = [(name, *cells) for name, *cells in zip(names, *columns, strict=True)]
    unit = next((unit for _, unit in panes.values()), "")
    return Table(("", *panes), rows, _level(level, unit))


def _pane_cell(each: float | Interval | None, unit: str) -> str:
    return interval(*each, unit) if isinstance(each, tuple) else words(each, unit)


def of_roofline(limits: Sequence[str], points: Mapping[str, tuple[float, float]]) -> Table:
    """Of a roofline: the points, and in the caption the limits of the machine."""
    rows = [
        (name, f"{digits(intensity)} FLOP/byte", words(rate, "FLOP/s"))
        for name, (intensity, rate) in points.items()
    ]
    limit = f"Limits: {'; '.join(limits)}."
    return Table(("", "work per byte", "work per second"), rows, limit)


def of_images(titles: Sequence[str]) -> Table:
    """Of a row of images: what is written above each."""
    rows = [(f"{i}", ", ".join(title.split("\n"))) for i, title in enumerate(titles, 1)]
    return Table(("from the left", "written above it"), rows)
