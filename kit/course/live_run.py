"""What the traffic panel shows: moments, and a whole run of them in one sentence and one picture.

Moment    the rates, the latencies and the queue at one moment
LiveRun   the moments of a run
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from kit.core.units import digits, words
from kit.plots import Picture, Table
from kit.plots.numbers import MOST, Interval, of_panes
from kit.plots.pictures import COLOURS, log_ticks

ENOUGH = 0.9  # of the requests answered in time: with fewer, a server is broken
GREY = "Where the picture is grey, the client sent late, so the server's numbers are unknown."
# The panes of the picture, as on the page: their quantity, and their lines.
PANES = {
    "requests/s": {
        "arriving": "arriving",
        "good": "in time (goodput)",
        "refused": "refused or failed",
    },
    "latency": {"p50_s": "p50", "p99_s": "p99"},
    "queue (requests)": {"waiting": "sent, not answered yet"},
}
SPANS = {  # over what each curve goes
    "requests/s": "mean of the last second",
    "latency": "of the last three seconds",
    "queue (requests)": "at the moment",
}
LOOKS: dict[str, dict[str, Any]] = {  # as on the page
    "arriving": {"color": COLOURS[0], "linestyle": "--"},
    "good": {"color": COLOURS[2]},
    "refused": {"color": COLOURS[1], "linestyle": ":"},
    "p50_s": {"color": COLOURS[0]},
    "p99_s": {"color": COLOURS[1]},
    "waiting": {"color": COLOURS[3]},
}


@dataclass(frozen=True)
class Moment:
    """Rates of the last second, latency percentiles of the last three, and the queue now.

    None is unknown. A percentile is unknown until there are enough answers for it
    (`kit.statistics.samples_needed`). What depends on time is unknown when the client is late.
    """

    at_s: float  # from the start of the run
    rate: float  # requests per second, as asked
    arriving: float | None = None  # requests per second
    good: float | None = None  # of these, answered within the target (goodput)
    late: float | None = None  # answered later
    refused: float | None = None  # refused, failed or timed out
    p50_s: float | None = None  # from the scheduled arrival; time-outs count, too
    p99_s: float | None = None
    waiting: int | None = None  # requests sent and not answered yet
    client_late_s: float = 0.0  # how late the client sent the middle request
    note: str = ""  # what was changed in the server just now

    @property
    def broken(self) -> bool:
        """Whether fewer than 90 % of what ended was good, or nothing ends and the queue is long."""
        if self.good is None or self.late is None or self.refused is None:
            return False
        ended = self.good + self.late + self.refused
        return self.good < ENOUGH * ended if ended else (self.waiting or 0) > self.rate


@dataclass(frozen=True)
class LiveRun:
    """A run of the traffic panel; in a notebook it is shown as its picture."""

    moments: tuple[Moment, ...]
    target_s: float

    @property
    def counted(self) -> list[Moment]:
        """The moments whose numbers are the server's."""
        return [moment for moment in self.moments if moment.good is not None]

    @property
    def broken_rate(self) -> float | None:
        """The first rate at which most moments were broken; None: there was none."""
        for rate, group in groupby(self.counted, key=lambda moment: moment.rate):
            broken = [moment.broken for moment in group]
            if 2 * sum(broken) > len(broken):
                return rate
        return None

    @property
    def _unknown_s(self) -> list[tuple[float, float]]:
        """From when to when the client was late: the spans between two moments."""
        pairs = pairwise((Moment(0.0, 0.0, note="the start"), *self.moments))
        return [(a.at_s, b.at_s) for a, b in pairs if b.good is None and not b.note]

    def __repr__(self) -> str:
        if not self.counted:
            return "Nothing was counted."
        within, last = f"within {words(self.target_s, 's')}", self.counted[-1]
        said = f"The server kept up: 90 % or more were answered {within} at every rate."
        if self.broken_rate is not None:
            said = f"The server broke at {self.broken_rate:,g} requests/s: for most of that time, "
            said += f"fewer than 90 % were answered {within}. The picture's curve of arrivals lags "
            said += "behind that rate, because it is the mean of the last second."
        highest = digits(max(moment.good or 0 for moment in self.counted))
        end = f"{digits(last.arriving or 0)} requests/s arrived, and {digits(last.good or 0)} "
        end += "answers/s came in time"
        said = f"{said} The highest goodput was {highest} requests/s. At the end, {end}."
        return f"{said} {GREY}" if self._unknown_s else said

    def plot(self) -> Picture:
        """Rates, latencies and the queue over time, one below the other."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 6.8), layout="constrained", facecolor="white")
        shown = [m for m in self.moments if not m.note]  # a change does not interrupt a line
        at_s, panes = [m.at_s for m in shown], figure.subplots(3, 1, sharex=True)
        for pane, (quantity, names) in zip(panes, PANES.items(), strict=True):
            for name, label in names.items():
                values = (getattr(moment, name) for moment in shown)
                numbers = [math.nan if value is None else value for value in values]
                pane.plot(at_s, numbers, label=label, linewidth=2, **LOOKS[name])
            pane.set_ylabel(f"{quantity}\n{SPANS[quantity]}")
            pane.grid(alpha=0.25)
            pane.spines[["top", "right"]].set_visible(False)
        panes[1].set_yscale("log")
        panes[1].axhline(self.target_s, color="black", linestyle="--", linewidth=1, label="target")
        log_ticks(panes[1].yaxis, "s")
        for pane in panes:
            for began_s, end_s in self._unknown_s:
                pane.axvspan(began_s, end_s, color="grey", alpha=0.25, linewidth=0)
            pane.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
        panes[2].set_xlabel("time (s)")
        panes[2].set_ylim(bottom=0)
        return Picture(figure, repr(self), numbers=self._numbers(shown))

    @staticmethod
    def _numbers(shown: list[Moment]) -> Table:
        """Some of the moments, in even steps."""
        some = shown[:: max(1, len(shown) // MOST)]
        panes: dict[str, tuple[list[float | Interval | None], str]] = {
            label: ([getattr(moment, name) for moment in some], "s" if name.endswith("_s") else "")
            for names in PANES.values()
            for name, label in names.items()
        }
        return of_panes([f"{moment.at_s:.1f} s" for moment in some], panes)

    def _repr_html_(self) -> str:
        return self.plot()._repr_html_()
