"""Workloads: each can be trained to its target and used. A new one is tested as it is listed."""

import math
import random
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kit.core.errors import BadValue, NotInstalled, ShapeMismatch, UnknownName
from kit.data import Split
from kit.inference import Score, evaluate, predict
from kit.training import train
from kit.workloads import WORKLOADS, Workload, get, is_right
from kit.workloads.workload import variance_explained


@pytest.fixture(scope="module", params=WORKLOADS)
def work(request) -> Workload:
    """With its data, which are read once; left out, with the reason, where it cannot be made."""
    work = get(request.param)
    try:
        assert work.data
    except NotInstalled as error:
        pytest.skip(str(error))
    return work


def worth(work: Workload, model: nn.Module, split: str = "validation") -> Tensor:
    """What each example, or each attempt, of a split is worth."""
    if work.trial is not None:
        return work.trial(partial(predict, model), split)
    inputs, targets = work.data[split]
    return work.score(predict(model, inputs), targets)


# --- What each promises --------------------------------------------------------------------------


def test_it_is_called_as_it_is_registered_and_says_what_it_stands_for(work):
    assert WORKLOADS[work.name]().name == work.name
    for told in (work.stands_for, work.differs):
        assert told and told == " ".join(told.split()) and not told.endswith(".")


def test_its_measure_ends_a_sentence_that_a_share_begins(work):
    """As in "95.0 % [90.0 to 97.5 %] right on 300 test examples"."""
    assert work.measure == work.measure.strip() and work.measure[-1] not in ".,:;"
    score = Score(285, 285, 300, "test", 0.1, work.measure)
    assert f"] {work.measure} on 300 test examples" in repr(score)
    assert 0 < work.target <= 1


def test_each_of_its_models_takes_its_examples(work):
    inputs, targets = work.example(3)
    for name in work.models:
        loss = work.loss(work.model(name)(inputs), targets)
        assert loss.shape == () and loss.isfinite() and loss.requires_grad


def test_a_score_is_a_value_from_0_to_1_for_each_example_that_counts(work):
    for name in work.models:
        values = worth(work, work.model(name)).double()
        assert values.ndim == 1 and len(values) >= 1
        assert ((values >= 0) & (values <= 1)).all()


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


def test_its_data_are_the_same_every_time_and_draw_nothing_from_the_generators_of_others(work):
    def states() -> tuple:
        _, drawn, place, *_ = np.random.get_state()
        return torch.get_rng_state().tolist(), random.getstate(), drawn.tolist(), place

    before = states()
    again = get(work.name).data
    assert states() == before
    for name, split in work.data.splits.items():
        assert all(map(torch.equal, split, again[name]))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_default_training_reaches_the_target(work):
    """From a cold start, on examples that it was not trained on."""
    torch.manual_seed(0)
    model = work.model()
    assert evaluate(model, work).mean.value < work.target
    train(model, work, **work.recipe, live=False)
    assert evaluate(model, work).mean.value >= work.target


def test_an_unknown_model_or_workload_lists_those_there_are(work):
    with pytest.raises(UnknownName, match=r"no model is called 'cmn'"):
        work.model("cmn")
    with pytest.raises(UnknownName, match=r"no workload is called 'visoin'; did you mean 'vision'"):
        get("visoin")


# --- What is not there ---------------------------------------------------------------------------


def test_a_workload_without_its_extra_says_how_to_get_it_before_any_work(vision):
    def load():
        raise AssertionError("the data were read")

    lame = replace(vision, load=load, needs=("torch", "no_such_engine"), extra="engine")
    for asked in (lame.check_installed, lame.model, lambda: lame.data, lambda: lame.size("test")):
        with pytest.raises(NotInstalled, match=r"'vision' needs no_such_engine, .*\.\[engine\]"):
            asked()


def test_a_workload_with_its_extra_has_nothing_to_say(vision):
    replace(vision, needs=("torch",), extra="engine").check_installed()


def test_the_data_are_read_when_they_are_first_needed(vision):
    read = []

    def load():
        read.append(1)
        return vision.load()

    work = replace(vision, load=load)
    assert work.name and repr(work) and not read
    assert work.model() and work.size("test") and work.example() and read == [1]


# --- Scores --------------------------------------------------------------------------------------


def test_uniform_logits_lose_log_c(vision):
    """A model that holds all classes equally likely loses ln C nats, whatever the targets."""
    _, targets = vision.example(100)
    assert float(vision.loss(torch.zeros(100, 10), targets)) == pytest.approx(math.log(10))


def test_the_largest_logit_is_the_answer():
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert is_right(logits, torch.tensor([1, 0, 1])).tolist() == [True, True, False]


# --- The same work on other examples -------------------------------------------------------------


def test_other_targets_change_one_split_alone(vision):
    wrong = torch.zeros_like(vision.data["train"].targets)
    other = vision.with_targets("train", wrong)
    assert torch.equal(other.data["train"].targets, wrong)
    assert other.data["train"].inputs is vision.data["train"].inputs
    assert other.data["test"] is vision.data["test"]
    assert vision.data["train"].targets.any()  # the workload itself is as it was


def test_other_targets_have_to_fit(vision):
    with pytest.raises(ShapeMismatch, match=r"given targets \(3,\); .* 'train' needs \(1197,\)"):
        vision.with_targets("train", torch.zeros(3))


def test_other_examples_change_one_split_alone(vision):
    inputs, targets = vision.data["train"]
    fewer = vision.with_split("train", Split(inputs[:50], targets[:50]))
    assert (fewer.size("train"), vision.size("train")) == (50, 1_197)
    assert fewer.data["test"] is vision.data["test"]
    again = fewer.with_split("test", Split(inputs[:7], targets[:7]))
    assert (again.size("train"), again.size("test")) == (50, 7)
    assert train(again.model("mlp"), again, epochs=1, batch_size=10, live=False).steps == 5


def test_other_sizes_give_each_example_to_one_split(vision):
    other = vision.with_sizes(train=1_000, validation=197, test=600)
    assert [other.size(name) for name in other.data.splits] == [1_000, 197, 600]
    for i in range(2):
        before, after = (torch.cat([s[i] for s in w.data.splits.values()]) for w in (vision, other))
        assert torch.equal(before, after)
    with pytest.raises(BadValue, match="add up to 1,797 examples"):
        vision.with_sizes(train=1_000, test=600)


def test_other_inputs_keep_their_targets(vision):
    other = vision.with_inputs(lambda inputs: 255 * inputs)
    for name, part in vision.data.splits.items():
        assert torch.equal(other.data[name].inputs, 255 * part.inputs)
        assert other.data[name].targets is part.targets


# --- Without labels ------------------------------------------------------------------------------


def test_without_labels_each_image_is_its_own_target():
    work = get("vision")
    plain = work.unlabelled()
    for inputs, targets in plain.batches("validation", 64):
        assert torch.equal(inputs, targets)
    assert plain.data.classes == () and work.data.classes
    torch.manual_seed(0)
    model = plain.model()
    before = evaluate(model, plain).mean.value
    train(model, plain, epochs=8, live=False)
    after = evaluate(model, plain)
    assert before < 0.2 < plain.target < after.mean.value
    assert after.measure == "of the variance explained"


def test_the_variance_explained_is_none_for_the_mean_and_all_for_a_copy():
    targets = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    mean = targets.mean(0, keepdim=True).expand_as(targets)
    assert torch.allclose(variance_explained(mean, targets), torch.zeros(50), atol=1e-5)
    assert torch.equal(variance_explained(targets, targets), torch.ones(50))
    half = variance_explained((targets + mean) / 2, targets)
    assert torch.allclose(half, torch.full((50,), 0.75))
    assert torch.equal(variance_explained(mean - 5, targets), torch.zeros(50))  # never below 0
