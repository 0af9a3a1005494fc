"""Predictions in turns with a training: on a machine of known speed, and in a real training."""

import math
import random
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

import kit
from kit.core.errors import BadValue, NotEnoughSamples
from kit.core.statistics import mean_of_stretches, quotient
from kit.costs.prediction_turns import PredictionTurns
from kit.measurement import Stopwatch
from kit.training import History
from kit.training.hooks import StepInfo

STEP, ONE, OF_BATCH = 0.022, 0.0006, 0.5  # seconds at full speed; per prediction in a batch ÷ alone
TRUE = 500 * STEP / ONE


class Machine:
    """Its clock runs only while it works; its pace changes in steps, each for some seconds."""

    def __init__(self, seed, paces=(1.0, 1.4, 1.9), lasts=(1.0, 5.0)):
        self.random, self.now, self.until = random.Random(seed), 0.0, 0.0
        self.paces, self.lasts, self.pace = paces, lasts, 1.0
        self.clock_started = 0.0

    def work(self, seconds):
        if self.now >= self.until:
            self.pace = self.random.choice(self.paces)
            self.until = self.now + self.random.uniform(*self.lasts)
        self.now += seconds * self.pace * self.random.lognormvariate(0, 0.05)

    def predicts(self, n):
        cost = ONE if n == 1 else n * ONE * OF_BATCH
        return lambda: self.work(cost)

    @property
    def watch(self):
        return Stopwatch(clock=lambda: self.now, synchronise=lambda device: None)

    def trains(self, hook=lambda info: None, steps=500):
        """A training's history, as the loop of `kit.train` makes it."""
        reads, done = [], [0]
        started = [self.now]

        def read(step):
            if step > done[0]:
                reads.append((step - done[0], self.now - started[0]))
                done[0], started[0] = step, self.now

        @contextmanager
        def pause():
            read(step)
            yield
            started[0] = self.now

        model = torch.nn.Identity()
        for step in range(1, steps + 1):
            self.work(STEP)
            hook(StepInfo(step, model, None, None, None, None, steps, pause))
            if step - done[0] >= 5:  # the loop's own looks
                read(step)
        read(steps)
        return history(reads)


def history(reads):
    steps, seconds = (sum(each) for each in zip(*reads, strict=True))
    names = dict(batch_size=32, lr=0.1, steps_per_epoch=10, seed=0, workload="simulated")
    return History(
        (1.0,) * steps, (), seconds, **names, device="cpu", threads=1, reads=tuple(reads)
    )


def in_turns(seed, sizes=(1, 32), **options):
    machine = Machine(seed)
    turns = PredictionTurns(
        machine.predicts, sizes, budget_s=0.5, stopwatch=machine.watch, **options
    )
    return turns.of(machine.trains(turns))


def before_and_after(seed):
    """The same ratio with all predictions at the two ends of the training."""
    machine, times = Machine(seed), []
    call, watch = machine.predicts(1), machine.watch
    times += [watch.time(call) for _ in range(400)]
    trained = machine.trains()
    times += [watch.time(call) for _ in range(400)]
    return quotient(trained.train_time, mean_of_stretches(times, unit="s"))


@pytest.fixture(scope="module")
def simulated():
    return [in_turns(seed) for seed in range(40)]


def covers(estimate, truth):
    return estimate.low <= truth <= estimate.high


def width(estimate):
    return math.log(estimate.high / max(estimate.low, 1e-9))


def test_turns_find_the_ratio_on_a_machine_that_changes_its_pace(simulated):
    ratios = [found.whole_run_time_ratio for found in simulated]
    assert sum(covers(ratio, TRUE) for ratio in ratios) >= 36
    assert max(abs(ratio.value / TRUE - 1) for ratio in ratios) < 0.1
    # Before and after: the pace of the training is another one, so it misses, or is wide.
    ends = [before_and_after(seed) for seed in range(40)]
    assert max(abs(ratio.value / TRUE - 1) for ratio in ends) > 0.3
    assert np.median([width(ratio) for ratio in ratios]) < np.median([width(e) for e in ends]) / 4


def test_a_batch_size_is_chosen_by_turns_that_do_not_measure_it(simulated):
    ratios = [found.batched_cost_ratio for found in simulated]
    assert sum(covers(ratio, OF_BATCH) for ratio in ratios) >= 36
    assert max(abs(ratio.value / OF_BATCH - 1) for ratio in ratios) < 0.1
    # Ten sizes that are all alike: the luckiest one is no cheaper than the others.
    alike = [in_turns(seed, (1, *range(8, 17))).batched_cost_ratio for seed in range(12)]
    assert np.mean([each.value for each in alike]) == pytest.approx(OF_BATCH, rel=0.005)


@pytest.mark.parametrize("paces", [(1.0,), (1.0, 1.9)])
@pytest.mark.parametrize(
    ("slow", "doubted"),
    [((3.0, 2.0), False), ((3.0, 2.0, *[1.5] * 4), True), ((3.0, 2.0, *[1.5] * 12), True)],
)
def test_a_warm_up_as_short_as_a_turn_is_doubted_only_if_the_first_turn_was_slow(
    slow, doubted, paces
):
    """Ten calls do not fit into a turn, so only two of them warm up."""
    machine = Machine(0, paces)
    factors = iter(slow)
    predicts = lambda n: lambda: machine.work(0.005 * next(factors, 1.0))  # noqa: E731
    turns = PredictionTurns(predicts, budget_s=0.5, stopwatch=machine.watch)
    found = turns.of(machine.trains(turns))
    assert not turns.warm[1].steady
    assert any("had not settled" in doubt for doubt in found[1].doubts) == doubted


def test_a_training_that_was_resumed_has_turns_of_its_own():
    machine = Machine(0, paces=(1.0,))
    turns = PredictionTurns(machine.predicts, budget_s=0.5, stopwatch=machine.watch)
    machine.trains(turns)
    assert len(turns.ends) > 2
    turns(StepInfo(turns.every, torch.nn.Identity(), None, None, None, None, turns.ends[-1]))
    assert turns.ends == [turns.every]


def test_a_turn_that_was_interrupted_does_not_count():
    machine, stopped = Machine(0), []

    def predicts(n):
        def call():
            if stopped and n == 32:  # after the timings of one example
                raise KeyboardInterrupt
            machine.predicts(n)()

        return call

    turns = PredictionTurns(predicts, (1, 32), budget_s=0.5, stopwatch=machine.watch)

    def interrupted_at_last(info):
        stopped.extend([True] * (info.step == info.total))
        with suppress(KeyboardInterrupt):
            turns(info)

    found = turns.of(machine.trains(interrupted_at_last, steps=100))
    assert [steps for steps, _ in found.stretches] == [2] * 49
    assert not any(len(found[n].times_s) % 49 for n in (1, 32))
    assert found.batched_cost_ratio.value == pytest.approx(OF_BATCH, rel=0.1)


def test_a_single_turn_has_ratios_without_an_interval():
    machine = Machine(0)
    turns = PredictionTurns(machine.predicts, (1, 32), budget_s=0.5, stopwatch=machine.watch)
    found = turns.of(machine.trains(turns, steps=1))
    assert found.batched_cost_ratio.high == found.whole_run_time_ratio.high == math.inf
    assert "interval unknown" in repr(found)


def test_the_predictions_are_no_time_of_the_training():
    machine = Machine(0, paces=(1.0,))
    turns = PredictionTurns(machine.predicts, (1, 64), budget_s=20.0, stopwatch=machine.watch)
    trained = machine.trains(turns)
    assert machine.now > 40 and trained.train_s == pytest.approx(500 * STEP, rel=0.02)
    found = turns.of(trained)
    assert sum(steps for steps, _ in found.stretches) == found.steps == 500
    assert sum(seconds for _, seconds in found.stretches) == pytest.approx(trained.train_s)


@pytest.fixture(scope="module")
def real():
    work, modes = kit.workloads.vision(), []
    model = work.model("mlp")

    def predicts(n):
        inputs = work.example(n)[0]

        def call():
            modes.append(model.training)
            return kit.predict(model, inputs)

        return call

    turns = PredictionTurns(predicts, (1, 16), budget_s=0.05, turns=10)
    trained = kit.train(model, work, steps=23, live=False, evaluate_every=9, after_step=turns)
    return turns, trained, modes, model


def test_a_real_training_in_turns(real):
    turns, trained, modes, _model = real
    found = turns.of(trained)
    assert [steps for steps, _ in found.stretches] == [2] * 11  # the last step is in no turn
    assert [at for at, _ in trained.scores] == [0, 9, 18, 23]  # a pause hides no score
    assert sum(seconds for _, seconds in found.stretches) < trained.train_s
    assert not any(modes)  # no call has to change modes, which a deployed model does not do
    ratio = found.whole_run_time_ratio
    assert ratio.low < ratio.value < ratio.high
    record = found.to_dict()
    assert record["steps"] == 23 and len(record["prediction_s"]["1"]) == 11
    rows = found.table().rows
    assert [row[0] for row in rows] == ["1", "16"]
    assert ("a larger one may take less" in found.table().caption) == (found.best == 16)


def test_a_pause_is_no_training_time(monkeypatch):
    from kit.training import loop_state

    later = [0.0]
    clock = loop_state.time.perf_counter
    monkeypatch.setattr(loop_state.time, "perf_counter", lambda: clock() + later[0])

    def long_pause(info):
        with info.pause():
            later[0] += 1_000

    work = kit.workloads.vision()
    trained = kit.train(work.model("mlp"), work, steps=3, live=False, after_step=long_pause)
    assert later[0] == 3_000 and trained.train_s < 1_000
    assert sum(steps for steps, _ in trained.reads) == 3


def test_the_predictions_are_no_energy_of_the_training(monkeypatch):
    machine = Machine(0, paces=(1.0,))
    backend = kit.devices.backends.backend_of("cpu")
    joules = [(lambda: 10 * machine.now, 1e9)]  # a processor of ten watts
    monkeypatch.setattr(type(backend), "energy_counters", lambda self: joules)
    turns = PredictionTurns(machine.predicts, (1, 64), budget_s=5.0, stopwatch=machine.watch)
    with kit.devices.metered() as meter:
        trained = machine.trains(turns)
    assert meter.joules > 1.4 * 10 * trained.train_s
    assert turns.without(meter) == pytest.approx(10 * trained.train_s, rel=0.01)
    assert turns.without(kit.devices.Meter()) is None
    joules.clear()  # no counter can be read any more: what the predictions took is unknown
    machine.trains(turns)
    assert turns.without(meter) is None


def test_processes_that_train_together_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadValue, match="in 2 processes that train together: needs"):
        PredictionTurns(lambda n: lambda: None)


def test_what_is_refused(real):
    turns, trained, *_ = real
    with pytest.raises(BadValue, match="needs 1"):
        PredictionTurns(lambda n: lambda: None, (8,))
    with pytest.raises(BadValue, match="turns=0"):
        PredictionTurns(lambda n: lambda: None, turns=0)
    with pytest.raises(BadValue, match="needs the history of a training with it"):
        PredictionTurns(lambda n: lambda: None).of(trained)
    for other in (history([(7, 0.1), (16, 0.1)]), replace(trained, reads=())):
        with pytest.raises(BadValue, match="another training"):
            turns.of(other)
    machine = Machine(0)
    none = PredictionTurns(machine.predicts, turns=1, stopwatch=machine.watch)
    none(StepInfo(1, torch.nn.Identity(), None, None, None, None, 10))
    with pytest.raises(NotEnoughSamples, match="no turn"):
        none.of(history([(9, 0.1)]))
