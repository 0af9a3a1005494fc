"""Repairs after drift, and a model that lives through a drifting stream under a policy."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import kit
from kit.core.errors import BadValue, NotSupported, UnknownName
from kit.core.statistics import Estimate
from kit.data import Split
from kit.monitoring import (
    Life,
    Lives,
    adapt_normalisation,
    changed,
    every,
    live,
    lives,
    on_alarm,
    recalibrated,
    repairs,
    reweighted,
    share_of,
)
from kit.monitoring.living import Known, World, on_adwin, on_errors
from kit.monitoring.views import views_of

TURN = 25.0


@pytest.fixture(scope="module")
def work():
    return kit.workloads.vision()


@pytest.fixture(scope="module")
def turned(work):
    return drifted(work, "rotation", TURN)


def drifted(work, kind, degree):
    for name in ("train", "validation", "test"):
        work = work.with_split(name, changed(work.data[name], kind, degree))
    return work


@pytest.fixture(scope="module")
def models(work):
    made = []
    for seed in range(2):
        kit.seed(seed)
        model = work.model("mlp")
        kit.train(model, work, steps=250, seed=seed, live=False, evaluate_every=10_000)
        made.append(model)
    return made


def back(inputs):
    return changed(Split(inputs, inputs), "rotation", -TURN).inputs


@pytest.fixture(scope="module")
def repaired(models, work, turned):
    before = [[weight.clone() for weight in model.parameters()] for model in models]
    found = repairs(models, work, turned, labels=80, undo=back, recipe={"steps": 150})
    for model, weights in zip(models, before, strict=True):  # every repair works on a copy
        assert all(a.equal(b) for a, b in zip(model.parameters(), weights, strict=True))
    return found


# --- Repairs -------------------------------------------------------------------------------------


def test_training_regains_what_the_turn_took_and_so_does_turning_back(repaired):
    assert repaired.lost.low > 0.1
    for name in ("scratch", "fine-tune", "fix the input"):
        assert repaired.regained(name).value > 0.1
    assert repaired.best() in ("scratch", "fine-tune", "fix the input")


def test_only_what_is_trained_on_is_remembered(repaired):
    # The fix turns old images, too, which were upright.
    assert repaired.forgotten("fix the input").value > repaired.forgotten("fine-tune").value
    assert repaired.forgotten("fine-tune").value > repaired.forgotten("scratch").value


def test_two_repairs_are_compared_on_the_same_examples(repaired):
    gap = repaired.ahead("scratch", of="last layer")
    gains = [repaired.regained(name) for name in ("scratch", "last layer")]
    assert gap.value == pytest.approx(gains[0].value - gains[1].value)
    assert repaired.ahead("scratch", of="scratch").value == 0


def test_a_repair_sends_what_it_changed(repaired):
    sent = {name: repaired[name].sent_bytes for name in repaired.names}
    assert sent["last layer"] == 4 * (128 * 10 + 10)
    assert sent["scratch"] == sent["fine-tune"] == 4 * 26_122
    assert sent["recalibrate"] == sent["reweight"] == 4 * 11
    assert sent["fix the input"] == 0


def test_labels_and_time_are_those_of_each_repair(repaired):
    labels = {name: repaired[name].labels for name in repaired.names}
    assert labels["reweight"] == labels["fix the input"] == 0
    assert labels["scratch"] == labels["recalibrate"] == 80
    assert all(s > 0 for s in repaired["fine-tune"].seconds)


def test_a_result_of_repairs_has_a_row_each(repaired):
    table = repaired.table()
    assert [row[0] for row in table.rows] == ["nothing", *repaired.names]
    assert "forgotten" in repaired.plot().figure.axes[1].get_xlabel() or repaired.plot().caption
    assert json.loads(json.dumps(repaired.to_dict()))["models"] == 2
    with pytest.raises(UnknownName, match="did you mean 'scratch'"):
        repaired["scrath"]


def test_a_share_of_nothing_is_unknown():
    nothing = Estimate(0.01, -0.02, 0.04)
    assert share_of(Estimate(0.1, 0.05, 0.15), nothing).interval == "unknown"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(models=[]), BadValue, "list of trained models"),
        (dict(models=["mlp"]), BadValue, "list of trained models"),
        (dict(names=["tune"]), UnknownName, "no repair is called 'tune'"),
        (dict(labels=0), BadValue, "labels=0"),
        (dict(labels=10_000), BadValue, "from 1 to 1,197"),
    ],
)
def test_repairs_that_cannot_be_made_are_refused(change, error, message, models, work, turned):
    given = dict(models=models) | change
    with pytest.raises(error, match=message):
        repairs(given.pop("models"), work, turned, **given)


# --- Without a training step ---------------------------------------------------------------------


class Says(nn.Module):
    """A model whose logits are its inputs, (B, C)."""

    def forward(self, inputs):
        return inputs


def one_hot(classes, sure=8.0):
    return sure * torch.nn.functional.one_hot(torch.tensor(classes), 3).float()


def test_another_mix_of_classes_is_read_from_the_answers():
    targets = [0, 1, 2] * 20
    known = Split(one_hot(targets), torch.tensor(targets))
    adjusted = reweighted(Says(), known, one_hot([0] * 30 + [1] * 10))
    shares = adjusted.shift.exp() / 3  # the ratios times the old shares
    assert shares.tolist() == pytest.approx([0.75, 0.25, 1e-3 / 3], abs=1e-3)


def test_a_mix_is_not_what_a_model_with_known_mistakes_answers():
    """It answers 0 for a third of the ones: the mix must not count these as zeros."""
    targets = [0] * 30 + [1] * 30 + [2] * 30
    answers = [0] * 30 + [1] * 20 + [0] * 10 + [2] * 30
    known = Split(one_hot(answers), torch.tensor(targets))
    adjusted = reweighted(Says(), known, one_hot([1] * 40 + [0] * 20))  # all of them are ones
    shares = adjusted.shift.exp() / 3
    assert shares[1] == pytest.approx(1, abs=0.02) and shares[0] < 0.02


def test_a_model_that_is_too_sure_gets_a_scale_below_one():
    draw = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (300,), generator=draw)
    right = torch.rand(300, generator=draw) < 0.7
    answers = torch.where(right, targets, (targets + 1) % 3)
    labelled = Split(one_hot(answers.tolist(), sure=20.0), targets)
    adjusted = recalibrated(Says(), labelled)
    sure = kit.predict(adjusted, labelled.inputs).softmax(1).amax(1).mean()
    assert 0 < adjusted.scale < 0.5 and sure == pytest.approx(0.7, abs=0.07)


def test_normalisation_follows_what_comes_now():
    kit.seed(0)
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))
    now = torch.randn(200, 4) * 3 + 5
    adapted = adapt_normalisation(model, now)
    assert torch.allclose(adapted[0].running_mean, now.mean(0), atol=1e-4)
    assert torch.allclose(adapted[0].running_var, now.var(0), rtol=1e-3)
    assert model[0].running_mean.abs().sum() == 0 and model.training and adapted.training
    assert adapted[1].weight.equal(model[1].weight)
    with pytest.raises(NotSupported, match=r"no BatchNorm layer.*Fine-tune"):
        adapt_normalisation(nn.Linear(4, 2), now)
    with pytest.raises(BadValue, match="at least two"):
        adapt_normalisation(model, now[:1])


# --- A life --------------------------------------------------------------------------------------

SHORT = dict(periods=6, per_period=40, labels=20)


def steady(period):
    return 0.0


def rising(period):
    return 8.0 * period


def test_a_model_that_is_never_trained_keeps_its_weights(models, work):
    before = [weight.clone() for weight in models[0].parameters()]
    life = live(models[0], work, rising, "never", **SHORT)
    assert life.trained_at == () and life.right.shape == (6, 40)
    assert all(a.equal(b) for a, b in zip(before, models[0].parameters(), strict=True))
    assert life.accuracy[0] > life.accuracy[-1] + 0.2


def test_a_calendar_trains_on_its_days_and_each_policy_has_the_same_stream(models, work):
    never, second = (live(models[0], work, rising, p, **SHORT) for p in ("never", every(2)))
    assert second.trained_at == (1, 3)  # not after the last period: nobody would use it
    assert len(second.train_s) == 2
    assert np.array_equal(never.right[:2], second.right[:2])  # until the first training
    assert second.right[2:].mean() > never.right[2:].mean()


def test_nobody_trains_on_labels_that_have_not_come(models, work):
    late = live(models[0], work, rising, every(1), delay=3, **SHORT)
    assert late.trained_at == (3, 4)


def test_what_a_policy_keeps_is_of_the_weights_that_answered(models, work):
    """It is computed when it is read: here after another training."""
    seen = []

    def once(known):
        seen.append(known)
        return known.period == 1

    live(models[0], work, rising, once, **SHORT)
    assert [known.since for known in seen] == [1, 2, 1, 2, 3, 4]
    assert [known.reference is None for known in seen] == [True, False, True, *[False] * 3]
    first = World(work, rising, per_period=40).answered(0)
    for views in (seen[0].now, seen[1].reference):
        assert np.array_equal(views["outputs"], views_of(models[0], first.inputs)["outputs"])
    assert [len(known.errors) for known in seen] == [20 * known.since for known in seen]
    assert set(seen[5].errors) == {0.0, 1.0}


def test_what_gets_labels_is_never_scored(work):
    world = World(work, steady, "rotation", 40, 20, seed=1)
    scored, labelled = ({tuple(row.flatten().tolist()) for row in part.inputs}
                        for part in (world.scored, world.labelled))  # fmt: skip
    assert len(world.scored.inputs) == 300 and not scored & labelled
    drawn = {tuple(row.flatten().tolist()) for row in world.answered(3).inputs}
    assert drawn <= scored and len(drawn) == 40  # each at most once


def known(**given):
    outputs = np.random.default_rng(0).dirichlet([1, 1, 1], 100)
    return Known(
        **(
            dict(period=9, since=5, reference={"outputs": outputs}, now={"outputs": outputs})
            | given
        )
    )


def test_an_alarm_needs_outputs_that_moved_and_a_reference():
    moved = {"outputs": np.random.default_rng(1).dirichlet([9, 1, 1], 100)}
    policy = on_alarm(alpha=0.001, quiet=2)
    assert not policy(known()) and policy(known(now=moved))
    assert not policy(known(now=moved, reference=None))
    assert not policy(known(now=moved, since=2))


def test_an_alarm_on_errors_needs_more_of_them_than_at_first():
    policy = on_errors(rise=0.05, window=100)
    few, many = (0.0,) * 95 + (1.0,) * 5, (0.0,) * 60 + (1.0,) * 40
    assert not policy(known(errors=few)) and not policy(known(errors=few + few))
    assert policy(known(errors=few + many))


def test_adwin_can_be_the_policy():
    pytest.importorskip("river", reason="needs the extra `drift`")
    few, many = (0.0,) * 300, (1.0,) * 100
    assert not on_adwin()(known(errors=few)) and on_adwin()(known(errors=few + many))


@pytest.fixture(scope="module")
def several(models, work):
    return lives(models, work, rising, {"never": "never", "each": every(1)}, **SHORT)


def test_several_lives_are_compared_on_the_same_streams(several):
    assert several.gain("each", over="never").value > 0.01
    assert several.trainings("each").value == 5 and several.trainings("never").value == 0
    extra = several.extra_cost("each", over="never", per_training=3, per_error=1)
    errors = {name: sum(life.errors for life in several[name]) / 2 for name in ("each", "never")}
    assert extra.value == pytest.approx(15 + errors["each"] - errors["never"])
    assert len(several.table().rows) == 2 and "each" in several.plot().caption
    assert json.loads(json.dumps(several.to_dict()))["lives"]["never"][0]["trained_at_period"] == []
    with pytest.raises(UnknownName, match="policy of this result"):
        several["ever"]


def life(right, trained_at=()):
    return Life("p", np.array(right, dtype=float), trained_at, (0.1,) * len(trained_at), (0.0,))


def test_costs_are_trainings_and_errors():
    one = life([[1, 1, 1, 0], [1, 0, 0, 0]], (0, 1))
    assert one.errors == 4 and one.predictions == 8
    assert one.cost(per_training=10, per_error=2) == 28
    assert one.predictions_until(0.5) == 4 and one.predictions_until(0.1) is None
    cheap, dear = (life([[1, 0]], at) for at in ((), (0,)))
    both = Lives({"cheap": (cheap, cheap), "dear": (dear, dear)})
    assert both.within(per_training=0.05, per_error=1) == ["cheap", "dear"]
    assert both.within(per_training=5, per_error=1) == ["cheap"]
    with pytest.raises(BadValue, match="per_training=-1: needs a price"):
        one.cost(-1, 1)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (dict(policy="weekly"), UnknownName, "no policy is called 'weekly'.*monthly"),
        (dict(kind="turn"), UnknownName, "no kind of drift"),
        (dict(periods=0), BadValue, "periods=0"),
        (dict(per_period=5), BadValue, "at least 10"),
        (dict(delay=-1), BadValue, "delay=-1"),
    ],
)
def test_a_life_that_cannot_be_lived_is_refused(wrong, error, message, models, work):
    with pytest.raises(error, match=message):
        live(models[0], work, steady, **wrong)


def test_another_mix_leaves_out_examples_and_the_loss_is_still_known(models, work):
    mixed = repairs(models, work, drifted(work, "mix", 0.9), labels=40, names=["reweight"])
    assert mixed["nothing"].new.shape[1] < mixed["nothing"].old.shape[1] == 300
    assert mixed.lost.low < mixed.lost.value < mixed.lost.high
