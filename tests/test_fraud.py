"""Fraud: payments as documented, a best detector that is best, and a network that comes near."""

import math
from functools import cache

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from kit.core.errors import BadValue, ShapeMismatch
from kit.data.payments import (
    COPIED_NUMBER,
    FEATURES,
    FRAUD_KINDS,
    GENUINE,
    STOLEN_CARD,
    draw_payments,
    log_density,
    log_likelihood_ratio,
)
from kit.inference import evaluate, predict
from kit.training import train
from kit.workloads import alarm_precision, fraud
from kit.workloads.fraud import is_found

KINDS = {"genuine": GENUINE, "stolen card": STOLEN_CARD, "copied number": COPIED_NUMBER}


@pytest.fixture(scope="module")
def work():
    work = fraud()
    assert work.data
    return work


@pytest.fixture(scope="module")
def many():
    """Half a million payments that nobody was trained on, 2,500 of them frauds."""
    return draw_payments(500_000, seed=77)


def told(suspicion):
    """Logits that say nothing but how suspicious each payment is: (N,) -> (N, 2)."""
    return torch.stack([torch.zeros_like(suspicion), suspicion], 1)


def recall(suspicion, targets) -> float:
    return float(is_found(told(suspicion), targets).double().mean())


# --- The payments --------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "frauds"), [("train", 500), ("validation", 300), ("test", 500)])
def test_exactly_one_payment_in_200_is_a_fraud(work, split, frauds):
    targets = work.data[split].targets
    assert int(targets.sum()) == frauds and len(targets) == 200 * frauds


def test_frauds_are_anywhere_in_the_order(work):
    places = work.data["train"].targets.nonzero().squeeze(1).double() / 100_000
    assert scipy.stats.kstest(places.numpy(), "uniform").pvalue > 1e-3


def test_genuine_payments_are_the_unit_of_measure(many):
    inputs, targets = many
    genuine = inputs[targets == 0].double()
    assert genuine[:, :4].mean(0).abs().max() < 0.01
    assert (genuine[:, :4].std(0) - 1).abs().max() < 0.01
    assert genuine[:, 6].mean() == pytest.approx(GENUINE.abroad, abs=0.002)


def test_the_hour_is_a_point_on_a_circle_and_abroad_a_yes_or_no(many):
    inputs, _ = many
    torch.testing.assert_close(inputs[:, 4:6].square().sum(1), torch.ones(len(inputs)))
    assert set(inputs[:, 6].tolist()) == {0.0, 1.0}


def by_scipy(inputs, kind):
    """The density with scipy's distributions, number by number."""
    x = inputs.double().numpy()
    density = scipy.stats.bernoulli.logpmf(x[:, 6].astype(int), kind.abroad)
    peak, concentration = kind.hour
    angle = np.arctan2(x[:, 5], x[:, 4])
    density += scipy.stats.vonmises.logpdf(angle, concentration, loc=2 * np.pi * peak / 24)
    for i, name in enumerate(["euros", "km", "pause_s", "disputes"]):
        centre, unit = np.log(getattr(GENUINE, name))
        logarithm = x[:, i] * unit + centre  # of euros, of kilometres …
        median, factor = np.log(getattr(kind, name))
        density += scipy.stats.norm.logpdf(logarithm, median, factor) + np.log(unit)
    return density


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_of_a_kind_is_the_product_of_what_its_numbers_say(many, kind):
    inputs = many.inputs[:500]
    ours, scipys = log_density(inputs, KINDS[kind]).numpy(), by_scipy(inputs, KINDS[kind])
    np.testing.assert_allclose(ours, scipys, atol=1e-6)  # a point is on the circle to 7 digits


def test_the_evidence_is_as_strong_as_it_says(many):
    """Where it and the base rate make fraud p likely, a share p of the payments are frauds."""
    inputs, targets = many
    likely = torch.sigmoid(log_likelihood_ratio(inputs) + math.log(0.005 / 0.995))
    for low, high in [(0, 0.001), (0.001, 0.01), (0.01, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1)]:
        here = (likely >= low) & (likely < high)
        expected = float(likely[here].sum())
        spread = math.sqrt(float((likely[here] * (1 - likely[here])).sum()))
        assert abs(float(targets[here].sum()) - expected) < 4 * spread
        assert here.sum() > 200  # enough to tell


@pytest.mark.parametrize("shape", [(7,), (3, 6), (3, 7, 1)])
def test_payments_of_another_shape_are_refused(shape):
    with pytest.raises(ShapeMismatch) as said:
        log_likelihood_ratio(torch.zeros(shape))
    assert str(shape) in str(said.value) and f"(N, {len(FEATURES)})" in str(said.value)


# --- The best detector, and lesser ones ----------------------------------------------------------


def test_what_the_best_detector_finds(work, many):
    inputs, targets = work.data["test"]
    known = recall(log_likelihood_ratio(inputs), targets)
    assert known == pytest.approx(0.82, abs=0.005)  # fixed by the seed
    assert recall(log_likelihood_ratio(many.inputs), many.targets) == pytest.approx(0.84, abs=0.02)


def test_what_single_numbers_find(work):
    inputs, targets = work.data["test"]
    found = [recall(sign * inputs[:, i], targets) for i in range(7) for sign in (-1, 1)]
    assert max(found) == pytest.approx(0.35, abs=0.01)


def test_what_a_straight_line_finds(work):
    from sklearn.linear_model import LogisticRegression

    line = LogisticRegression(max_iter=500).fit(*(part.numpy() for part in work.data["train"]))
    inputs, targets = work.data["test"]
    found = recall(torch.tensor(line.decision_function(inputs.numpy())), targets)
    assert found == pytest.approx(0.72, abs=0.01)
    assert found < work.target


def test_chance_finds_one_in_a_hundred(many):
    guess = torch.rand(len(many.targets), generator=torch.Generator().manual_seed(5))
    assert recall(guess, many.targets) == pytest.approx(0.01, abs=0.008)


@pytest.mark.parametrize("kind", FRAUD_KINDS)
def test_who_knows_one_kind_alone_finds_less(many, kind):
    alone = log_density(many.inputs, kind) - log_density(many.inputs, GENUINE)
    assert (
        recall(alone, many.targets) < recall(log_likelihood_ratio(many.inputs), many.targets) - 0.05
    )


@cache
def trained() -> nn.Module:
    torch.manual_seed(1)
    work = fraud()
    model = work.model()
    train(model, work, **work.recipe, seed=1, live=False)
    return model


def test_a_network_reaches_the_target(work):
    assert evaluate(trained(), work).mean.value >= work.target


@pytest.mark.parametrize("seed", range(5))
def test_an_untrained_network_finds_little(work, seed):
    torch.manual_seed(seed)
    assert evaluate(work.model(), work).mean.value < 0.5 < work.target


def test_no_network_beats_the_best_detector(many):
    """On the same payments: what one finds and the other does not, to either side."""
    logits = predict(trained(), many.inputs)
    best = is_found(told(log_likelihood_ratio(many.inputs)), many.targets)
    network = is_found(logits, many.targets)
    won, lost = int((network & ~best).sum()), int((best & ~network).sum())
    assert won - lost < 2.6 * math.sqrt(won + lost)  # 99.5 %, McNemar
    assert network.double().mean() > 0.9 * best.double().mean()


def test_the_score_counts_the_frauds(work):
    score = evaluate(trained(), work)
    assert score.n == 500
    assert "of the fraud found at 1 % false alarms on 500 test examples" in repr(score)


# --- The score -----------------------------------------------------------------------------------


def payments_of(genuine, frauds):
    """Logits and targets, from how suspicious each looks."""
    suspicion = torch.tensor([*genuine, *frauds], dtype=torch.float64)
    return told(suspicion), torch.tensor([0] * len(genuine) + [1] * len(frauds))


def test_a_fraud_is_found_above_all_but_one_in_a_hundred_genuine_payments():
    logits, targets = payments_of(range(200), [196.5, 197.0, 197.5, 250.0, -3.0])
    # Two of 200 may raise an alarm, 198 and 199: what is above 197 does.
    assert is_found(logits, targets).tolist() == [False, False, True, True, False]
    assert alarm_precision(logits, targets).tolist() == [False, False, True, True]


def test_only_the_difference_of_the_logits_counts():
    logits, targets = payments_of(range(200), [197.5, 3.0])
    moved = logits + torch.arange(202).unsqueeze(1)
    assert torch.equal(is_found(moved, targets), is_found(logits, targets))


def test_of_fewer_than_a_hundred_genuine_payments_none_may_raise_an_alarm():
    logits, targets = payments_of(range(99), [97.5, 98.0, 98.5])
    assert is_found(logits, targets).tolist() == [False, False, True]
    assert alarm_precision(logits, targets).tolist() == [True]


def test_who_says_the_same_of_all_finds_nothing():
    logits, targets = payments_of([1.0] * 300, [1.0] * 5)
    assert not is_found(logits, targets).any()
    assert len(alarm_precision(logits, targets)) == 0


def test_at_most_one_genuine_payment_in_a_hundred_raises_an_alarm(many):
    # Rounded, so that there are ties.
    for logits in (told(log_likelihood_ratio(many.inputs)), told(many.inputs[:, 0].round())):
        false = ~alarm_precision(logits, many.targets)
        assert false.sum() <= 0.01 * (many.targets == 0).sum()


def test_even_the_best_detectors_alarms_are_mostly_false(many):
    """Bayes: 0.5 % · 84 % against 99.5 % · 1 %."""
    right = alarm_precision(told(log_likelihood_ratio(many.inputs)), many.targets).double().mean()
    assert right == pytest.approx(0.005 * 0.84 / (0.005 * 0.84 + 0.995 * 0.01), abs=0.01)
    assert right < 0.35


@pytest.mark.parametrize(("genuine", "frauds"), [((), (1.0, 2.0)), ((1.0, 2.0), ()), ((), ())])
@pytest.mark.parametrize("judge", [is_found, alarm_precision])
def test_without_both_kinds_there_is_nothing_to_find(judge, genuine, frauds):
    with pytest.raises(
        BadValue, match=rf"{len(genuine)} genuine .* {len(frauds)} frauds; the threshold needs"
    ):
        judge(*payments_of(genuine, frauds))
