"""The parts of one job, timed together in each round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from kit.core.checks import check_budget
from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.statistics import Estimate, median
from kit.measurement.conditions import Observer
from kit.measurement.memory import page_faults
from kit.measurement.stopwatch import (
    Stopwatch,
    check_call,
    labelled,
    no_collection,
    rounds,
    warm_up,
)
from kit.measurement.timing import Measurement, measurements_table
from kit.plots import Table


@dataclass(frozen=True)
class Parts(Result):
    """Times of the parts of one job, measured together in each round."""

    measurements: dict[str, Measurement]

    def __getitem__(self, name: str) -> Measurement:
        return self.measurements[name]

    def ratio(self, parts: str | list[str], to: str) -> Estimate:
        """The median over the rounds of: the sum of some parts ÷ another part.

        Both times are from the same round, so a slow moment of the machine cancels.
        """
        # Element by element: the sum of the parts of each round, then one ratio per round.
        names = [parts] if isinstance(parts, str) else parts
        above = np.sum([self[name].times_s for name in names], axis=0)
        return median(above / np.array(self[to].times_s), "×")

    def share(self, part: str, of: list[str]) -> Estimate:
        """The median over the rounds of: a part ÷ the sum of the parts in `of`."""
        # Each share is a median of its own, so the shares of all parts need not add up to 100 %.
        below = np.sum([self[name].times_s for name in of], axis=0)
        return median(np.array(self[part].times_s) / below, "%")

    def shares(self) -> dict[str, Estimate]:
        """Each part's share of all; no end is above what the lower ends of the others leave."""
        shares = {name: self.share(name, list(self.measurements)) for name in self.measurements}
        left = 1 - sum(share.low for share in shares.values())
        return {
            name: replace(share, high=min(share.high, share.low + left))
            for name, share in shares.items()
        }

    def __repr__(self) -> str:
        return "; ".join(repr(m) for m in self.measurements.values())

    def table(self) -> Table:
        """A row per part; conditions and doubts in the caption."""
        return measurements_table(list(self.measurements.values()))

    def to_dict(self) -> dict[str, Any]:
        """The raw times of each part."""
        return {"parts": {name: m.to_dict() for name, m in self.measurements.items()}}


def measure_parts(
    parts: Mapping[str, Callable[[Any], Any]],
    *,
    budget_s: float = 1.0,
    device: torch.device | str = "cpu",
    stopwatch: Stopwatch | None = None,
) -> Parts:
    """How long each part of a job takes, with the whole job repeated in rounds.

    Some parts cannot be timed alone: a backward pass needs the forward pass before it. So each
    round runs the whole job and waits for the device after each part. The parts of a round follow
    within moments, so a slow moment of the machine affects them alike and hardly changes a ratio
    within the round.

    Parameters
    ----------
    parts
        Name -> callable; it is given what the part before it returned, the first one None.
    budget_s
        Seconds for the rounds; the warm-up may take as long again. A slow job is warmed up twice
        and repeated ten times, if that fits into ten budgets.
    device
        Where the parts compute.

    Examples
    --------
    >>> found = measure_parts({"make": lambda _: list(range(1_000)), "sort": sorted}, budget_s=0.02)
    >>> list(found.measurements), found.ratio("sort", to="make").unit
    (['make', 'sort'], '×')

    Explained in lesson 02.
    """
    check_budget(budget_s)
    if not parts:
        raise BadValue("parts: given none; needs at least one.")
    for name, part in parts.items():
        check_call(
            f"kit.measure_parts: {name!r}",
            part,
            "of one argument: lambda _: kit.predict(model, inputs)",
        )
    # Waiting after each part keeps an accelerator from queueing ahead. So the parts can add up to
    # more than the whole job takes without the waiting: for that, time the job with `measure`.
    watch = stopwatch or Stopwatch(device)
    observer = Observer(watch)
    with no_collection():
        # Kept apart from the warm-up: it allocates and compiles.
        first = _round(parts, watch)
        # The whole job has to settle, not each part: parts are too short to judge alone.
        warm: list[np.ndarray] = []
        steady = warm_up(lambda: warm.append(_round(parts, watch)), watch, budget_s).steady
        # (rounds, parts, 2): one row is one job, so ratios within a row are paired.
        taken = np.array([_round(parts, watch) for _ in rounds(budget_s, watch)])
    conditions = observer.conditions()
    # The warm-up of each part, from the rounds of the whole job.
    spent = np.sum(warm, axis=0)
    # Each block is one call (the 1 below), because a part that needs another cannot repeat alone.
    # So the clock and the waiting count in full: parts of a few µs look too large.
    times, pages = taken[:, :, 0], np.median(taken[:, :, 1], axis=0)
    return Parts(
        {
            name: Measurement(
                name, tuple(times[:, i]), 1, first[i, 0], spent[i, 0], steady, conditions,
                pages=None if np.isnan(pages[i]) else float(pages[i]),
            )
            for i, name in enumerate(parts)
        }
    )  # fmt: skip


def _round(parts: Mapping[str, Callable[[Any], Any]], watch: Stopwatch) -> np.ndarray:
    """(parts, 2): seconds and page faults of each part of one job."""
    # `made` passes from part to part, as activations pass from forward to backward.
    taken, made = [], None
    for name, part in parts.items():
        with labelled(name):
            # Wait on both sides: without it, the work of one part would be charged to the next.
            watch.wait()
            before, started = page_faults(), watch.clock()
            made = part(made)
            watch.wait()
            taken.append((watch.clock() - started, page_faults() - before))
    return np.array(taken)
