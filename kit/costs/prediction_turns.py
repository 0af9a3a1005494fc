"""Predictions that take turns with the steps of a training: how many predictions is it worth?

A machine changes its speed while a model trains. A prediction that is timed before or after the
training does not share its slow moments, and then the ratio of both times is wrong. So here a few
predictions are timed between the steps: a slow moment makes both slower, and cancels.

    steps    predictions    steps    predictions    steps    …
    └────── a turn ──────┘  └────── a turn ──────┘
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch

from kit import devices
from kit.core.checks import check_budget, check_whole
from kit.core.errors import BadValue, NotEnoughSamples
from kit.core.results import Result
from kit.core.statistics import Estimate, mean_of_stretches
from kit.core.units import words
from kit.devices import Meter
from kit.inference.prediction import evaluating
from kit.measurement import Call, Measurement, Observer, Stopwatch, all_doubts, labelled, warm_up
from kit.measurement.stopwatch import SETTLED, WarmedUp, check_call
from kit.plots import Table, with_doubts
from kit.training import History
from kit.training.distributed import world_size
from kit.training.hooks import StepInfo

TURNS = 50  # of a training: with some 0.2 s each, a slow moment of a second covers several
MAKER = "that makes a call: lambda n: lambda: kit.predict(model, inputs[:n])"
USE = "First history = kit.train(model, work, after_step=turns), then turns.of(history)."


@dataclass(frozen=True)
class TrainingInPredictions(Result):
    """A whole training, measured in predictions that took turns with its steps."""

    steps: int  # of the whole training
    stretches: tuple[tuple[int, float], ...] = field(repr=False)  # steps and their seconds, by turn
    measurements: dict[int, Measurement]  # by batch size: as many timings in each turn

    def __getitem__(self, batch_size: int) -> Measurement:
        return self.measurements[batch_size]

    @cached_property
    def _turns(self) -> dict[int, np.ndarray]:
        """(turns,) mean seconds of a call in each turn, by batch size."""
        n = len(self.stretches)
        return {b: np.reshape(m.times_s, (n, -1)).mean(1) for b, m in self.measurements.items()}

    @property
    def whole_run_time_ratio(self) -> Estimate:
        """Time of the whole training ÷ time of predicting one example alone.

        Each stretch of steps is set against as many predictions at the pace of its own turn. The
        interval comes from five parts of the training.
        """
        steps, seconds = np.transpose(self.stretches)
        return mean_of_stretches(seconds, steps * self._turns[1], "×") * self.steps

    @property
    def best(self) -> int:
        """The batch size with the least time per prediction, in every second turn."""
        # Not in all turns: what luck has chosen would be measured by the same luck.
        return min(self._turns, key=lambda n: float(self._turns[n][::2].mean()) / n)

    @property
    def batched_cost_ratio(self) -> Estimate:
        """Time per prediction in batches of `best` ÷ alone, in the turns that did not choose it."""
        # A training of one turn has no others: then the interval is unknown anyway.
        n, others = self.best, slice(min(1, len(self.stretches) - 1), None, 2)
        return mean_of_stretches(self._turns[n][others], n * self._turns[1][others], "×")

    def __repr__(self) -> str:
        return (
            f"a training of {self.steps:,} steps takes {self.whole_run_time_ratio} the time of a "
            f"prediction; in batches of {self.best}, a prediction takes "
            f"{self.batched_cost_ratio} its time alone"
        )

    def table(self) -> Table:
        """A row per batch size: time of a call and of a prediction, by turns."""
        alone = self._turns[1].mean()
        rows = [
            (
                f"{n:,}",
                words(m.mean.value, "s"),
                words(m.mean.value / n, "s"),
                words(float(self._turns[n].mean()) / n / alone, "×"),
            )
            for n, m in self.measurements.items()
        ]
        said = f"{self!r}"
        caption = f"{said[0].upper()}{said[1:]}. {len(self.stretches)} turns with the steps: every "
        caption += "second one chooses that size, the others measure it. Means, because a bill "
        caption += f"pays for slow calls, too. {self[1].conditions}."
        if self.best == max(self.measurements):
            caption += " It is the largest that was tried: a larger one may take less."
        named = {f"batch size {n}": m for n, m in self.measurements.items()}
        header = ("batch size", "a call", "a prediction", "÷ alone, all turns")
        return Table(header, rows, *with_doubts(caption, all_doubts(named)))

    def to_dict(self) -> dict[str, Any]:
        """Seconds of the steps and mean seconds of a call, turn by turn, and both ratios."""
        return {
            "steps": self.steps,
            "stretches": [[steps, round(seconds, 6)] for steps, seconds in self.stretches],
            "prediction_s": {str(n): [round(t, 9) for t in s] for n, s in self._turns.items()},
            "whole_run_time_ratio": self.whole_run_time_ratio.to_dict(),
            "best_batch_size": self.best,
            "batched_cost_ratio": self.batched_cost_ratio.to_dict(),
            "conditions": str(self[1].conditions),
        }


class PredictionTurns:
    """A hook of `kit.train` that times predictions in turns with its steps.

    The predictions do not count as training time, and `without` takes them out of its energy.

    Parameters
    ----------
    make_call
        From a batch size to the call that predicts such a batch.
    batch_sizes
        1, and others that may take less time per prediction.
    budget_s
        Seconds for the predictions of each batch size. A call that takes longer than its part of a
        turn is timed once in each turn.
    device
        Where the calls compute.
    turns
        At least how many, if the training has as many steps and nothing ends it earlier.

    Raises
    ------
    BadValue
        A parameter does not fit, or several processes train together.

    Examples
    --------
    >>> import kit
    >>> work = kit.workloads.vision()
    >>> model = work.model("mlp")
    >>> turns = PredictionTurns(
    ...     lambda n: lambda: kit.predict(model, work.example(n)[0]), (1, 32), budget_s=0.05
    ... )
    >>> history = kit.train(model, work, steps=20, live=False, after_step=turns)
    >>> found = turns.of(history)
    >>> found.steps, found.whole_run_time_ratio.unit
    (20, '×')

    Explained in lesson 14.
    """

    def __init__(
        self,
        make_call: Callable[[int], Call],
        batch_sizes: Iterable[int] = (1,),
        *,
        budget_s: float = 1.0,
        device: torch.device | str = "cpu",
        turns: int = TURNS,
        stopwatch: Stopwatch | None = None,
    ):
        check_call("PredictionTurns", make_call, MAKER)
        if (together := world_size()) > 1:
            # A fast process would wait for a slow one within its next step. And each makes as many
            # calls as its own clock allows: calls that exchange tensors would wait without end.
            raise BadValue(
                f"PredictionTurns in {together} processes that train together: needs a training "
                f"in one process. Start it without torchrun."
            )
        sizes = [check_whole("batch_sizes", n) for n in batch_sizes]
        if 1 not in sizes:
            raise BadValue(f"batch_sizes={sizes}: needs 1, the prediction of one example alone.")
        self.calls = {n: make_call(n) for n in sorted(set(sizes))}
        self.turns = check_whole("turns", turns)
        self.turn_s = check_budget(budget_s) / self.turns
        self.watch = stopwatch or Stopwatch(device)
        self.warm: dict[int, WarmedUp] = {}
        self.last = 0  # step of the training that is running

    def __call__(self, info: StepInfo) -> None:
        """After a step: if a turn is over, time the predictions."""
        if info.step != self.last + 1 or len(self.warm) < len(self.calls):
            self._begin(info)  # another training, or one that was resumed: forget the turns so far
        self.last = info.step
        if info.step % self.every:
            return
        # Every second pair of turns in reverse, so that no batch size is always the first.
        order = [*self.calls][:: -1 if len(self.ends) // 2 % 2 else 1]
        timed: dict[int, list[float]] = {}
        with self._aside(info):
            for n in order:
                with labelled(f"batch size {n}"):
                    timed[n] = self._time(n)
        self.ends.append(info.step)  # only now: a turn that was interrupted does not count
        for n, times in timed.items():
            self.times[n] += times

    def _begin(self, info: StepInfo) -> None:
        """Warm the predictions up: the first calls allocate memory and fill caches."""
        self.every = max(1, info.total // self.turns)
        self.ends: list[int] = []  # the last step of each turn
        self.times: dict[int, list[float]] = {n: [] for n in self.calls}
        self.observer = Observer(self.watch)
        self.joules: float | None = 0.0
        self.firsts: dict[int, float] = {}
        with self._aside(info):
            for n, call in self.calls.items():
                with labelled(f"batch size {n}"):
                    self.firsts[n] = self.watch.time(call)
                    self.warm[n] = warm_up(call, self.watch, self.turn_s)

    @contextmanager
    def _aside(self, info: StepInfo) -> Iterator[None]:
        """What is inside counts neither as time nor as energy of the training."""
        meter = devices.metered(self.watch.device)
        with info.pause(), evaluating(info.model), devices.collector_held(), meter as used:
            yield
        if self.joules is not None:  # once unknown, the sum stays unknown
            self.joules = None if used.joules is None else self.joules + used.joules

    def without(self, meter: Meter) -> float | None:
        """Joules of a metered training without the predictions in it; None: no meter was read."""
        if meter.joules is None or self.joules is None:
            return None
        return meter.joules - self.joules

    def _time(self, n: int) -> list[float]:
        """Seconds of a call of one batch size in one turn: as many timings in each turn."""
        call, (block, _, _, call_s) = self.calls[n], self.warm[n]
        if call_s < 2 * self.turn_s:  # an untimed one: the steps filled the caches with their data
            call()
        timings = max(1, round(self.turn_s / (call_s * block)))
        return [self.watch.time(call, block) / block for _ in range(timings)]

    def _settled(self, n: int, stretches: tuple[tuple[int, float], ...]) -> bool:
        """Whether the first turn, ÷ the steps before it, was as the slower ones of the later turns.

        A warm-up as short as a turn may end too early to tell; then the first turns would be slower
        than the others. A slow moment of the machine slows the steps, too.
        """
        step_s = [seconds / steps for steps, seconds in stretches]
        first, *later = np.reshape(self.times[n], (len(self.ends), -1)).mean(1) / step_s
        return bool(later) and bool(SETTLED * first <= np.quantile(later, 0.9))

    def of(self, history: History) -> TrainingInPredictions:
        """What was measured, beside the training's own times.

        Raises
        ------
        BadValue
            The history is that of another training.
        NotEnoughSamples
            No turn was over when the training ended.
        """
        if not isinstance(history, History) or not self.warm:
            raise BadValue(f"PredictionTurns.of: needs the history of a training with it. {USE}")
        if not self.ends:
            raise NotEnoughSamples(f"the training ended after {history.steps} steps: no turn.")
        conditions, stretches = self.observer.conditions(), self._stretches(history)
        measured = {
            n: Measurement(
                f"a batch of {n}", tuple(self.times[n]), warm.block, self.firsts[n], warm.spent_s,
                warm.steady or self._settled(n, stretches), conditions,
            )
            for n, warm in self.warm.items()
        }  # fmt: skip
        return TrainingInPredictions(history.steps, stretches, measured)

    def _stretches(self, history: History) -> tuple[tuple[int, float], ...]:
        """The steps of each turn and their seconds, from what the loop has read."""
        steps, seconds = np.transpose(history.reads or [(0, 0.0)])
        # After a resume, the reads are those of the later steps alone.
        done = history.steps - steps.sum() + np.cumsum(steps)
        read = np.searchsorted(done, self.ends)  # the loop reads its losses before each turn
        if read[-1] >= len(done) or any(done[read] != self.ends):
            raise BadValue(f"the history is of another training than the turns. {USE}")
        parts = [slice(a + 1, b + 1) for a, b in zip([-1, *read], read, strict=False)]
        return tuple((int(steps[p].sum()), math.fsum(seconds[p])) for p in parts)
