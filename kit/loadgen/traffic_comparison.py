"""Several settings of a server, or several servers, under the same traffic: a table, a picture."""

from __future__ import annotations

from collections.abc import Mapping

from kit.core.checks import check_positive
from kit.core.errors import BadValue, NotComparable
from kit.core.statistics import quotient
from kit.core.units import digits, words
from kit.loadgen.rate_bracket import HighestRate
from kit.loadgen.traffic_result import TrafficResult
from kit.plots import Picture, Table, lines

ASKED = ("rate", "users", "think_s", "duration_s", "target_s", "batch_size")  # must be the same


def settings_table(settings: Mapping[str, HighestRate]) -> Table:
    """The highest rate of each setting with its bracket, and how it compares with the first.

    Two settings differ for certain only where their brackets do not overlap: otherwise the table
    says "tied".

    Raises
    ------
    NotComparable
        They have different targets.
    """
    if not settings:
        raise BadValue("no settings: needs at least one {name: highest_rate(…)}.")
    goals = {(s.trials[0].target_s, s.trials[0].percentile) for s in settings.values()}
    if len(goals) > 1:
        raise NotComparable(f"targets (seconds, percentile) {sorted(goals)}: need the same one.")
    first = next(iter(settings.values()))
    rows = [(name, *_cells(found, first)) for name, found in settings.items()]
    (target_s, percentile), counted = goals.pop(), first.trials[0].counted
    caption = (
        f"The highest rate at which {percentile:g} % are answered within {words(target_s, 's')} "
        f"(95 % confidence); the rate after it was too high, or unknown."
    )
    return Table(("setting", f"{counted}/s", "too high", "next to the first"), rows, caption)


def _cells(found: HighestRate, first: HighestRate) -> tuple[str, str, str]:
    rate = "none" if found.rate is None else digits(found.rate)
    too_high = "—" if found.too_high == float("inf") else digits(found.too_high)
    if found is first:
        return rate, too_high, "the first"
    here, there = found.bracket, first.bracket
    if here.low < there.high and there.low < here.high:
        return rate, too_high, "tied"
    if not here.value or not there.value:
        return rate, too_high, "more" if here.low >= there.high else "less"
    return rate, too_high, words(quotient(here, there).value, "×")


def goodput_curves(runs: Mapping[str, TrafficResult], interval_s: float | None = None) -> Picture:
    """Goodput over time of several runs, and what was offered to them.

    Raises
    ------
    NotComparable
        The runs were offered different traffic.
    """
    if not runs:
        raise BadValue("no runs: needs at least one {name: kit.traffic(…)}.")
    if interval_s is not None:
        check_positive("interval_s", interval_s)
    first = next(iter(runs.values()))
    for name, run in runs.items():
        if differing := [a for a in ASKED if getattr(run, a) != getattr(first, a)]:
            raise NotComparable(f"{name!r} differs in {', '.join(differing)}: needs the same.")
    over = {name: run.over_time(interval_s) for name, run in runs.items()}
    base = next(iter(over.values()))
    middles = [start + base.interval_s / 2 for start in base.starts_s]
    offered = {"offered": (middles, list(base.offered))}
    curves = {name: (middles, list(each.goodput)) for name, each in over.items()}
    text = "; ".join(
        f"{name}: {digits(run.goodput.value)} on average" for name, run in runs.items()
    )
    return lines(
        {**offered, **curves},
        "time (s)",
        "requests per second",
        caption=f"Goodput per {digits(base.interval_s)} s, in requests/s: {text}; offered "
        f"{digits(first.offered)} on average.",
        marks=len(middles) <= 40,
    )
