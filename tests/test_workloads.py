"""Workloads: each can be trained to its target and used. A new one is tested as it is listed."""

import math

import pytest
import torch

from kit.errors import ShapeMismatch, UnknownName
from kit.inference import evaluate
from kit.training import train
from kit.workloads import SHELF, Workload, get, is_right


@pytest.fixture(scope="module", params=SHELF)
def work(request) -> Workload:
    return get(request.param)


def test_it_is_called_as_on_the_shelf_and_says_what_it_stands_for(work):
    assert SHELF[work.name]().name == work.name
    assert work.stands_for and work.differs


def test_each_of_its_models_takes_its_examples(work):
    inputs, targets = work.example(3)
    for name in work.models:
        outputs = work.model(name)(inputs)
        assert work.loss(outputs, targets).shape == ()
        assert work.score(outputs, targets).shape == (3,)


def test_the_first_model_is_the_default(work):
    assert repr(work.model()) == repr(work.model(next(iter(work.models))))


def test_each_model_is_a_fresh_one(work):
    assert work.model() is not work.model()


@pytest.mark.parametrize("n", [1, 5, 4_000])
def test_an_example_may_have_any_size(work, n):
    inputs, targets = work.example(n)
    assert len(inputs) == len(targets) == n
    size = work.size("train")
    if n > size:
        assert torch.equal(inputs[size], inputs[0]) and torch.equal(targets[size], targets[0])


def test_batches_cover_a_split(work):
    assert sum(len(targets) for _, targets in work.batches("test", 64)) == work.size("test")


def test_a_default_training_reaches_the_target(work):
    torch.manual_seed(0)
    model = work.model()
    before = evaluate(model, work)
    train(model, work, epochs=15, live=False)
    after = evaluate(model, work)
    assert before.accuracy.value < 0.5 < work.target <= after.accuracy.value


def test_an_unknown_model_or_workload_lists_those_there_are(work):
    with pytest.raises(UnknownName, match=r"no model is called 'cmn'"):
        work.model("cmn")
    with pytest.raises(UnknownName, match=r"no workload is called 'visoin'; did you mean 'vision'"):
        get("visoin")


def test_uniform_logits_lose_log_c(work):
    """A model that holds all classes equally likely loses ln C nats, whatever the targets."""
    _, targets = work.example(100)
    logits = torch.zeros(100, len(work.data.classes))
    assert float(work.loss(logits, targets)) == pytest.approx(math.log(len(work.data.classes)))


def test_the_largest_logit_is_the_answer():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert is_right(logits, torch.tensor([1, 0, 1])).tolist() == [True, True, False]


def test_other_targets_change_one_split_alone(work):
    wrong = torch.zeros_like(work.data["train"].targets)
    other = work.with_targets("train", wrong)
    assert torch.equal(other.data["train"].targets, wrong)
    assert other.data["train"].inputs is work.data["train"].inputs
    assert other.data["test"] is work.data["test"]
    assert work.data["train"].targets.any()  # the workload itself is as it was


def test_other_targets_have_to_fit(work):
    with pytest.raises(ShapeMismatch, match=r"\(3,\).*'train' needs \(1197,\)|given targets"):
        work.with_targets("train", torch.zeros(3))
