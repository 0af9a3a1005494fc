"""A ladder of ways to train: what is held against what, what counts, what it says."""

import math
from dataclasses import replace

import pytest
import torch

from kit import workloads
from kit.costs import training_ladder
from kit.costs.training_rungs import Rung, Way, to_the_loss
from kit.errors import BadValue
from kit.estimates import Estimate
from kit.limits import Peaks
from kit.models import MLP, MLPConfig
from kit.results import RECORD
from kit.training import train


def make() -> MLP:
    torch.manual_seed(0)
    return MLP(MLPConfig(hidden=16, layers=1))


@pytest.fixture(scope="module")
def work():
    return workloads.get("vision")


def start(work, **options):
    given = {"target_loss": 1.0, "evaluate_every": 20, "budget_s": 0.1, **options}
    return training_ladder(make, work, name="where it begins", **given)


@pytest.fixture(scope="module")
def first(work):
    return start(work)


def wasteful(model, work):
    """A loop by hand that computes each loss ten times and forgets nine."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    while True:
        for inputs, targets in work.batches("train", 32, order=0):
            for _ in range(10):
                optimizer.zero_grad()
                loss = work.loss(model(inputs), targets)
                loss.backward()
            optimizer.step()
            yield loss.item()


# --- Steps to the loss ---------------------------------------------------------------------------


def test_the_first_rung_is_trainedto_the_loss(work, first):
    history = train(make(), work, steps=500, evaluate_every=20, live=False)
    (rung,) = first.rungs
    assert rung.steps == history.steps_to_loss(1.0)
    assert rung.seconds == pytest.approx(rung.steps * rung.step.value)
    assert (rung.verdict, first.best) == ("where we start", rung)


def test_what_learns_the_same_is_not_trained_again(work, first, monkeypatch):
    monkeypatch.setattr("kit.costs.training_rungs.train", lambda *_, **__: pytest.fail("trained"))
    rung = first.then("in parts", accumulate=2).rungs[-1]
    assert rung.steps == first.rungs[0].steps and rung.against == "where it begins"


def test_what_learns_otherwise_is_trainedto_the_loss(work, first):
    slower = first.then("a smaller rate", lr=1e-3).rungs[-1]
    assert slower.steps > first.rungs[0].steps
    scheduled = first.then("a schedule", schedule="linear", steps=160).rungs[-1]
    history = train(make(), work, steps=160, schedule="linear", evaluate_every=20, live=False)
    assert scheduled.steps == history.steps_to_loss(1.0)


def test_a_loss_that_is_not_reached_has_no_time(work, first):
    rung = start(work, most_steps=40, lr=1e-5).rungs[0]
    assert rung.steps is None is rung.seconds
    late = replace(first, most_steps=40).then("hardly moves", lr=1e-5)
    assert late.rungs[-1].verdict == "real: it does not get there"
    assert late.best == first.rungs[0]
    assert "—" in late.rungs[-1].row()


def test_a_loop_of_ones_own_is_stepped_and_looked_at(work):
    by_hand = start(work, loop=wasteful)
    own = start(work)
    assert by_hand.rungs[0].steps == pytest.approx(own.rungs[0].steps, abs=40)


# --- What is held against what -------------------------------------------------------------------


def test_a_surely_faster_rung_is_what_the_next_is_held_against(work):
    """Ten backward passes against one: a factor that no noise hides."""
    climbed = start(work, loop=wasteful, batch_size=32).then("each loss once")
    assert climbed.best.name == "each loss once"
    assert climbed.rungs[1].verdict.startswith("real: ") and "faster" in climbed.rungs[1].verdict
    assert climbed.gain.low > 2
    first, best = climbed.rungs[0].seconds, climbed.best.seconds
    assert climbed.gain.value == pytest.approx(first / best)
    assert climbed.gain.value == pytest.approx(1 / climbed.rungs[1].ratio.value)
    back = climbed.then("by hand again", loop=wasteful)
    assert back.rungs[2].against == "each loss once" and back.best.name == "each loss once"
    assert "slower" in back.rungs[2].verdict
    assert "where it begins → each loss once" in back.table().caption


def test_a_change_stays_only_if_it_was_faster(first):
    climbed = first.then("in parts", accumulate=8)
    assert climbed.rungs[1].way.options == {"accumulate": 8}
    again = climbed.then("clipped", clip=1.0)
    expected = {**climbed.best.way.options, "clip": 1.0}
    assert again.rungs[2].way.options == expected


def test_what_the_kit_refuses_is_a_rung_that_is_not_here(first):
    climbed = first.then("recomputed", recompute=True)
    assert climbed.rungs[1].verdict.startswith("not here: recompute=True: MLP has no list")
    assert climbed.best == first.best
    assert climbed.to_dict()["rungs"][1]["step_s"] is None


def test_the_number_of_threads_is_put_back(first):
    before = torch.get_num_threads()
    assert first.then("two threads", threads=2).rungs[1].way.threads == 2
    assert torch.get_num_threads() == before


def test_a_history_from_elsewhere_is_a_rung_with_its_own_interval(work, first):
    history = train(make(), work, steps=300, evaluate_every=300, live=False)
    slow = replace(history, reads=tuple((n, 100 * s) for n, s in history.reads))
    rung = first.observed("by a snail", slow).rungs[1]
    assert rung.step.value == pytest.approx(first.rungs[0].step.value * rung.ratio.value)
    assert 10 < rung.ratio.value < 1000 and "slower" in rung.verdict
    fast = replace(history, reads=tuple((n, s / 100) for n, s in history.reads))
    climbed = first.observed("by a hare", fast)
    assert "faster" in climbed.newest.verdict and climbed.best == first.best
    assert climbed.then("in parts", accumulate=2).newest.against == "where it begins"


def test_another_model_may_be_a_rung(first):
    def wider():
        torch.manual_seed(0)
        return MLP(MLPConfig(hidden=64, layers=1))

    rung = first.then("wider", make=wider).rungs[1]
    assert rung.way.make is wider and rung.steps <= first.rungs[0].steps


def test_two_rungs_of_one_name_are_refused(first):
    with pytest.raises(BadValue, match="name='where it begins': there is such a rung"):
        first.then("where it begins", lr=1e-3)


def test_a_name_is_refused_before_anything_is_measured(first):
    def never(model, work):
        raise AssertionError("it was started")

    with pytest.raises(BadValue, match="there is such a rung"):
        first.then("where it begins", loop=never)


# --- Verdicts, with known numbers ----------------------------------------------------------------


def rung(seconds=1.0, steps=100, wait=0.0, ratio=None, **options) -> Rung:
    step = Estimate(seconds, seconds, seconds, "s")
    return Rung("it", Way(make), step, steps, wait, ratio=ratio, **options)


def test_the_ratio_is_of_the_time_to_the_loss_with_the_wait():
    """Half the time per step, a fifth more steps, and 20 s of compiling: (20 + 60) ÷ 100."""
    step_ratio = Estimate(0.5, 0.4, 0.6, "×")
    found = to_the_loss(step_ratio, rung(0.5, steps=120, wait=20.0), rung(1.0, steps=100))
    assert (found.value, found.low, found.high) == pytest.approx((0.8, 0.68, 0.92))


@pytest.mark.parametrize(
    ("low", "value", "high", "verdict"),
    [
        (0.4, 0.5, 0.6, "real: 2.00 × faster"),
        (1.5, 2.0, 2.5, "real: 2.00 × slower"),
        (0.9, 0.95, 1.01, "within noise"),
        (0.9, 0.95, 0.985, "within noise"),  # the floor is 2 %
    ],
)
def test_a_verdict_needs_the_interval_beyond_the_noise(low, value, high, verdict):
    ratio = Estimate(value, low, high, "×")
    assert rung(ratio=ratio, against="x", noise_floor=0.02).verdict == verdict


def test_the_share_is_of_the_peak_at_as_many_threads(work):
    threads = torch.get_num_threads()
    peaks = Peaks({"float32": 1e15}, 1e9, {}, "cpu", threads)
    way = Way(make, options={"batch_size": 64})
    assert 0 < way.share(1e-3, work, peaks) < 1e-3
    assert way.share(2e-3, work, peaks) == pytest.approx(way.share(1e-3, work, peaks) / 2)
    assert way.share(1e-3, work, replace(peaks, threads=threads + 1)) is None
    assert replace(way, options={"precision": "bf16"}).share(1e-3, work, peaks) is None
    assert way.share(1e-3, work, None) is None


# --- Shown ---------------------------------------------------------------------------------------


def test_it_is_a_table_a_picture_and_a_record(first):
    climbed = first.then("recomputed", recompute=True)
    assert repr(climbed) == "2 rungs, the best 'where it begins': 1.00 × in all"
    assert repr(climbed.newest).startswith("recomputed: not here")
    faster = first.then("in parts", accumulate=2).newest
    assert "÷ that of 'where it begins'" in faster.table().caption
    table = climbed.table()
    assert [row[0] for row in table.rows] == ["where it begins", "recomputed"]
    assert "to a validation loss of 1" in table.caption
    record = climbed._repr_mimebundle_()[RECORD]
    assert record["kind"] == "TrainingLadder" and record["rungs"][0]["seconds_to_loss"] > 0
    assert math.isfinite(record["gain_ratio"]["value"])
    assert climbed.plot().png() and "where it begins" in climbed.plot().caption
