"""A ladder of ways to train a model: one change per rung, held against the best rung below.

What counts is the time to the same loss: seconds per step × steps, and the wait for a compiler.
A rung's step is timed in turns with the best rung's, and its seconds are that one's × the ratio: so
a machine that becomes slower meanwhile makes no rung slower. The steps are counted by training to
that loss with several seeds, the same for each rung: what another seed would change is no merit of
the rung. Where a change cannot alter what is learnt, and the first losses show that it does not,
the steps are those of the rung below, and only the speed decides.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from itertools import islice
from typing import Any

import numpy as np
import torch

from kit.core.checks import check_positive, check_whole
from kit.core.errors import BadValue, KitError, UnknownName
from kit.core.results import Result
from kit.core.statistics import Estimate, quotient
from kit.core.units import words
from kit.costs.step_cost import peak_share
from kit.data.arguments import MAKER, check_pair
from kit.inference import device_of
from kit.ladders.ratios import SEVERAL, product
from kit.ladders.training_rungs import HEADER, Loop, Make, Rung, Way, to_the_loss
from kit.measurement import Call, Comparison, Peaks, compare, measure
from kit.measurement.comparison import PLACEMENT
from kit.measurement.memory import peak_bytes
from kit.models.custom import short_name
from kit.plots import Picture, Table, bars
from kit.training import History, train
from kit.workloads import Workload

FIRST = 8  # losses that two ways of the same learning have in common
SEEDS = 5  # trainings per rung: with 3, Student's interval would be more than twice as wide
UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"), "s")


@dataclass(frozen=True)
class TrainingLadder(Result):
    """Ways to train one model to one loss, in the order in which they were tried."""

    workload: Workload
    make: Make = field(repr=False)
    target_loss: float
    most_steps: int
    evaluate_every: int
    budget_s: float
    seeds: int
    model: str  # in words
    device: torch.device
    same_start: bool = False  # whether another seed changes none of the first weights
    peaks: Peaks | None = None
    rungs: tuple[Rung, ...] = ()

    @property
    def best(self) -> Rung:
        """What the next rung is held against: the last that was faster beyond noise and seeds."""
        return self.path[-1]

    @property
    def newest(self) -> Rung:
        """The last one tried."""
        return self.rungs[-1]

    @property
    def path(self) -> list[Rung]:
        """The first rung, and those that were faster than all below.

        Where no rung had reached the loss, the first that reaches it with every seed is on it.
        """
        found = [self.rungs[0]]
        for rung in self.rungs[1:]:
            arrives = rung.reached and len(rung.crossings) > 2 and not any(found[-1].crossings)
            if not rung.elsewhere and (rung.faster or arrives):
                found.append(rung)
        return found

    @property
    def gain(self) -> Estimate | None:
        """Time to the loss on the first rung ÷ on the best; None if one of them has none.

        With the steps of these two alone, and the ratios of all steps' times in between.
        """
        first, best, step = self.rungs[0], self.best, Estimate(1.0, 1.0, 1.0, "×")
        if best is first:
            return step if first.reached else None
        for rung in self.path[1:]:
            step = product(step, rung.step_ratio or step)
        ratio = to_the_loss(step, best, first, self._several)
        return quotient(Estimate(1.0, 1.0, 1.0), ratio) if ratio and ratio.low > 0 else None

    @property
    def _several(self) -> int:
        """How many ratios are to hold at once: as many as there are, and at least a dozen."""
        return max(SEVERAL, len(self.rungs))

    def then(self, name: str, loop: Loop | None = None, **change: Any) -> TrainingLadder:
        """The ladder with one rung more: the best so far with a change.

        Parameters
        ----------
        name
            What changes.
        loop
            Instead of the kit's: from model and workload to an iterator that makes one step at
            each `next` and gives its loss.
        change
            Options of `kit.train`, for a schedule `steps` too; `threads`; or `make`, which makes
            another model. What the kit refuses here becomes a rung that is "not here".

        Raises
        ------
        BadValue
            There is a rung of that name already; or a step would reach more than 100 % of the
            machine's peak.
        """
        self._check_new(name)
        way = (self.best.way if self.rungs else Way(self.make)).changed(change, loop)
        try:
            with _as_before():
                rung, flops = self._measured(name, way)
        except KitError as refusal:
            return self._with(Rung(name, way, UNKNOWN, absent=str(refusal)))
        if flops:  # a share over 100 % is an error, not a rung that is not here
            share = peak_share(self.peaks, flops, rung.step.value, way.precision)
            rung = replace(rung, share=share)
        return self._with(rung)

    def observed(self, name: str, history: History) -> TrainingLadder:
        """The ladder with a rung that was trained elsewhere with the same losses: by processes.

        It did not take turns with the best rung, which is timed right after instead. How far that
        time lies from what it was in turns is how far the machine has drifted, and so the noise
        floor. The next rungs cannot take turns with it, and are held against the best one still.
        """
        self._check_new(name)
        best, step = self.best, history.pace
        with _as_before():
            turn = best.way.turn(best.way.start(self.workload))
            own = measure(turn, budget_s=self.budget_s / 2, device=self.device).median
        ratio = quotient(step, own)
        drift = max(own.value / best.step.value, best.step.value / own.value) - 1
        rung = replace(
            best,
            name=name,
            step=product(best.step, ratio, "s"),
            learns_as=best.learns_as or best.name,
            compile_s=history.compile_s,
            share=None,
            peak_bytes=None,
            losses=(),
            against=best.name,
            step_ratio=ratio,
            noise_floor=max(drift, PLACEMENT),
            elsewhere=True,
        )
        return self._with(replace(rung, ratio=to_the_loss(ratio, rung, best, self._several)))

    def _check_new(self, name: str) -> None:
        if name in {rung.name for rung in self.rungs}:
            raise BadValue(f"name={name!r}: there is such a rung; each needs its own.")

    def _with(self, rung: Rung) -> TrainingLadder:
        return replace(self, rungs=(*self.rungs, rung))

    def _measured(self, name: str, way: Way) -> tuple[Rung, float | None]:
        """The rung, and the FLOPs of its step if they are to be held against the peaks."""
        with _as_before():
            steps = way.start(self.workload)
            turn, started = way.turn(steps), time.perf_counter()
            losses = [float(next(steps))]
            first_s = time.perf_counter() - started
            losses += map(float, islice(steps, FIRST - 1))
            step, timed = self._timed(name, turn)
            # Of two steps, the one that does not begin an epoch, which is put in order first.
            peaks = [peak_bytes(turn, self.device) for _ in range(2)]
            peak = None if None in peaks else min(filter(None, peaks), default=0)
        rung = Rung(
            name,
            way,
            step,
            compile_s=self._wait_s(way, max(0.0, first_s - step.value)),
            peak_bytes=peak,
            losses=tuple(losses),
        )
        rung = self._counted(rung)
        # Another number of threads has another limit.
        known = self.peaks and self.peaks.threads == (way.threads or torch.get_num_threads())
        flops = way.flops(self.workload) if known else None
        if timed is None:
            return rung, flops
        rung = replace(rung, against=self.best.name, step_ratio=timed.ratio())
        ratio = to_the_loss(timed.ratio(), rung, self.best, self._several)
        return replace(rung, ratio=ratio, noise_floor=timed.noise_floor), flops

    def _timed(self, name: str, turn: Call) -> tuple[Estimate, Comparison | None]:
        """Seconds of a step: in turns with the best rung's, or alone if it is the first."""
        if not self.rungs:
            return measure(turn, budget_s=self.budget_s / 2, device=self.device).median, None
        best = self.best
        turns = {best.name: best.way.turn(best.way.start(self.workload)), name: turn}
        timed = compare(turns, varied="work", budget_s=self.budget_s, device=self.device)
        return product(best.step, timed.ratio(), "s"), timed

    def _wait_s(self, way: Way, first_s: float) -> float:
        """For the compiler: what the first step took beyond the others, or as on the best rung."""
        best = self.best if self.rungs else None
        if way.options.get("compile") and not (best and best.way.options.get("compile")):
            return first_s
        return best.compile_s if best else 0.0

    def _counted(self, rung: Rung) -> Rung:
        """With its steps to the loss: those of a rung below that learns the same, or counted."""
        for below in self.rungs:
            if rung.way.learns_as(below.way, rung.losses, below.losses):
                same = below.learns_as or below.name
                return replace(rung, crossings=below.crossings, learns_as=same)
        given = (self.target_loss, self.workload, self.most_steps, self.evaluate_every, self.seeds)
        return replace(rung, crossings=rung.way.steps_to(*given))

    def __repr__(self) -> str:
        told = f"{words(self.gain.value, '×')} in all" if self.gain else "no time to compare"
        return f"{len(self.rungs)} rungs, the best {self.best.name!r}: {told}"

    def table(self) -> Table:
        """What people see: a row per rung."""
        path = " → ".join(rung.name for rung in self.path)
        trained = f"{self.seeds} seeds" if self.seeds > 1 else "one seed"
        caption = (
            f"{self.model} on {self.workload.name!r}, to a validation loss of "
            f"{self.target_loss:g}, on {self.device}. Each rung is the best below it with one "
            f"change, timed in turns with it, and trained with {trained}, the same for all; the "
            f"best were {path}. Intervals: of the step's time and the seeds together, 95 % for all "
            f"rungs at once."
        )
        if shared := [rung.name for rung in self.rungs if rung.learns_as]:
            caption += f" Only the speed differs, not what is learnt: {', '.join(shared)}."
        if any(rung.compile_s for rung in self.rungs):
            caption += " The wait for the compiler was timed once."
        if self.same_start and self.seeds > 1:
            caption += (
                " All seeds begin with the same weights, since `make` returns these each time: the "
                "intervals are for this beginning alone."
            )
        caption += " Memory: of a step, beyond weights and optimizer."
        return Table(HEADER, [rung.row() for rung in self.rungs], caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of each rung."""
        return {
            "workload": self.workload.name,
            "model": self.model,
            "target_loss": self.target_loss,
            "seeds": self.seeds,
            "device": str(self.device),
            "best": self.best.name,
            "gain_ratio": self.gain.to_dict() if self.gain else None,
            "rungs": [rung.to_dict() for rung in self.rungs],
        }

    def plot(self) -> Picture:
        """The time to the loss on each rung that reached it, as a bar."""
        known = {r.name: s for r in self.rungs if (s := r.seconds) is not None}
        stacks = {name: {"time": seconds} for name, seconds in known.items()}
        told = ", ".join(f"{name} {words(seconds, 's')}" for name, seconds in known.items())
        caption = f"Time to a validation loss of {self.target_loss:g}: {told}."
        return bars(stacks, "time to the loss", caption=caption, unit="s")


def training_ladder(
    make: Make,
    workload: Workload,
    *,
    name: str = "as given",
    loop: Loop | None = None,
    target_loss: float,
    most_steps: int = 2_000,
    evaluate_every: int = 20,
    seeds: int = SEEDS,
    budget_s: float = 1.0,
    peaks: Peaks | None = None,
    **options: Any,
) -> TrainingLadder:
    """A ladder with its first rung; `TrainingLadder.then` adds the next.

    Parameters
    ----------
    make
        Makes a fresh model from PyTorch's random numbers, which are seeded before; so it sets no
        seed itself.
    workload
        Gives batches, loss and the validation split.
    name
        Of the first rung.
    loop
        The first rung's own loop, see `TrainingLadder.then`; None: the kit's.
    target_loss
        Mean per target, nats, on the validation split: what each rung is trained to.
    most_steps
        Where a rung is given up.
    evaluate_every
        Steps between looks at the validation loss; they are not counted in the time. When the
        loss was reached between two of them is read off the line between both.
    seeds
        Trainings per rung, with the seeds 0, 1, …, or from `seed=` among the options on. With one
        there is no verdict, unless the change cannot alter what is learnt.
    budget_s
        Seconds for timing a rung in turns with the best below it.
    peaks
        From `kit.peaks`, for the share of the machine's limit.
    options
        Of the first rung, as for `kit.train`.

    Raises
    ------
    BadValue
        Seeds that are no whole number of at least 1.

    Explained in lesson 08.
    """
    check_pair("kit.training_ladder", make, workload, MAKER)
    for name, value in (
        ("seeds", seeds),
        ("most_steps", most_steps),
        ("evaluate_every", evaluate_every),
    ):
        check_whole(name, value)
    check_positive("target_loss", target_loss)
    known = [each for each in signature(train).parameters if each not in ("model", "workload")]
    for option in options if loop is None else ():
        if option not in (*known, "threads"):
            raise UnknownName("option of kit.train", option, known)
    with _as_before():
        one, other = (Way(make).model(k) for k in (0, 1))
    both = zip(one.parameters(), other.parameters(), strict=True)
    same = all(torch.equal(x, y) for x, y in both)
    limits = (target_loss, most_steps, evaluate_every, budget_s, seeds)
    bare = TrainingLadder(workload, make, *limits, short_name(one), device_of(one), same, peaks)
    return bare.then(name, loop, **options)


@contextmanager
def _as_before() -> Iterator[None]:
    """Puts back the number of threads, and the random numbers that the reader's code draws."""
    threads, python, numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            random.setstate(python)
            np.random.set_state(numpy)
