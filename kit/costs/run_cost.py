"""What a whole training run costs, beside one prediction of the trained model.

FLOPs and bytes are counted. Seconds, score and (where a counter can be read) joules are measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from kit.core.checks import check_share
from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.core.units import words
from kit.costs.step_cost import StepCost, peak_share
from kit.data.arguments import described
from kit.devices import Meter, metered
from kit.inference import Score
from kit.measurement import Measurement, Peaks
from kit.plots import Picture, Table, with_doubts
from kit.techniques import TECHNIQUES
from kit.training import History

CALL = "kit.run_cost(history, score, work.target, step_cost, latency)"
# What run_cost needs, and the call that gives it.
KINDS = {
    History: "kit.train",
    Score: "kit.evaluate",
    StepCost: "kit.step_cost",
    Measurement: "kit.measure",
}


@dataclass(frozen=True)
class RunCost(Result):
    """What it cost to train a model, and what it costs to use it."""

    history: History
    score: Score  # on the test split, of the deployed form of the model
    target: float
    step_cost: StepCost  # on batches of the training's size
    latency: Measurement  # of predicting one example
    technique: str = "none"
    training_energy: Meter = field(default_factory=Meter)
    prediction_energy: Meter = field(default_factory=Meter)  # of predicting one batch
    peaks: Peaks | None = None  # the best rates of this machine

    @property
    def reached(self) -> bool:
        """Whether the score on the test split is at least the target."""
        return self.score.mean.value >= self.target  # the measured score, not its interval

    @property
    def seconds_to_target(self) -> float | None:
        """Training time until the validation score reached the target. None: it did not."""
        return self.history.seconds_to(self.target)

    @property
    def training_flops(self) -> int:
        """FLOPs of all training steps."""
        return self.history.steps * self.step_cost.count.step_flops

    @property
    def training_moved_bytes(self) -> int:
        """Least bytes moved by all training steps."""
        return self.history.steps * self.step_cost.count.step_moved_bytes

    @property
    def example_flops(self) -> float:
        """FLOPs of predicting one example."""
        return self.step_cost.count.forward_flops / self.step_cost.batch_size

    @property
    def example_s(self) -> Estimate:
        """Seconds per example when a whole batch is predicted in one call."""
        return self.step_cost.parts["predict"].median / self.step_cost.batch_size

    @property
    def whole_run_time_ratio(self) -> Estimate:
        """Time of the whole training ÷ time of predicting one example alone."""
        return (self.history.train_s / self.latency.median).with_unit("×")

    @property
    def whole_run_flops_ratio(self) -> float | None:
        """FLOPs of the whole training ÷ FLOPs of predicting one example.

        After this many predictions, inference has cost as many FLOPs as the training. None: no
        operation of a prediction has a formula.
        """
        return self.training_flops / self.example_flops if self.example_flops else None

    @property
    def step_share(self) -> float | None:
        """The share of the machine's best matmul rate in a training step. None: unknown."""
        flops, precision = self.step_cost.count.step_flops, self.history.precision
        return peak_share(self.peaks, flops, self.step_cost.step_s(), precision)

    @property
    def prediction_share(self) -> float | None:
        """The same share in a prediction of a batch."""
        # A technique may compute in another precision than the training did, such as bfloat16.
        form = TECHNIQUES.get(self.technique)
        computes = form.precision if form and form.precision != "fp32" else self.history.precision
        flops, seconds = (
            self.step_cost.count.forward_flops,
            self.step_cost.parts["predict"].median_s,
        )
        return peak_share(self.peaks, flops, seconds, computes)

    def __repr__(self) -> str:
        h, verb = self.history, "reached" if self.reached else "missed"
        target = f"target {words(self.target, '%')}: {verb}"
        return (
            f"{h.workload}: trained in {words(h.train_s, 's')} to {self.score.mean} "
            f"{self.score.measure} ({target}); one prediction takes "
            f"{self.latency.median}; a step takes {self.step_cost.time_ratio} the time of a "
            f"prediction of the same batch"
        )

    def table(self) -> Table:
        """The whole training, one step and one prediction, side by side."""
        h, b, count = self.history, self.step_cost, self.step_cost.count
        joules = self.prediction_energy.joules
        rows = [
            ("time", words(h.train_s, "s"), words(b.step_s(), "s"),
             words(b.parts["predict"].median_s, "s")),
            ("work", *(words(n, "FLOP") for n in (self.training_flops, count.step_flops)),
             words(count.forward_flops, "FLOP")),
            ("least bytes moved", words(self.training_moved_bytes, "B"),
             words(count.step_moved_bytes, "B"),
             words(b.inference_count.phases["predict"].moved_bytes, "B")),
            ("memory", *[words(count.training_bytes, "B")] * 2,
             words(b.inference_count.inference_bytes, "B")),
            ("share of the best matmul rate", "", words(self.step_share, "%"),
             words(self.prediction_share, "%")),
            ("energy", words(self.training_energy.joules, "J"), "—", words(joules, "J")),
        ]  # fmt: skip
        verb = "reached" if self.reached else "missed"
        to_target = self.seconds_to_target
        when = f" (validation reached it after {words(to_target, 's')})" if to_target else ""
        of = self.training_energy.of
        energy = f"Energy of the {of}." if of else "No energy counter can be read here."
        caption = (
            f"{count.model} on {h.workload}, {h.precision}, technique {self.technique}, batches "
            f"of {b.batch_size}, {self.latency.conditions}. {h.steps:,} steps, then "
            f"{self.score.mean} {self.score.measure} on {self.score.n:,} test examples: target "
            f"{words(self.target, '%')} {verb}{when}. A step takes {b.time_ratio} the time of a "
            f"prediction of the same batch. The whole training takes {self.whole_run_time_ratio} "
            f"the time of predicting one example alone ({self.latency.median}). {self._two_times}"
            f"{energy}{self.peaks.renewals if self.peaks else ''}"
        )
        header = ("", "the whole training", "one step", "one prediction")
        return Table(header, rows, *with_doubts(caption, self.doubts))

    @property
    def _two_times(self) -> str:
        """Why the table and its caption have two times of one prediction; "" if they have not."""
        if self.step_cost.batch_size > 1:
            return ""
        in_turns = self.step_cost.parts["predict"].median
        return (
            f"With batches of one, both are the same prediction: {in_turns} in turns with training "
            f"steps, as in the table, and {self.latency.median} many times in a row. "
        )

    @property
    def doubts(self) -> list[str]:
        """What a reader should know before believing the numbers, the most important first."""
        return list(dict.fromkeys([*self.step_cost.doubts, *self.latency.doubts]))

    def to_dict(self) -> dict[str, Any]:
        """One row of a table of experiments: the costs of both, their ratios, the score."""
        h, b, count = self.history, self.step_cost, self.step_cost.count
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
                "moved_bytes": b.inference_count.phases["predict"].moved_bytes,
                "memory_bytes": b.inference_count.inference_bytes,
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
                "step_share": self.step_share,  # first: it may renew the peaks
                "prediction_share": self.prediction_share,
                "matmul_flops_per_s": self.peaks and self.peaks.newest.matmul_flops_per_s,
                "bandwidth_bytes_per_s": self.peaks and self.peaks.newest.bandwidth_bytes_per_s,
            },
            "doubts": self.doubts,
            "conditions": str(self.latency.conditions),
        }

    def plot(self) -> Picture:
        """A bar for a prediction above a bar for a training step, divided into phases."""
        return self.step_cost.plot()


def run_cost(
    history: History,
    score: Score | None = None,
    target: float | None = None,
    step_cost: StepCost | None = None,
    latency: Measurement | None = None,
    *,
    technique: str = "none",
    training_energy: Meter | None = None,
    prediction_energy: Meter | None = None,
    peaks: Peaks | None = None,
) -> RunCost:
    """What one model's training cost, beside what its use costs, from your measurements.

    Parameters
    ----------
    history
        The training, from `kit.train`.
    score
        The score of the deployed model on the test split, from `kit.evaluate`.
    target
        The score that the model should reach, from 0 to 1.
    step_cost
        From `kit.step_cost`, on batches of the training's size.
    latency
        The time of predicting one example, from `kit.measure`.
    technique
        How the model is deployed: the name of one of `kit.techniques`.
    training_energy, prediction_energy
        From `kit.devices.metered` and `energy_per_call`. None: not read.
    peaks
        From `kit.peaks` on the same device. None: the result shows no limit.

    Raises
    ------
    BadValue
        If an argument is of the wrong kind, or of another model, batch size or split.

    Examples
    --------
    >>> import kit
    >>> work = kit.workloads.vision()
    >>> model, (one, _) = work.model("mlp"), work.example(1)
    >>> history = kit.train(model, work, steps=10, live=False)
    >>> step_cost = kit.step_cost(model, work, batch_size=32, budget_s=0.05)
    >>> latency = kit.measure(lambda: kit.predict(model, one), budget_s=0.05)
    >>> score = kit.evaluate(model, work)
    >>> cost = run_cost(history, score, work.target, step_cost, latency)
    >>> cost.training_flops == 10 * step_cost.count.step_flops
    True

    Explained in lesson 02.
    """
    given = {"history": history, "score": score, "step_cost": step_cost, "latency": latency}
    for (name, value), kind in zip(given.items(), KINDS, strict=True):
        if not isinstance(value, kind):
            needs = f"{name} is {described(value)}; needs the result of {KINDS[kind]}"
            raise BadValue(f"kit.run_cost: {needs}: {CALL}.")
    assert score is not None and step_cost is not None and latency is not None
    target = check_share("target", target, "a score", hint=f"Use {CALL}.")
    _check_same_model(history, score, step_cost)
    read = (training_energy or Meter(), prediction_energy or Meter())
    return RunCost(history, score, target, step_cost, latency, technique, *read, peaks)


def _check_same_model(history: History, score: Score, cost: StepCost) -> None:
    """Refuse a score or a step cost that belongs to another training."""
    if score.split != "test":
        raise BadValue(
            f"the score is of the split {score.split!r}; needs the score on 'test': "
            f"kit.evaluate(model, work)."
        )
    if history.batch_size != cost.batch_size:
        raise BadValue(
            f"the training had batch_size={history.batch_size}, the step cost {cost.batch_size}; "
            f"needs the same: kit.step_cost(model, work, batch_size={history.batch_size})."
        )
    trained = history.state.get("settings", {}).get("model")
    if trained not in (None, cost.count.model):
        raise BadValue(
            f"the training was of {trained}, the step cost is of {cost.count.model}; needs the "
            f"same model: kit.step_cost(model, work) with the model that was trained."
        )


def energy_per_call(
    call: Callable[[], Any], *, device: torch.device | str = "cpu", budget_s: float = 1.0
) -> Meter:
    """Joules of one call, averaged over many. None inside if no energy counter can be read."""
    with metered(device) as probe:
        call()
    if probe.joules is None:
        return probe
    # Counters update every millisecond at most, so one call is too short.
    calls, end = 0, time.perf_counter() + budget_s
    with metered(device) as meter:
        while not calls or time.perf_counter() < end:  # at least one, on a busy machine too
            call()
            calls += 1
    return Meter(meter.of, None if meter.joules is None else meter.joules / calls)
