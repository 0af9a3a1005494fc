"""Drift: tests of two samples with known answers, detectors, false alarms, and what is refused."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from statsmodels.stats.multitest import multipletests
from torch import nn

import kit
from kit.core.errors import BadValue, NotEnoughSamples, NotInstalled, ShapeMismatch, UnknownName
from kit.data import Split
from kit.monitoring import adwin_alarms, changed, late_labels, marked_series
from kit.monitoring.detectors import WITH_MODEL, holm
from kit.monitoring.two_samples import (
    gaussian_kernel,
    largest_ks,
    least_examples,
    mean_shift,
    mmd,
    old_or_new,
    standardised,
)


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def work():
    return kit.workloads.vision()


@pytest.fixture(scope="module")
def model(work):
    kit.seed(0)
    model = work.model("mlp")
    kit.train(model, work, steps=250, live=False, evaluate_every=10_000)
    return model


@pytest.fixture(scope="module")
def reference(work):
    return work.data["validation"]


@pytest.fixture(scope="module")
def test(work):
    return work.data["test"]


@pytest.fixture(scope="module")
def turned(reference, test, model):
    return kit.drift(reference, changed(test, "rotation", 25), model=model, trials=40)


# --- Two samples ---------------------------------------------------------------------------------


def test_the_largest_gap_of_any_column_counts_and_its_p_pays_for_all_columns():
    then, now = np.arange(100.0)[:, None], np.arange(50.0, 150.0)[:, None]
    one = largest_ks(then, now, generator())
    assert one.effect == pytest.approx(0.5)
    same = np.tile(then, 9)
    ten = largest_ks(np.hstack([then, same]), np.hstack([now, same]), generator())
    assert ten.effect == one.effect and ten.p == pytest.approx(10 * one.p)


def test_a_constant_column_is_not_a_look():
    then, now = generator(1).normal(size=(40, 1)), generator(2).normal(size=(40, 1)) + 1
    padded = [np.hstack([each, np.ones((40, 5))]) for each in (then, now)]
    assert largest_ks(*padded, generator()) == largest_ks(then, now, generator())


def test_mmd_is_the_mean_similarity_within_minus_across():
    """The slow, obvious version beside the fast one."""
    then, now = generator(1).normal(size=(7, 3)), generator(2).normal(size=(5, 3)) + 2
    rows = torch.from_numpy(standardised(then, now)).float()
    kernel = gaussian_kernel(rows).numpy()

    def mean(pairs):
        return np.mean([kernel[i, j] for i, j in pairs])

    within_then = mean((i, j) for i in range(7) for j in range(7) if i != j)
    within_now = mean((i, j) for i in range(7, 12) for j in range(7, 12) if i != j)
    across = mean((i, j) for i in range(7) for j in range(7, 12))
    expected = within_then + within_now - 2 * across
    assert mmd(then, now, generator()).effect ** 2 == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("test_of", [largest_ks, mmd, old_or_new, mean_shift])
def test_without_drift_a_p_value_below_a_fifth_comes_at_most_once_in_five(test_of):
    draw = generator(3)
    low = [
        test_of(draw.normal(size=(60, 2)), draw.normal(size=(40, 2)), draw).p < 0.2
        for _ in range(150)
    ]
    assert sum(low) <= 45  # 30 are expected; more than 45 by chance about once in 700 runs


@pytest.mark.parametrize("test_of", [largest_ks, mmd, old_or_new, mean_shift])
def test_a_shift_of_two_deviations_is_found(test_of):
    draw = generator(4)
    found = test_of(draw.normal(size=(60, 3)), draw.normal(size=(40, 3)) + 2, draw)
    assert found.p < 0.01


def test_a_classifier_that_can_only_toss_a_coin_has_half_the_area():
    draw = generator(5)
    areas = [
        old_or_new(draw.normal(size=(80, 4)), draw.normal(size=(80, 4)), draw).effect
        for _ in range(40)
    ]
    assert np.mean(areas) == pytest.approx(0.5, abs=0.04)
    far = old_or_new(draw.normal(size=(80, 4)), draw.normal(size=(80, 4)) + 9, draw)
    assert far.effect == 1


def test_holm_is_that_of_statsmodels():
    p = generator(6).random((20, 5)) ** 3
    for row in p:
        assert holm(list(row)) == pytest.approx(list(multipletests(row, method="holm")[1]))


def test_fewer_examples_than_the_least_cannot_be_rare_enough():
    for then, tests in ((30, 10), (12, 40)):
        m = least_examples(then, tests, 0.05)
        p = [tests * kit_ks(np.zeros(then), np.ones(size)) for size in (m - 1, m)]
        assert p[1] < 0.05 <= p[0]


def kit_ks(then, now):
    from scipy.stats import ks_2samp

    draw = generator()
    return ks_2samp(then + draw.random(len(then)) / 9, now, method="exact").pvalue


# --- kit.drift -----------------------------------------------------------------------------------


def test_a_turn_is_found_by_all_and_costs_score(turned):
    assert turned.alarm and all(each.p < 0.05 for each in turned.detections)
    assert turned.change.difference.high < -0.1
    assert turned["classifier"].needed <= turned["confidence"].needed <= 100
    assert turned["outputs"].size > 1.5


def test_where_nothing_drifts_alarms_are_as_rare_as_promised(turned):
    assert turned.false_alarms.low <= 0.05
    for each in turned.detections:
        assert len(each.chance) == 40 and each.false_alarms(0.05).low <= 0.05


def test_detected_is_not_harmful_and_harmful_is_not_detected(reference, test, model):
    nothing, mix, meaning = (
        kit.drift(reference, changed(test, *kind), model=model, trials=0)
        for kind in (("rotation", 0), ("mix", 0.9), ("meaning", 0.3))
    )
    assert mix.alarm and mix.change.difference.high > -0.02
    assert not meaning.alarm and meaning.change.difference.high < -0.1
    assert [d.found for d in meaning.detections] == [d.found for d in nothing.detections]


def test_no_drift_is_not_noticed_however_many_examples(reference, test, model):
    found = kit.drift(reference, test, model=model, detectors=["outputs"], trials=20)
    assert not found.alarm and found["outputs"].needed is None
    assert "> 100" in repr(found.table())


def test_the_same_seed_gives_the_same_result(reference, test, model):
    one, two = (kit.drift(reference, test, model=model, trials=5, seed=3) for _ in range(2))
    for record in (first := one.to_dict(), second := two.to_dict()):
        assert all(each.pop("comparison_s")["value"] > 0 for each in record["detections"])
    assert first == second


def test_power_grows_with_the_examples_and_needed_is_read_from_it(turned, reference, test, model):
    little = changed(test, "rotation", 8)
    weak = kit.drift(reference, little, model=model, detectors=["outputs"], trials=40)
    for each in (*turned.detections, *weak.detections):
        assert all(at.draws == 10 and 0 <= at.alarms <= 10 for at in each.power)
        assert each.needed == next((at.examples for at in each.power if at.alarms >= 8), None)
    strong, outputs = turned["outputs"].power, weak["outputs"].power
    assert outputs[0].alarms < 8 and outputs[0].alarms < strong[0].alarms
    assert outputs[0].alarms < outputs[-1].alarms and len(outputs) > len(strong)
    picture = weak.power_plot()
    assert f"outputs {weak['outputs'].needed}" in picture.caption
    assert "10 draws of each size" in picture.caption and "<img" in picture._repr_html_()
    with pytest.raises(BadValue, match=r"trials=40.*at least 20 examples"):
        kit.drift(reference, test, model=model, trials=0).power_plot()


def test_without_a_model_the_inputs_are_compared(reference, test):
    found = kit.drift(reference.inputs, changed(test, "thickness", 0.5).inputs, trials=0)
    assert [each.detector.name for each in found.detections] == [
        *("features", "embeddings", "classifier")
    ]
    assert found.alarm and found.change is None and "unknown without labels" in repr(found)


def test_a_model_without_a_linear_layer_is_compared_by_its_logits(reference, test):
    plain = nn.Sequential(nn.Flatten(), nn.Softmax(dim=1))
    found = kit.drift(reference.inputs, test.inputs, model=plain, trials=0)
    assert set(WITH_MODEL) == {each.detector.name for each in found.detections}


def test_the_model_is_left_as_it_was(reference, test, model):
    hooks = [len(part._forward_pre_hooks) for part in model.modules()]
    weights = [weight.clone() for weight in model.parameters()]
    model.train()
    kit.drift(reference, test, model=model, trials=0)
    assert model.training and hooks == [len(p._forward_pre_hooks) for p in model.modules()]
    assert all(a.equal(b) for a, b in zip(weights, model.parameters(), strict=True))


def test_a_result_shows_effects_chance_and_score(turned):
    table = turned.table()
    assert len(table.rows) == 4 and len({len(row) for row in table.rows}) == 1
    assert "Score" in table.caption and "Holm" in table.details
    assert "multiples" in turned.plot()._repr_html_() or "×" in turned.plot().caption
    record = json.loads(json.dumps(turned.to_dict()))
    assert record["n_now"] == 300 and len(record["detections"]) == 4
    with pytest.raises(UnknownName, match="did you mean 'outputs'"):
        turned["output"]


def spoilt(inputs, value):
    inputs = inputs.clone()
    inputs[3, 0, 2, 2] = value
    return inputs


ERRORS = [
    (lambda r, t: dict(reference=r.inputs[:1]), NotEnoughSamples, "reference has 1 example; .* 10"),
    (lambda r, t: dict(now=t.inputs[:9]), NotEnoughSamples, "now has 9 examples"),
    (lambda r, t: dict(now=spoilt(t.inputs, torch.nan)), BadValue, "1 of 300 .*first at index 3"),
    (lambda r, t: dict(reference=spoilt(r.inputs, torch.inf)), BadValue, "reference: 1 of 300"),
    (lambda r, t: dict(now=t.inputs[:, :, :4]), ShapeMismatch, r"\(1, 8, 8\), now it is \(1, 4, 8"),
    (lambda r, t: dict(now=[1, 2]), BadValue, "given a list; needs a tensor"),
    (lambda r, t: dict(now=Split(t.inputs, t.targets + 1)), BadValue, "classes 10; .*0 to 9"),
    (lambda r, t: dict(now=Split(t.inputs, t.targets[:7])), ShapeMismatch, "one per input"),
    (lambda r, t: dict(now=Split(t.inputs, t.targets / 2)), ShapeMismatch, "as whole numbers"),
    (lambda r, t: dict(detectors=["output"]), UnknownName, "did you mean 'outputs'"),
    (lambda r, t: dict(detectors=[]), BadValue, "at least one"),
    (lambda r, t: dict(model=None, detectors=["outputs"]), BadValue, "give model="),
    (lambda r, t: dict(model="mlp"), BadValue, "needs a model"),
    (lambda r, t: dict(alpha=5), BadValue, "between 0 and 1"),
    (lambda r, t: dict(alpha=1e-30, now=t.inputs[:10]), NotEnoughSamples, "complete separation"),
    (lambda r, t: dict(trials=-1), BadValue, "at least 0"),
    (
        lambda r, t: dict(model=nn.Sequential(nn.Flatten(), nn.Linear(64, 1))),
        ShapeMismatch,
        "needs logits",
    ),
]


@pytest.mark.parametrize(("wrong", "error", "message"), ERRORS)
def test_what_cannot_be_compared_is_refused(wrong, error, message, reference, test, model):
    given = dict(reference=reference, now=test, model=model, trials=0) | wrong(reference, test)
    with pytest.raises(error, match=message):
        kit.drift(given.pop("reference"), given.pop("now"), **given)


def test_constant_inputs_are_refused_and_a_constant_model_too(reference, test):
    flat = torch.ones(20, 4)
    with pytest.raises(BadValue, match="the features are constant: all 40 examples"):
        kit.drift(flat, flat)
    dead = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.zeros_(dead[1].weight)
    with pytest.raises(BadValue, match="the outputs are constant"):
        kit.drift(reference.inputs, test.inputs, model=dead)


# --- Kinds of drift ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, degree",
    [("rotation", 10), ("thickness", -0.3), ("noise", 0.1), ("mix", 0.5), ("meaning", 0.5)],
)
def test_a_drift_is_the_same_for_the_same_seed_and_grows_from_nothing(kind, degree, test):
    one, two = (changed(test, kind, degree, seed=4) for _ in range(2))
    assert one.inputs.equal(two.inputs) and one.targets.equal(two.targets)
    assert not (one.inputs.equal(test.inputs) and one.targets.equal(test.targets))
    assert changed(test, kind, 0) is test


def test_what_each_kind_changes(test):
    back = changed(changed(test, "rotation", 90), "rotation", -90)
    assert back.inputs.sub(test.inputs).abs().max() < 1e-4
    ink = [changed(test, "thickness", d).inputs.sum() for d in (-0.5, 0, 0.5)]
    assert all(a < b for a, b in pairwise(ink))
    noisy = changed(test, "noise", 0.2).inputs
    assert noisy.min() >= 0 and noisy.max() <= 1
    mix = changed(test, "mix", 0.9)
    assert (mix.targets < 3).float().mean() == pytest.approx(0.9, abs=0.01)
    assert len({tuple(row.flatten().tolist()) for row in mix.inputs}) == len(mix.inputs) > 80
    meaning = changed(test, "meaning", 0.25)
    moved = meaning.targets != test.targets
    assert meaning.inputs is test.inputs and 0.17 < moved.float().mean() < 0.33
    assert ((meaning.targets - test.targets) % 10)[moved].unique().tolist() == [1]


def test_prices_multiply_the_amounts_alone():
    from kit.data.payments import GENUINE, draw_payments

    payments = draw_payments(400, 0)
    dearer = changed(payments, "prices", 0.5)
    euros = [GENUINE.euros[1] ** split.inputs[:, 0].double() for split in (payments, dearer)]
    assert torch.allclose(euros[1] / euros[0], torch.tensor(1.5).double(), rtol=1e-4)
    assert dearer.inputs[:, 1:].equal(payments.inputs[:, 1:])


def test_other_voices_shift_the_frequencies():
    sounds = torch.zeros(2, 4, 32)
    sounds[:, :, 10] = 1
    higher = changed(Split(sounds, torch.zeros(2).long()), "voices", 0.5).inputs
    assert higher.shape == sounds.shape and higher[0, 0].argmax() in (15, 16)


@pytest.mark.parametrize(
    ("kind", "degree", "error", "message"),
    [
        ("rotaton", 1, UnknownName, "did you mean 'rotation'"),
        ("noise", float("nan"), BadValue, "finite"),
        ("thickness", 2, BadValue, "from -1 to 1"),
        ("mix", 2, BadValue, "share from 0 to 1"),
        ("meaning", -1, BadValue, "share from 0 to 1"),
        ("voices", 0.1, ShapeMismatch, "needs spectrograms"),
        ("prices", 0.1, ShapeMismatch, "needs payments"),
    ],
)
def test_a_drift_that_does_not_fit_is_refused(kind, degree, error, message, test):
    with pytest.raises(error, match=message):
        changed(test, kind, degree)


# --- Labels that come late -----------------------------------------------------------------------


def test_without_river_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(late_labels, "find_spec", lambda name: None)
    for call in (lambda: adwin_alarms([0, 1]), marked_series):
        with pytest.raises(NotInstalled, match=r"needs river.*\[drift\]"):
            call()


def test_adwin_notices_a_rise_of_errors_and_late_labels_delay_it():
    pytest.importorskip("river", reason="needs the extra `drift`")
    draw = generator(7)
    errors = [*(draw.random(600) < 0.05), *(draw.random(400) < 0.4)]
    alarms = adwin_alarms(errors)
    assert alarms and 600 < alarms[0] < 800
    assert adwin_alarms(errors, delay=250) == [each + 250 for each in alarms]
    assert adwin_alarms(errors[:600]) == []


def test_five_people_marked_each_series():
    pytest.importorskip("river", reason="needs the extra `drift`")
    series, people = marked_series("UKCoalEmploy")
    assert len(series) == 105 and len(people) == 5
    assert len({len(marks) for marks in people.values()}) > 1  # they disagree
    with pytest.raises(UnknownName, match="did you mean 'Occupancy'"):
        marked_series("Ocupancy")


@pytest.mark.parametrize("values", [[0.0, float("nan")], [[1, 2], [3, 4]]])
def test_a_stream_is_finite_numbers_in_a_row(values):
    pytest.importorskip("river", reason="needs the extra `drift`")
    with pytest.raises(BadValue, match="finite numbers in a row"):
        adwin_alarms(values)
