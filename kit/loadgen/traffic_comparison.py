"""Several settings of a server, or several servers, under the same traffic: a table, a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from kit.core.checks import check_positive
from kit.core.errors import BadValue, NotComparable
from kit.core.statistics import Estimate, median
from kit.core.units import UNKNOWN, digits, words
from kit.loadgen.rate_bracket import HighestRate
from kit.loadgen.traffic_result import TrafficResult
from kit.plots import Picture, Table, lines

ASKED = ("rate", "users", "think_s", "duration_s", "target_s", "batch_size")  # must be the same
AT_LEAST = "at least "


def settings_table(settings: Mapping[str, HighestRate]) -> Table:
    """The highest rate of each setting: as it was seen, surely in time, and surely too high.

    Two settings differ for certain only where the ranges between their last two columns do not
    overlap.

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
    rows = [(name, *_cells(found)) for name, found in settings.items()]
    (target_s, percentile), first = goals.pop(), next(iter(settings.values())).trials[0]
    caption = (
        f"The highest rate at which {percentile:g} % were answered within {words(target_s, 's')}; "
        f"surely: with 95 % confidence."
    )
    if any(row[1].startswith(AT_LEAST) for row in rows):
        caption += " At least: the client was the limit, and the server may answer more."
    header = ("setting", f"{first.counted}/s in time", "surely in time", "surely too high")
    return Table(header, rows, caption)


def _cells(found: HighestRate) -> tuple[str, str, str]:
    """The value, the lower end and the upper end; a dash for what is not known."""
    ends = (found.seen.value, found.seen.low, found.seen.high)
    value, low, high = (digits(end) if 0 < end < math.inf else UNKNOWN for end in ends)
    limited = found.client_limited_rate is not None and value != UNKNOWN
    return f"{AT_LEAST if limited else ''}{value}", low, high


def goodput_table(runs: Mapping[str, Sequence[TrafficResult]], of: str) -> Table:
    """Answers in time per second of several servers: the median of several short runs each.

    Parameters
    ----------
    runs
        Name -> its runs. Each row of a request counts as an answer.
    of
        What the names are, such as "replicas": the heading of their column.
    """
    if not runs:
        raise BadValue("no runs: needs at least one {name: [kit.traffic(…), …]}.")
    rates = {name: [_answers_per_s(run) for run in several] for name, several in runs.items()}
    rows = [(name, repr(median(each, "answers/s"))) for name, each in rates.items()]
    counts = sorted({len(each) for each in rates.values()})
    caption = f"The median of {' or '.join(map(str, counts))} short runs each."
    if any(run.target_s is None for several in runs.values() for run in several):
        caption += " Without a target, every answer counts as in time."
    return Table((of, "in time"), rows, caption)


def goodput_ratio(above: Sequence[TrafficResult], below: Sequence[TrafficResult]) -> Estimate:
    """The goodput of one server ÷ that of another; both were sent traffic in turns.

    A slow moment that lasts longer than both runs of a pair slows both, so most of it cancels in
    their ratio, and the median of the pairs has a narrow interval. It is
    unknown with fewer than six pairs. A pair says nothing if neither run had an answer in time; if
    only the run below had none, the ratio of this pair is infinite. Each row of a request counts
    as an answer.

    Explained in lesson 11.
    """
    if len(above) != len(below) or not above:
        raise BadValue(f"{len(above)} and {len(below)} runs: needs pairs, at least one.")
    pairs = [(_answers_per_s(a), _answers_per_s(b)) for a, b in zip(above, below, strict=True)]
    ratios = [a / b if b else math.inf for a, b in pairs if a or b]
    if not sum(map(math.isfinite, ratios)) > len(ratios) / 2:  # the median itself is infinite
        return Estimate(math.inf, 0.0, math.inf, "×")
    return median(ratios, "×")


def _answers_per_s(run: TrafficResult) -> float:
    return run.goodput.value * run.batch_size


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
    # A flood that is offered would leave the curves in the lowest third of the picture.
    top = 1.15 * max(1.0, *(max(each.goodput) for each in over.values()))
    most = max(base.offered)
    beyond = f", and up to {digits(most)}, beyond the picture" if most > top else ""
    picture = lines(
        {**offered, **curves},
        "time (s)",
        "requests per second",
        caption=f"Requests in time per second; each point is the mean over "
        f"{words(base.interval_s, 's')}. {text}; offered: {digits(first.offered)} on "
        f"average{beyond}.",
        marks=len(middles) <= 40,
    )
    (pane,) = picture.figure.axes
    pane.set_ylim(0, top)
    pane.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return picture
