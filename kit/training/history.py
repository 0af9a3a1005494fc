"""What happened while a model was trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from kit.core.results import Result
from kit.core.statistics import Estimate, median
from kit.core.units import words
from kit.inference import Score
from kit.plots import Picture, Table, lines


@dataclass(frozen=True)
class History(Result):
    """What happened while a model was trained."""

    losses: tuple[float, ...] = field(repr=False)  # one per step
    scores: tuple[tuple[int, Score], ...] = field(repr=False)  # (step, score on validation)
    train_s: float  # in training steps alone, validation and drawing apart
    batch_size: int
    lr: float
    steps_per_epoch: int
    seed: int
    workload: str
    device: str
    threads: int
    precision: str = "fp32"
    interrupted: bool = False
    stopped: str = ""  # why, if before the last step: "target reached", "budget spent" …
    compile_s: float = 0.0  # the wait for the compiler, before the first step
    reads: tuple[tuple[int, float], ...] = field(default=(), repr=False)  # (steps, their seconds)
    state: dict[str, Any] = field(default_factory=dict, repr=False)  # what resuming needs

    @property
    def steps(self) -> int:
        """How many times the weights were updated."""
        return len(self.losses)

    @property
    def step_s(self) -> float | None:
        """Mean seconds per step."""
        return self.train_s / self.steps if self.steps and self.train_s else None

    @property
    def pace(self) -> Estimate:
        """Median seconds per step, each time that the loop looked up; with its interval."""
        each = [seconds / steps for steps, seconds in self.reads if steps]
        return median(each, "s") if each else Estimate(math.nan, math.nan, math.nan, "s")

    @property
    def examples_per_s(self) -> float | None:
        """Training throughput."""
        return self.batch_size / self.step_s if self.step_s else None

    def epochs(self) -> list[float]:
        """Mean training loss of each whole epoch."""
        n = self.steps_per_epoch
        whole = range(0, self.steps - n + 1, n)
        return [sum(self.losses[i : i + n]) / n for i in whole]

    def __repr__(self) -> str:
        last = f", loss {self.losses[-1]:.4f}" if self.losses else ""
        score = f", {self.scores[-1][1].mean} {self.scores[-1][1].measure}" if self.scores else ""
        return f"{self.steps:,} steps in {words(self.train_s, 's')}{self._end}{last}{score}"

    @property
    def _end(self) -> str:
        """Why it ended, in brackets, if before its last step."""
        why = "interrupted" if self.interrupted else self.stopped
        return f" ({why})" if why else ""

    def steps_to(self, target: float) -> int | None:
        """The first step whose score on validation was at least the target; None if none was."""
        return next((at for at, score in self.scores if score.mean.value >= target), None)

    def seconds_to(self, target: float) -> float | None:
        """Training time until then, at the mean pace; None if the target was not reached."""
        return self._seconds(self.steps_to(target))

    def steps_to_loss(self, target: float) -> int | None:
        """The first step whose loss on validation was at most the target; None if none was."""
        return next((at for at, score in self.scores if score.loss <= target), None)

    def seconds_to_loss(self, target: float) -> float | None:
        """Training time until then, at the mean pace; None if the target was not reached."""
        return self._seconds(self.steps_to_loss(target))

    def _seconds(self, steps: int | None) -> float | None:
        """The time of so many steps."""
        if steps == 0:
            return 0.0  # it was that good before
        return None if steps is None or self.step_s is None else steps * self.step_s

    def table(self) -> Table:
        """What people see: the way from the first score to the last."""
        measure = self.scores[-1][1].measure if self.scores else "score"
        rows = [
            (
                f"{at:,}",
                words(at / self.steps_per_epoch),
                f"{score.loss:.4f}",
                repr(score.mean),
            )
            for at, score in self.scores
        ]
        caption = (
            f"{self.workload}: {self.steps:,} steps of {self.batch_size} examples"
            f"{self._end} in {words(self.train_s, 's')}, "
            f"{words(self.examples_per_s, 'examples/s')}; lr {self.lr:g}, seed {self.seed}, "
            f"{self.device}, {self.precision}, {self.threads} thread{'s' * (self.threads > 1)}."
        )
        header = ("step", "epoch", "validation loss", f"validation: {measure}")
        return Table(header, rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers; the weights' state stays in the checkpoint."""
        return {
            "losses": [round(loss, 6) for loss in self.losses],
            "scores": [{"step": at, **score.to_dict()} for at, score in self.scores],
            "train_s": self.train_s,
            "reads": [[steps, round(seconds, 6)] for steps, seconds in self.reads],
            "batch_size": self.batch_size,
            "lr": self.lr,
            "steps_per_epoch": self.steps_per_epoch,
            "seed": self.seed,
            "workload": self.workload,
            "device": self.device,
            "threads": self.threads,
            "precision": self.precision,
            "interrupted": self.interrupted,
            "stopped": self.stopped,
            "compile_s": self.compile_s,
        }

    def plot(self) -> Picture:
        """Loss over steps: each step's, and the validation's."""
        series: dict[str, Any] = {"training batch": (list(range(1, self.steps + 1)), self.losses)}
        caption = f"Training loss over {self.steps:,} steps"
        if self.losses:
            caption += f", from {self.losses[0]:.3f} to {self.losses[-1]:.3f}"
        if self.scores:
            series["validation"] = ([s for s, _ in self.scores], [x.loss for _, x in self.scores])
            caption += f"; validation loss at the end {self.scores[-1][1].loss:.3f}"
        return lines(series, "step", "loss", caption=caption + ".", marks=False)
