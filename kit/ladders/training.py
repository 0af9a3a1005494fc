"""A ladder of ways to train a model: each rung is the best one below it with one change.

What counts is the time to the same loss: seconds per step × steps, plus the wait for a compiler.

A rung's step is timed in turns with the best rung's step. Its seconds are the best rung's × the
ratio. So if the machine becomes slower meanwhile, no rung looks slower for it.

Steps are counted by training to the loss with several seeds, the same for each rung: a lucky seed
must not look like a better method. Some changes cannot alter what is learnt, such as another
precision. If the first losses confirm it, the rung needs as many steps as the rung below, and only
the speed decides.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from inspect import signature
from itertools import islice
from typing import Any

import numpy as np
import torch

from kit.core.checks import check_positive, check_whole
from kit.core.errors import KitError, UnknownName
from kit.core.statistics import Estimate, product, quotient
from kit.core.units import words
from kit.costs.step_cost import peak_share
from kit.data.arguments import MAKER, check_pair
from kit.devices import no_earlier_programs
from kit.inference import device_of
from kit.ladders.ladder import COMPARISONS, SAME_TIME, Ladder
from kit.ladders.rung_result import HEADER, TrainingRung, mean_steps, time_ratio
from kit.ladders.training_setup import Loop, Make, Setup
from kit.measurement import Call, Comparison, Peaks, compare, measure
from kit.measurement.comparison import LAYOUT_NOISE, TURNS
from kit.measurement.memory import peak_bytes
from kit.models.custom import short_name
from kit.plots import Picture, bars
from kit.training import History, train, updates
from kit.workloads import Workload

FIRST_LOSSES = 8  # compared to find out whether two setups learn the same
RATE_SEEDS = (
    2  # trainings per learning rate: enough to choose one, with other seeds than the rung's
)
SEEDS = 5  # trainings per rung: with 3, Student's interval would be more than twice as wide
MORE = 4  # times the budget for a step whose interval would be unknown …
ROUNDS = 16  # … or as long as this many rounds take, if that is longer
UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"), "s")


@dataclass(frozen=True)
class TrainingLadder(Ladder[TrainingRung]):
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
    same_start: bool = False  # whether all seeds begin with the same weights

    @property
    def best(self) -> TrainingRung:
        """The last rung that was faster beyond noise and seeds. The next one starts from it."""
        return self.path[-1]

    @property
    def path(self) -> list[TrainingRung]:
        """The first rung, and each rung that was faster than all rungs below it.

        While no rung has reached the loss, the first one to reach it with every seed counts too.
        """
        found = [self.first]
        for rung in self.rungs[1:]:
            reaches = rung.reached and len(rung.steps_by_seed) > 2
            arrives = reaches and not any(found[-1].steps_by_seed)
            if not rung.external and (rung.faster or arrives):
                found.append(rung)
        return found

    @property
    def gain(self) -> Estimate | None:
        """Time to the loss on the first rung ÷ on the best. None if one of them has none.

        It uses the steps of these two rungs, and the product of all step ratios in between.
        """
        if self.best is self.first:
            return SAME_TIME if self.first.reached else None
        ratio = self.ratio(self.best.name, self.first.name)
        return (1 / ratio).with_unit("×") if ratio and ratio.low > 0 else None

    @property
    def _comparisons(self) -> int:
        """How many ratios hold at once: as many as there are rungs, and at least a dozen."""
        return max(COMPARISONS, len(self.rungs))

    def then(
        self, name: str, loop: Loop | None = None, *, rates: Sequence[float] = (), **change: Any
    ) -> TrainingLadder:
        """The ladder with one more rung: the best so far with a change.

        Parameters
        ----------
        name
            What changes.
        loop
            Another loop: a function of model and workload that gives an iterator. Each `next` makes
            one step and gives its loss. The options that are among its parameters are passed to it.
            The kit's is `kit.training.updates`. None: the best rung's loop stays.
        rates
            Learning rates to choose from: the rung gets the one that needs the fewest steps. Give
            them for another optimizer, since each has a best rate of its own.
        change
            Options of `kit.train` (for a schedule, also `steps`), `threads`, or `make`, which
            makes another model. If the kit refuses the options, or your own loop does not take
            them, the rung is "not here".

        Raises
        ------
        BadValue
            If the ladder has a rung of this name, or if a step would use more than 100 % of the
            machine's peak.
        """
        self._check_new(name)
        setup = (self.best.setup if self.rungs else Setup(self.make)).changed(change, loop)
        try:
            if self.rungs:
                setup.check_taken([*change, *(["lr"] if rates else [])])
            with _state_restored():
                setup, tried = self._with_best_rate(setup, rates)
                rung, flops = self._measured(name, setup)
        except KitError as refusal:
            return self._with(TrainingRung(name, setup, UNKNOWN, absent=str(refusal)))
        if flops:  # outside `try`: a share over 100 % is an error, not a rung that is "not here"
            share = peak_share(self.peaks, flops, rung.step.value, setup.precision)
            rung = replace(rung, share=share)
        return self._with(replace(rung, tried=tried))

    def _with_best_rate(
        self, setup: Setup, rates: Sequence[float]
    ) -> tuple[Setup, dict[float, float | None]]:
        """The setup with the best of these rates, and the steps to the loss at each rate.

        The trainings have seeds that the rung does not use: the best of several rates is partly
        lucky, and on the rung's own seeds that luck would count.
        """
        given = (self.target_loss, self.workload, self.most_steps, self.evaluate_every, RATE_SEEDS)
        tried: dict[float, float | None] = {}
        for rate in rates:
            other = setup.changed({"lr": rate, "seed": setup.seed(self.seeds)})
            tried[rate] = mean_steps(other.steps_to_loss(*given))
        if not tried:
            return setup, tried
        best = min(tried, key=lambda rate: tried[rate] or math.inf)
        return setup.changed({"lr": best}), tried

    def ratio(self, name: str, to: str) -> Estimate | None:
        """Time to the loss of one rung ÷ that of another, from the step ratios in between.

        With an interval as in the table. None if a seed of either did not reach the loss.
        """
        mine, theirs = self._below(self[name]), self._below(self[to])
        ups = [rung for rung in mine if rung not in theirs]
        downs = [rung for rung in theirs if rung not in mine]
        step = SAME_TIME
        for rung in ups:
            step = product(step, rung.step_ratio or SAME_TIME)
        for rung in downs:
            step = quotient(step, rung.step_ratio or SAME_TIME)
        return time_ratio(step, self[name], self[to], self._comparisons)

    def _compared_with(self, rung: TrainingRung) -> str:
        """The best rung of that moment."""
        return rung.baseline

    def _below(self, rung: TrainingRung) -> list[TrainingRung]:
        """The rung and all that it was compared with, one after the other; not the first rung."""
        return [rung, *self._below(self[rung.baseline])] if rung.step_ratio else []

    def observed(self, name: str, history: History) -> TrainingLadder:
        """The ladder with a rung that other processes trained, with the same losses.

        Such a rung cannot be timed in turns with the best one. So the best one is timed right
        afterwards. The difference to its earlier time shows how far the machine has drifted, and
        that is the noise floor. Later rungs are still compared with the best rung, not this one.
        """
        self._check_new(name)
        best, step = self.best, history.pace
        with _state_restored():
            call = best.setup.step_call(best.setup.start(self.workload))
            now = measure(call, budget_s=self.budget_s / 2, device=self.device).median
        ratio = quotient(step, now)
        drift = max(now.value / best.step.value, best.step.value / now.value) - 1
        rung = TrainingRung(
            name,
            best.setup,
            step=product(best.step, ratio, "s"),
            steps_by_seed=best.steps_by_seed,
            learns_as=best.learns_as or best.name,
            compile_s=history.compile_s,
            baseline=best.name,
            step_ratio=ratio,
            noise_floor=max(drift, LAYOUT_NOISE),
            external=True,
        )
        return self._with(replace(rung, ratio=time_ratio(ratio, rung, best, self._comparisons)))

    def _measured(self, name: str, setup: Setup) -> tuple[TrainingRung, float | None]:
        """The rung, and the FLOPs of its step if the peaks are known for it."""
        with _state_restored():
            steps = setup.start(self.workload)
            call, started = setup.step_call(steps), time.perf_counter()
            # Programs of earlier runs would hide the wait that a reader has.
            with no_earlier_programs() if self._must_compile(setup) else nullcontext():
                losses = [float(next(steps))]
            first_s = time.perf_counter() - started
            losses += map(float, islice(steps, FIRST_LOSSES - 1))
            step, timed = self._timed(name, call)
            # A step that begins an epoch also shuffles the examples. Of two steps, one does not.
            peaks = [peak_bytes(call, self.device) for _ in range(2)]
            peak = None if None in peaks else min(filter(None, peaks), default=0)
        rung = TrainingRung(
            name,
            setup,
            step,
            compile_s=self._compile_s(setup, max(0.0, first_s - step.value)),
            peak_bytes=peak,
            losses=tuple(losses),
        )
        rung = self._with_steps(rung)
        # With another number of threads, the machine has another peak.
        known = self.peaks and self.peaks.threads == (setup.threads or torch.get_num_threads())
        flops = setup.flops(self.workload) if known else None
        if timed is None:
            return rung, flops
        rung = replace(rung, baseline=self.best.name, step_ratio=timed.ratio())
        ratio = time_ratio(timed.ratio(), rung, self.best, self._comparisons)
        return replace(rung, ratio=ratio, noise_floor=timed.noise_floor), flops

    def _timed(self, name: str, call: Call) -> tuple[Estimate, Comparison | None]:
        """Seconds of a step: timed in turns with the best rung's, or alone on the first rung."""
        if not self.rungs:
            # All later seconds rest on this one measurement, so it gets more time.
            return measure(call, budget_s=2 * self.budget_s, device=self.device).median, None
        best = self.best
        calls = {best.name: best.setup.step_call(best.setup.start(self.workload)), name: call}
        given: dict[str, Any] = {"varied": "work", "device": self.device}
        timed = compare(calls, budget_s=self.budget_s, **given)
        if timed.ratio().low <= 0:  # too few rounds, or they resemble each other: more tell more
            rounds_s = ROUNDS * sum(TURNS * each.median_s for each in timed.measurements.values())
            timed = compare(calls, budget_s=max(MORE * self.budget_s, rounds_s), **given)
        return product(best.step, timed.ratio(), "s"), timed

    def _compile_s(self, setup: Setup, first_s: float) -> float:
        """The wait for the compiler: the first step's extra time, or the best rung's wait."""
        if self._must_compile(setup):
            return first_s
        return self.best.compile_s if self.rungs else 0.0

    def _must_compile(self, setup: Setup) -> bool:
        """Whether the setup is compiled and the best rung is not."""
        before = self.best.setup.options if self.rungs else {}
        return bool(setup.options.get("compile")) and not before.get("compile")

    def _with_steps(self, rung: TrainingRung) -> TrainingRung:
        """The rung with its steps to the loss: a lower rung's if both learn the same."""
        for below in self.rungs:
            if rung.setup.learns_the_same(below.setup, rung.losses, below.losses):
                same = below.learns_as or below.name
                return replace(rung, steps_by_seed=below.steps_by_seed, learns_as=same)
        given = (self.target_loss, self.workload, self.most_steps, self.evaluate_every, self.seeds)
        return replace(rung, steps_by_seed=rung.setup.steps_to_loss(*given))

    def __repr__(self) -> str:
        sure = self.gain if self.best is not self.first else words(1.0, "×")
        gain = f"{sure} in all" if self.gain else "no time to compare"
        return f"{len(self.rungs)} rungs, the best {self.best.name!r}: {gain}"

    def _rows(self, rungs: Sequence[TrainingRung]) -> tuple[Sequence[str], list[Sequence[str]]]:
        return HEADER, [rung.row() for rung in rungs]

    def _caption(self) -> str:
        path = " → ".join(rung.name for rung in self.path)
        return f"To a validation loss of {self.target_loss:g}. The best, one after another: {path}."

    def _details(self) -> str:
        trained = f"{self.seeds} seeds" if self.seeds > 1 else "one seed"
        caption = (
            f"{self.model} on {self.workload.name!r}, on {self.device}. Each rung is the best "
            f"before it with the change that its name says. It is timed in turns with that one. "
            f"Unless its steps are copied, it is trained with {trained}, the same for all. "
            f"Intervals: step time and seeds together, 95 % for all rungs at once."
        )
        if shared := [r.name for r in self.rungs if r.learns_as and not r.external]:
            caption += (
                f" The first {FIRST_LOSSES} losses are an earlier rung's, but for rounding, so the "
                f"steps were copied from there: {', '.join(shared)}."
            )
        if counted := [r for r in self.rungs if r.steps_by_seed and not r.learns_as]:
            caption += f" Steps by seed: {'; '.join(f'{r.name} {r.each}' for r in counted)}."
        if known := [f"{rung.name} {words(rung.share, '%')}" for rung in self.rungs if rung.share]:
            caption += f" Of this machine's best matmul rate: {', '.join(known)}."
        if any(rung.compile_s for rung in self.rungs):
            caption += " The wait for the compiler, as in a first run, was timed once."
        if self.same_start and self.seeds > 1:
            caption += (
                " All seeds begin with the same weights, since `make` returns the same each time: "
                "the intervals hold for this start only."
            )
        caption += " Memory: of a step, beyond weights and optimizer."
        return caption + (self.peaks.renewals if self.peaks else "")

    def _conditions(self) -> dict[str, Any]:
        return {
            "workload": self.workload.name,
            "model": self.model,
            "target_loss": self.target_loss,
            "seeds": self.seeds,
            "device": str(self.device),
            "best": self.best.name,
            "gain_ratio": self.gain.to_dict() if self.gain else None,
        }

    def plot(self) -> Picture:
        """The time to the loss as a bar with its interval, for each rung that reached it."""
        known = {r.name: s for r in self.rungs if (s := r.seconds) is not None}
        stacks = {name: {"training": s - self[name].compile_s} for name, s in known.items()}
        for name in known:
            if self[name].compile_s:
                stacks[name]["compiling"] = self[name].compile_s
        times = ", ".join(f"{name} {words(seconds, 's')}" for name, seconds in known.items())
        caption = f"Time to a validation loss of {self.target_loss:g}: {times}."
        base = next((rung.name for rung in self.path if rung.reached), "")
        ratios = {name: self.ratio(name, base) for name in known if name != base}
        intervals = {
            name: (known[base] * ratio.low, known[base] * ratio.high)
            for name, ratio in ratios.items()
            if ratio and ratio.low > 0
        }
        if intervals:
            caption += f" The line at a bar is the interval of its comparison with {base!r}."
        return bars(stacks, "time to the loss", caption=caption, unit="s", intervals=intervals)


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
    """A training ladder with its first rung; `TrainingLadder.then` adds the next.

    Parameters
    ----------
    make
        A function that makes a fresh model. PyTorch's random numbers are seeded before each call,
        so it must not set a seed itself.
    workload
        Provides batches, loss and the validation split.
    name
        Of the first rung.
    loop
        The first rung's loop, see `TrainingLadder.then`; None: the kit's.
    target_loss
        The validation loss to which each rung is trained: mean per target, in nats.
    most_steps
        A training that has not reached the loss by then has missed it.
    evaluate_every
        Steps between evaluations, whose time is not counted. If the loss was reached between two
        of them, the step is interpolated.
    seeds
        Trainings per rung, with the seeds 0, 1, …, or from the option `seed` on. A
        verdict needs two or more, unless the change cannot alter what is learnt.
    budget_s
        Seconds for timing a rung in turns with the best one below it.
    peaks
        From `kit.peaks`, to show the share of the machine's peak.
    options
        Of `kit.train`, for the first rung.

    Raises
    ------
    BadValue
        If `seeds` or a number of steps is not a whole number of at least 1.

    Examples
    --------
    >>> import kit
    >>> work = kit.workloads.vision()
    >>> make = lambda: work.model("mlp")
    >>> ladder = training_ladder(make, work, target_loss=2.2, seeds=1, budget_s=0.05)
    >>> ladder = ladder.then("twice the rate", lr=2e-3)
    >>> [rung.name for rung in ladder.rungs]
    ['as given', 'twice the rate']

    Explained in lesson 08.
    """
    check_pair("kit.training_ladder", make, workload, MAKER)
    check_whole("seeds", seeds)
    check_whole("most_steps", most_steps)
    check_whole("evaluate_every", evaluate_every)
    check_positive("target_loss", target_loss)
    known = [each for each in signature(train).parameters if each not in ("model", "workload")]
    for option in options if loop in (None, updates) else ():
        if option not in (*known, "threads"):
            raise UnknownName("option of kit.train", option, known)
    with _state_restored():
        one, other = (Setup(make).model(k) for k in (0, 1))
    both = zip(one.parameters(), other.parameters(), strict=True)
    same = all(torch.equal(x, y) for x, y in both)
    limits = (target_loss, most_steps, evaluate_every, budget_s, seeds)
    where = (short_name(one), device_of(one), same)
    bare = TrainingLadder(workload, make, *limits, *where, peaks=peaks)
    return bare.then(name, loop, **options)


@contextmanager
def _state_restored() -> Iterator[None]:
    """Restores the number of threads and the states of all random number generators."""
    threads, python, numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            random.setstate(python)
            np.random.set_state(numpy)
