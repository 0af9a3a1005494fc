"""A ladder of ways to train a model: one change per rung, held against the best rung below.

What counts is the time to the same loss: seconds per step × steps, and the wait for a compiler.
A rung's step is timed in turns with the best rung's, and its seconds are that one's × the ratio: so
a machine that becomes slower meanwhile makes no rung slower. The steps are counted by training to
that loss, unless the first losses equal those of a rung below: then only the speed differs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch

from kit.comparison import Comparison, compare
from kit.costs.training_rungs import HEADER, Loop, Make, Rung, Way, scaled, to_the_loss
from kit.data.asked import MAKER, check_pair
from kit.errors import BadValue, KitError
from kit.estimates import Estimate
from kit.figures import Picture, Table, bars
from kit.inference import device_of
from kit.limits import Peaks
from kit.measurement import Call, measure
from kit.measurement.memory import peak_bytes
from kit.results import Result
from kit.training import History
from kit.units import words
from kit.workloads import Workload

FIRST = 8  # losses that two ways of the same learning have in common …
ALIKE = 5e-3  # … within rounding, of bfloat16 too
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
    device: torch.device
    peaks: Peaks | None = None
    rungs: tuple[Rung, ...] = ()

    @property
    def best(self) -> Rung:
        """What the next rung is held against: the last that was surely faster."""
        return self.path[-1]

    @property
    def newest(self) -> Rung:
        """The last one tried."""
        return self.rungs[-1]

    @property
    def path(self) -> list[Rung]:
        """The first rung, and those that were surely faster than all below."""
        return [self.rungs[0], *(r for r in self.rungs if r.faster and not r.elsewhere)]

    @property
    def gain(self) -> Estimate | None:
        """Time to the loss on the first rung ÷ on the best; None if one of them has none."""
        if self.rungs[0].seconds is None:
            return None
        value = low = high = 1.0
        for ratio in (rung.ratio for rung in self.path if rung.ratio):
            value, low, high = value / ratio.value, low / ratio.high, high / ratio.low
        return Estimate(value, low, high, "×")

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
            There is a rung of that name already.
        """
        self._check_new(name)
        way = (self.best.way if self.rungs else Way(self.make)).changed(change, loop)
        try:
            with _threads_kept():
                return self._with(self._measured(name, way))
        except KitError as refusal:
            return self._with(Rung(name, way, UNKNOWN, absent=str(refusal)))

    def observed(self, name: str, history: History) -> TrainingLadder:
        """The ladder with a rung that was trained elsewhere with the same losses: by processes.

        It did not take turns with the best rung, which is timed right after instead; and the next
        rungs cannot take turns with it, so they are held against the best one still.
        """
        self._check_new(name)
        best, step = self.best, history.pace
        with _threads_kept():
            turn = best.way.turn(best.way.start(self.workload))
            own = measure(turn, budget_s=self.budget_s / 2, device=self.device).median
        ratio = Estimate(step.value / own.value, step.low / own.high, step.high / own.low, "×")
        rung = Rung(name, best.way, scaled(best.step, ratio), best.steps, against=best.name)
        return self._with(replace(rung, ratio=ratio, elsewhere=True))

    def _check_new(self, name: str) -> None:
        if name in {rung.name for rung in self.rungs}:
            raise BadValue(f"name={name!r}: there is such a rung; each needs its own.")

    def _with(self, rung: Rung) -> TrainingLadder:
        return replace(self, rungs=(*self.rungs, rung))

    def _measured(self, name: str, way: Way) -> Rung:
        steps = way.start(self.workload)
        turn, started = way.turn(steps), time.perf_counter()
        losses = [float(next(steps))]
        first_s = time.perf_counter() - started
        losses += map(float, islice(steps, FIRST - 1))
        step, timed = self._timed(name, turn)
        rung = Rung(
            name,
            way,
            step,
            self._steps(way, losses),
            self._wait_s(way, first_s - step.value),
            peak_bytes(turn, self.device),
            way.share(step.value, self.workload, self.peaks),
            tuple(losses),
        )
        if timed is None:
            return rung
        ratio = to_the_loss(timed.ratio(), rung, self.best)
        return replace(rung, against=self.best.name, ratio=ratio, noise_floor=timed.noise_floor)

    def _timed(self, name: str, turn: Call) -> tuple[Estimate, Comparison | None]:
        """Seconds of a step: in turns with the best rung's, or alone if it is the first."""
        if not self.rungs:
            return measure(turn, budget_s=self.budget_s / 2, device=self.device).median, None
        best = self.best
        turns = {best.name: best.way.turn(best.way.start(self.workload)), name: turn}
        timed = compare(turns, varied="work", budget_s=self.budget_s, device=self.device)
        return scaled(best.step, timed.ratio()), timed

    def _wait_s(self, way: Way, first_s: float) -> float:
        """For the compiler: what the first step took beyond the others, or as on the best rung."""
        best = self.best if self.rungs else None
        if way.options.get("compile") and not (best and best.way.options.get("compile")):
            return first_s
        return best.compile_s if best else 0.0

    def _steps(self, way: Way, losses: list[float]) -> int | None:
        """To the loss: those of a rung below that learns as this one does, or counted."""
        for rung in self.rungs:
            if _alike(way, losses, rung):
                return rung.steps
        return way.steps_to(self.target_loss, self.workload, self.most_steps, self.evaluate_every)

    def __repr__(self) -> str:
        told = f"{words(self.gain.value, '×')} in all" if self.gain else "no time to compare"
        return f"{len(self.rungs)} rungs, the best {self.best.name!r}: {told}"

    def table(self) -> Table:
        """What people see: a row per rung."""
        path = " → ".join(rung.name for rung in self.path)
        caption = (
            f"{self.make()!r} on {self.workload.name!r}, to a validation loss of "
            f"{self.target_loss:g}, on {self.device}. Each rung is the best below it with one "
            f"change, timed in turns with it; the best were {path}. One training each: "
            f"another seed may need some more steps or fewer. Memory: of a step, beyond weights "
            f"and optimizer."
        )
        return Table(HEADER, [rung.row() for rung in self.rungs], caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers of each rung."""
        return {
            "workload": self.workload.name,
            "model": repr(self.make()),
            "target_loss": self.target_loss,
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
    budget_s: float = 1.0,
    peaks: Peaks | None = None,
    **options: Any,
) -> TrainingLadder:
    """A ladder with its first rung; `TrainingLadder.then` adds the next.

    Parameters
    ----------
    make
        Makes a fresh model, always the same.
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
        Steps between looks at the validation loss; they are not counted in the time.
    budget_s
        Seconds for timing a rung in turns with the best below it.
    peaks
        From `kit.peaks`, for the share of the machine's limit.
    options
        Of the first rung, as for `kit.train`.

    Explained in lesson 08.
    """
    check_pair("kit.training_ladder", make, workload, MAKER)
    device = device_of(make())
    bare = TrainingLadder(
        workload, make, target_loss, most_steps, evaluate_every, budget_s, device, peaks
    )
    return bare.then(name, loop, **options)


def _alike(way: Way, losses: list[float], rung: Rung) -> bool:
    """Whether it learns as the rung does, and only the speed can differ."""
    if way.ending != rung.way.ending or len(losses) != len(rung.losses):
        return False
    pairs = zip(losses, rung.losses, strict=True)
    return all(abs(a - b) <= ALIKE * abs(b) for a, b in pairs)


@contextmanager
def _threads_kept() -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
