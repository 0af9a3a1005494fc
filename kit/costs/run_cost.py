"""The two halves of a model's bill: a whole training beside one prediction of what it made.

Counted (FLOPs, bytes) and measured (seconds, joules where a counter can be read, score).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from kit.core.checks import check_share
from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.costs.peak_share import peak_share
from kit.costs.step_cost import STEP, StepCost
from kit.data.arguments import described
from kit.devices import Meter, metered
from kit.inference import Score
from kit.measurement import Measurement, Peaks
from kit.plots import Picture, Table
from kit.techniques import SHELF
from kit.training import History

CALL = "kit.run_cost(history, score, work.target, bill, latency)"
KINDS = {
    History: "kit.train",
    Score: "kit.evaluate",
    StepCost: "kit.step_cost",
    Measurement: "kit.measure",
}


@dataclass(frozen=True)
class RunCost(Result):
    """What it took to train a model, and what it takes to use it."""

    history: History
    score: Score  # on test, of the model as it is served
    target: float
    bill: StepCost  # a step beside a prediction, both on a batch of the training's size
    latency: Measurement  # of a prediction of one example
    technique: str = "none"
    training_energy: Meter = field(default_factory=Meter)
    prediction_energy: Meter = field(default_factory=Meter)  # of one prediction of one batch
    peaks: Peaks | None = None  # what this machine could do at best

    @property
    def reached(self) -> bool:
        """Whether the score on the test split is at least the target."""
        return self.score.mean.value >= self.target

    @property
    def seconds_to_target(self) -> float | None:
        """Training time until the score on validation reached the target; None: it did not."""
        return self.history.seconds_to(self.target)

    @property
    def training_flops(self) -> int:
        """FLOPs of all the steps."""
        return self.history.steps * self.bill.count.step_flops

    @property
    def training_moved_bytes(self) -> int:
        """Least bytes moved by all the steps."""
        phases = self.bill.count.phases
        return self.history.steps * sum(phases[name].moved_bytes for name in STEP)

    @property
    def example_flops(self) -> float:
        """FLOPs of predicting one example."""
        return self.bill.count.forward_flops / self.bill.batch_size

    @property
    def example_s(self) -> Estimate:
        """Seconds per example when a batch is predicted at once."""
        return self.bill.parts["predict"].median / self.bill.batch_size

    @property
    def whole_run_time_ratio(self) -> Estimate:
        """Time of the whole training ÷ time of predicting one example alone."""
        return replace(self.history.train_s / self.latency.median, unit="×")

    @property
    def whole_run_flops_ratio(self) -> float | None:
        """FLOPs of the whole training ÷ FLOPs of predicting one example.

        Also how many predictions it takes until they have cost as much as the training. None: no
        operation of a prediction is counted.
        """
        return self.training_flops / self.example_flops if self.example_flops else None

    @property
    def step_share(self) -> float | None:
        """Share of the machine's best matmul rate that a training step reaches; None: unknown."""
        flops, precision = self.bill.count.step_flops, self.history.precision
        return peak_share(self.peaks, flops, self.bill.step_s(), precision)

    @property
    def prediction_share(self) -> float | None:
        """The same for a prediction of a batch."""
        form = SHELF.get(self.technique)
        computes = form.computes if form and form.computes != "fp32" else self.history.precision
        flops, seconds = self.bill.count.forward_flops, self.bill.parts["predict"].median_s
        return peak_share(self.peaks, flops, seconds, computes)

    def __repr__(self) -> str:
        h, verb = self.history, "reached" if self.reached else "missed"
        return (
            f"{h.workload}: trained in {words(h.train_s, 's')} to {self.score.mean} "
            f"{self.score.measure} ({verb} {words(self.target, '%')}); one prediction takes "
            f"{self.latency.median}; a step takes {self.bill.time_ratio} a prediction's time"
        )

    def table(self) -> Table:
        """What people see: the whole training, one step, one prediction."""
        h, b, count = self.history, self.bill, self.bill.count
        phases = count.phases
        moved = sum(phases[name].moved_bytes for name in STEP)
        joules = self.prediction_energy.joules
        rows = [
            ("time", words(h.train_s, "s"), words(b.step_s(), "s"), self._predict("s")),
            ("work", *(words(n, "FLOP") for n in (self.training_flops, count.step_flops)),
             words(count.forward_flops, "FLOP")),
            ("least bytes moved", *(words(n, "B") for n in (self.training_moved_bytes, moved)),
             words(b.used.phases["predict"].moved_bytes, "B")),
            ("memory", *[words(count.training_bytes, "B")] * 2, words(b.used.inference_bytes, "B")),
            ("share of the best matmul rate", "", words(self.step_share, "%"),
             words(self.prediction_share, "%")),
            ("energy", words(self.training_energy.joules, "J"), "—", words(joules, "J")),
        ]  # fmt: skip
        verb = "reached" if self.reached else "missed"
        to_target = self.seconds_to_target
        when = f" (validation reached it after {words(to_target, 's')})" if to_target else ""
        caption = (
            f"{count.model} on {h.workload}, {h.precision}, technique {self.technique}, batches "
            f"of {b.batch_size}, {self.latency.conditions}. {h.steps:,} steps, then "
            f"{self.score.mean} {self.score.measure} on {self.score.n:,} test examples: target "
            f"{words(self.target, '%')} {verb}{when}. A step takes {b.time_ratio} the time of a "
            f"prediction of the same batch, the whole training {self.whole_run_time_ratio} that "
            f"of one example alone ({self.latency.median}). {self._energy_told()}"
        )
        header = ("", "the whole training", "one step", "one prediction")
        return Table(header, rows, caption)

    def _predict(self, unit: str) -> str:
        return words(self.bill.parts["predict"].median_s, unit)

    def _energy_told(self) -> str:
        of = self.training_energy.of
        return f"Energy of the {of}." if of else "No energy counter can be read here."

    def to_dict(self) -> dict[str, Any]:
        """One row of a table of experiments: both bills, the ratios, the score."""
        h, b, count = self.history, self.bill, self.bill.count
        return {
            "workload": h.workload,
            "model": count.model,
            "device": h.device,
            "precision": h.precision,
            "technique": self.technique,
            "batch_size": b.batch_size,
            "seed": h.seed,
            "params": count.params,
            "score_share": self.score.mean.to_dict(),
            "score_measure": self.score.measure,
            "score_n": self.score.n,
            "untrained_score_share": h.scores[0][1].mean.value,
            "target_share": self.target,
            "reached": self.reached,
            "training": {
                "steps": h.steps,
                "seconds_s": h.train_s,
                "seconds_to_target_s": self.seconds_to_target,
                "step_s": b.step_s(),
                "flops": self.training_flops,
                "moved_bytes": self.training_moved_bytes,
                "memory_bytes": count.training_bytes,
                "energy_joules": self.training_energy.joules,
                "stopped": h.stopped,
            },
            "inference": {
                "one_example_s": self.latency.median.to_dict(),
                "batch_s": b.parts["predict"].median.to_dict(),
                "examples_per_s": b.batch_size / b.parts["predict"].median_s,
                "flops": count.forward_flops,
                "moved_bytes": b.used.phases["predict"].moved_bytes,
                "memory_bytes": b.used.inference_bytes,
                "energy_joules": self.prediction_energy.joules,
            },
            "ratio": {
                "step_time": b.time_ratio.to_dict(),
                "step_flops": b.flops_ratio,
                "step_moved_bytes": b.traffic_ratio,
                "memory": b.memory_ratio,
                "whole_run_time": self.whole_run_time_ratio.to_dict(),
                "whole_run_flops": self.whole_run_flops_ratio,
            },
            "limit": {
                "matmul_flops_per_s": self.peaks and self.peaks.matmul_flops_per_s,
                "bandwidth_bytes_per_s": self.peaks and self.peaks.bandwidth_bytes_per_s,
                "step_share": self.step_share,
                "prediction_share": self.prediction_share,
            },
            "doubts": list(dict.fromkeys([*self.latency.doubts, *b.parts["predict"].doubts])),
            "conditions": str(self.latency.conditions),
        }

    def plot(self) -> Picture:
        """A prediction's bar beside a step's, the step by phase."""
        return self.bill.plot()


def run_cost(
    history: History,
    score: Score | None = None,
    target: float | None = None,
    bill: StepCost | None = None,
    latency: Measurement | None = None,
    *,
    technique: str = "none",
    training_energy: Meter | None = None,
    prediction_energy: Meter | None = None,
    peaks: Peaks | None = None,
) -> RunCost:
    """Put what was measured of one model's training and use beside each other.

    Parameters
    ----------
    history
        Of the training, from `kit.train`.
    score
        Of the model as it is used, on the test split, from `kit.evaluate`.
    target
        The score that is wanted, a share.
    bill
        From `kit.step_cost`, on batches of the training's size.
    latency
        `kit.measure` of a prediction of one example.
    technique
        How it is run, in one word; see `kit.techniques`.
    training_energy, prediction_energy
        From `kit.devices.metered` and `energy_per_call`; None: not read.
    peaks
        From `kit.peaks` on the same device; None: no limit is shown.

    Raises
    ------
    BadValue
        Something of another kind, or that belongs to another model, batch size or split.
    """
    given = {"history": history, "score": score, "bill": bill, "latency": latency}
    for (name, value), kind in zip(given.items(), KINDS, strict=True):
        if not isinstance(value, kind):
            told = f"{name} is {described(value)}; needs what {KINDS[kind]} returned"
            raise BadValue(f"kit.run_cost: {told}: {CALL}.")
    assert score is not None and bill is not None and latency is not None
    target = check_share("target", target, "a score", hint=f"Use {CALL}.")
    _check_together(history, score, bill)
    read = (training_energy or Meter(), prediction_energy or Meter())
    return RunCost(history, score, target, bill, latency, technique, *read, peaks)


def _check_together(history: History, score: Score, bill: StepCost) -> None:
    """Refuse a score or a bill of something else than was trained."""
    if score.split != "test":
        told = f"the score is of the split {score.split!r}; needs that of 'test'"
        raise BadValue(f"{told}: kit.evaluate(model, work).")
    if history.batch_size != bill.batch_size:
        raise BadValue(
            f"the training had batch_size={history.batch_size}, the bill {bill.batch_size}; needs "
            f"the same: kit.step_cost(model, work, batch_size={history.batch_size})."
        )
    trained = history.state.get("settings", {}).get("model")
    if trained not in (None, bill.count.model):
        raise BadValue(
            f"the training was of {trained}, the bill is of {bill.count.model}; needs the same "
            f"model: kit.step_cost(model, work) of the one that was trained."
        )


def energy_per_call(
    call: Callable[[], Any], *, device: torch.device | str = "cpu", budget_s: float = 1.0
) -> Meter:
    """Joules of one call: many calls between two readings of the counter, if there is one."""
    with metered(device) as probe:
        call()
    if probe.joules is None:
        return probe
    calls, end = 0, time.perf_counter() + budget_s  # counters tick every millisecond or slower
    with metered(device) as meter:
        while time.perf_counter() < end:
            call()
            calls += 1
    return Meter(meter.of, None if meter.joules is None else meter.joules / calls)
