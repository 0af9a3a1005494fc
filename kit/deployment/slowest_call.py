"""Why the slowest call was slow, as far as the counters tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kit.core.units import words

if TYPE_CHECKING:
    from kit.deployment.edge_result import EdgeRun

MOST = 0.5  # of the extra time: a cause has to explain at least this share


def cause_of_slowest(run: EdgeRun) -> str:
    """What made the slowest call slow, in words; it says so where the counters do not tell.

    The extra time is that above the median. The thread either ran meanwhile, or it did not: its own
    clock tells which. Then the counters of that call name the event.
    """
    i = max(range(run.n), key=lambda call: run.times_s[call])
    extra_s = run.times_s[i] - run.median_s
    away_s = run.times_s[i] - run.running_s[i]
    if extra_s <= 0:
        return "no call was slower than the median"
    if not any(run.running_s):
        return "not known: this system does not count it"
    if away_s > MOST * extra_s:
        return _away(run, i, away_s)
    if run.collections[i]:
        return "Python collected garbage during the call"
    if run.page_faults[i]:
        pages = f"{run.page_faults[i]:,.0f} page{'s' * (run.page_faults[i] > 1)}"
        return f"the call took {pages} of memory from the system"
    return "the thread ran all the time, but more slowly: clock, caches or host, not known which"


def _away(run: EdgeRun, i: int, away_s: float) -> str:
    """The thread had no core for most of the extra time."""
    gone = words(away_s, "s")
    if run.share is not None:
        return f"the thread was stopped for {gone}: its share of a core was used up, or another ran"
    if run.taken_away[i]:
        times = f"{run.taken_away[i]:,.0f} context switch{'es' * (run.taken_away[i] > 1)}"
        return f"another program had the core for {gone} ({times})"
    if run.waited[i]:
        return f"the thread waited for {gone}, for example for memory or for the share of a core"
    return (
        f"the core did something else for {gone} without a context switch: an interrupt or a host"
    )
