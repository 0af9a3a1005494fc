"""What a loss and a score must give: each other thing is answered in one line that says what."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

import kit
from kit.core.errors import BadValue, ShapeMismatch
from kit.data import Split
from kit.data.output_checks import checked_loss, checked_scores
from kit.models import MLP


@pytest.fixture(scope="module")
def model() -> MLP:
    torch.manual_seed(0)
    return MLP()


def distance(outputs, targets):
    return (outputs.argmax(-1) - targets).abs().float()


WRONG = {
    "outside 0 to 1": (distance, r"gave values from 0 to 9; needs 0 \(wrong\) to 1 \(right\)"),
    "below 0": (lambda o, t: -distance(o, t), "gave values from -9 to 0"),
    "one number": (lambda o, t: (o.argmax(-1) == t).float().mean(), r"gave one number, 0\.\d+"),
    "a float": (lambda o, t: 0.5, "gave one number, 0.5; needs one value for each example"),
    "a table": (lambda o, t: o.softmax(-1), r"gave \(300, 10\); needs one value for each example"),
    "none": (lambda o, t: torch.zeros(0), r"gave \(0,\)"),
    "NaN": (lambda o, t: t / t, r"gave NaN or infinity for \d+ of 300 examples"),
    "a dict": (lambda o, t: {"right": 1}, "the score gave dict; needs a tensor"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_score_that_is_none_is_answered_in_one_line(name, model, vision):
    score, told = WRONG[name]
    with pytest.raises(BadValue, match=told) as error:
        kit.evaluate(model, replace(vision, score=score))
    assert "\n" not in str(error.value)


def test_a_trial_is_held_to_the_same(model, vision):
    with pytest.raises(BadValue, match="gave values from 2 to 2"):
        kit.evaluate(model, replace(vision, trial=lambda predict, split: torch.full((3,), 2.0)))


def test_a_score_may_be_of_numpy_or_a_list(model, vision):
    wanted = kit.evaluate(model, vision)

    def in_numpy(outputs, targets):
        return outputs.numpy().argmax(-1) == targets.numpy()

    assert kit.evaluate(model, replace(vision, score=in_numpy)) == wanted
    listed = replace(vision, score=lambda o, t: in_numpy(o, t).tolist())
    assert kit.evaluate(model, listed) == wanted


def test_rounding_above_one_is_one():
    assert checked_scores(
        lambda o, t: torch.tensor([1.0 + 2e-7, 0.0]), torch.zeros(2), torch.zeros(2)
    )[0] == pytest.approx(1.0, abs=0)


def test_a_loss_is_one_number(model, vision):
    each = replace(vision, loss=nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(BadValue, match=r"the loss gave a tensor \(300,\); .* add \.mean\(\)"):
        kit.evaluate(model, each)
    with pytest.raises(BadValue, match=r"the loss gave a tensor \(239,\)|\(\d+,\)"):
        kit.train(model, each, steps=1, live=False)
    for given in (lambda o, t: 0.5, lambda o, t: np.float64(0.5)):
        with pytest.raises(BadValue, match="gradients cannot pass"):
            kit.evaluate(model, replace(vision, loss=given))


# --- (B, 1) against (B,) -------------------------------------------------------------------------

COLUMN, ROW = torch.rand(8, 1), torch.rand(8)


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("pair", [(COLUMN, ROW), (ROW, COLUMN)])
def test_outputs_against_the_targets_of_all_examples_are_refused(pair):
    hidden = [
        mse_loss,
        lambda o, t: (o - t).square().mean(),
        lambda o, t: (o - t).abs().sum() / len(o),
    ]
    for loss in hidden:
        with pytest.raises(ShapeMismatch, match=r"broadcasts to \(8, 8\)"):
            checked_loss(loss, *pair)
    with pytest.raises(ShapeMismatch, match=r"the score was given outputs"):
        checked_scores(lambda o, t: ((o - t).abs() < 0.1).float().mean(1), *pair)


def test_a_loss_that_makes_one_shape_of_both_is_let_through():
    assert checked_loss(lambda o, t: mse_loss(o.squeeze(1), t), COLUMN, ROW) == mse_loss(
        COLUMN[:, 0], ROW
    )
    assert checked_loss(lambda o, t: mse_loss(o, t[:, None]), COLUMN, ROW) == mse_loss(
        COLUMN[:, 0], ROW
    )
    assert len(checked_scores(lambda o, t: (o[:, 0] - t).abs() < 2, COLUMN, ROW)) == 8
    assert checked_loss(mse_loss, ROW, ROW) == 0
    # Of one example, both shapes give the same.
    assert checked_loss(lambda o, t: (o - t).mean(), COLUMN[:1], ROW[:1]) is not None


def test_training_and_scoring_a_workload_with_the_classic_mistake_are_refused(vision):
    split = {
        name: Split(part.inputs, part.targets.float()) for name, part in vision.data.splits.items()
    }
    data = replace(vision.data, splits=split)
    work = replace(vision, load=lambda: data, loss=lambda o, t: (o - t).square().mean())
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    for call in (lambda: kit.evaluate(model, work), lambda: kit.train(model, work, steps=1)):
        with pytest.raises(ShapeMismatch, match=r"\(\d+, 1\) and targets \(\d+,\)"):
            call()
