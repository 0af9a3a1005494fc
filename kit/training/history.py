"""What happened while a model was trained."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from kit.core.results import Result
from kit.core.statistics import Estimate, mean_of_stretches, median
from kit.core.units import plural, words
from kit.inference import Score
from kit.plots import Picture, Table, lines


@dataclass(frozen=True)
class History(Result):
    """What happened while a model was trained."""

    losses: tuple[float, ...] = field(repr=False)  # one per step
    scores: tuple[tuple[int, Score], ...] = field(repr=False)  # (step, score on validation)
    train_s: float  # seconds in training steps only, without validation and drawing
    batch_size: int
    lr: float
    steps_per_epoch: int
    seed: int
    workload: str
    device: str
    threads: int  # of the CPU, in this process: the pace depends on them
    precision: str = "fp32"
    interrupted: bool = False
    stopped: str = ""  # why it ended before its last step: "target reached", "budget spent" …
    compile_s: float = 0.0  # the wait for a compiler; no part of `train_s`
    # Raw times: (steps, their seconds) between two looks at the device, in order.
    reads: tuple[tuple[int, float], ...] = field(default=(), repr=False)
    state: dict[str, Any] = field(default_factory=dict, repr=False)  # for `kit.train(resume=…)`

    @property
    def steps(self) -> int:
        """The number of updates of the weights."""
        return len(self.losses)

    @property
    def step_s(self) -> float | None:
        """Mean seconds per step."""
        # None, not 0: without a step there is no pace. After a resume, both count from the start.
        return self.train_s / self.steps if self.steps and self.train_s else None

    @property
    def pace(self) -> Estimate:
        """Median seconds per step, over the looks of the loop at its losses; with its interval."""
        # A median: one pause of the machine would move a mean.
        each = [seconds / steps for steps, seconds in self.reads if steps]
        return median(each, "s") if each else Estimate(math.nan, math.nan, math.nan, "s")

    @property
    def train_time(self) -> Estimate:
        """Seconds in training steps, with the interval of the mean step in this run.

        The interval says where the time would settle if the steps went on as in this run. Another
        run can differ by more. With fewer than five raw times it is unknown.
        """
        # A mean, not a median: a training pays for its slow steps, too. After a resume, the raw
        # times are those of the later part alone.
        if not self.reads:
            return Estimate(self.train_s, 0.0, math.inf, "s")
        steps, seconds = zip(*self.reads, strict=True)
        step = mean_of_stretches(seconds, steps)
        low, high = (self.train_s * end / step.value for end in (step.low, step.high))
        return Estimate(self.train_s, low, high, "s")

    @property
    def examples_per_s(self) -> float | None:
        """Training throughput."""
        # `batch_size` is that of all processes together, and so is the result.
        return self.batch_size / self.step_s if self.step_s else None

    def epochs(self) -> list[float]:
        """Mean training loss of each complete epoch."""
        n = self.steps_per_epoch
        # An incomplete last epoch is left out: its mean would be noisier than the others.
        starts = range(0, self.steps - n + 1, n)
        return [sum(self.losses[i : i + n]) / n for i in starts]

    def __repr__(self) -> str:
        last = f", training loss {self.losses[-1]:.4f}" if self.losses else ""
        score = f", {self.scores[-1][1].mean} {self.scores[-1][1].measure}" if self.scores else ""
        return f"{self.steps:,} steps in {words(self.train_s, 's')}{self._end}{last}{score}"

    @property
    def _end(self) -> str:
        """Why it ended before its last step, in brackets; empty if it did not."""
        why = "interrupted" if self.interrupted else self.stopped
        return f" ({why})" if why else ""

    def steps_to(self, target: float) -> int | None:
        """The first step at which the validation score reached the target; None if it never did."""
        # Scores are some steps apart: the target may have been reached earlier, between two.
        return next((at for at, score in self.scores if score.mean.value >= target), None)

    def seconds_to(self, target: float) -> float | None:
        """Training time to that step, at the mean pace; None if the target was not reached."""
        return self._seconds(self.steps_to(target))

    def steps_to_loss(self, target: float) -> int | None:
        """The first step at which the validation loss fell to the target; None if it never did."""
        return next((at for at, score in self.scores if score.loss <= target), None)

    def seconds_to_loss(self, target: float) -> float | None:
        """Training time to that step, at the mean pace; None if the target was not reached."""
        return self._seconds(self.steps_to_loss(target))

    def _seconds(self, steps: int | None) -> float | None:
        """The time of this number of steps."""
        if steps == 0:
            return 0.0  # the untrained model was good enough
        return None if steps is None or self.step_s is None else steps * self.step_s

    def table(self) -> Table:
        """The validation scores, from the first to the last."""
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
            f"{self.device}, {self.precision}, {plural(self.threads, 'thread')}."
        )
        header = ("step", "epoch", "validation loss", f"validation: {measure}")
        return Table(header, rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw numbers; the optimizer's state stays in the checkpoint."""
        return {
            # float32 has about seven digits: more would only make the file longer.
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
        """Training loss of each step, and validation loss, over the steps."""
        # Do not compare the two curves too closely: a training loss is that of one batch, with
        # dropout if there is any; validation uses the complete split, without dropout.
        series: dict[str, Any] = {"training batch": (list(range(1, self.steps + 1)), self.losses)}
        caption = f"Training loss over {self.steps:,} steps"
        if self.losses:
            caption += f", from {self.losses[0]:.3f} to {self.losses[-1]:.3f}"
        if self.scores:
            series["validation"] = ([s for s, _ in self.scores], [x.loss for _, x in self.scores])
            caption += f"; validation loss at the end {self.scores[-1][1].loss:.3f}"
        return lines(series, "step", "loss", caption=caption + ".", marks=False)
