"""Inference: nothing is changed by it, and a score is what one counts by hand."""

import copy
import gc
import math
import pickle
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from families import fresh, inputs_for
from torch import nn

from kit.core.errors import BadValue, DeviceMismatch, ShapeMismatch, UnknownName
from kit.core.statistics import average, proportion
from kit.data import Dataset, Split
from kit.data.fingerprints import metric_fingerprints
from kit.inference import Score, device_of, evaluate, evaluating, predict
from kit.models import FAMILIES, MLP


class Uniform(nn.Module):
    """Holds all ten classes equally likely; the first is then its answer."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(images), 10)


class Restless(nn.Module):
    """Dropout and running statistics: what a prediction in training mode would show or change."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.norm(x).flatten(1)))


@pytest.fixture
def images():
    return torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


# --- Predict -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prediction_is_the_models_output_without_a_graph(family):
    model = fresh(family).eval()
    inputs = inputs_for(model, 5)
    outputs = predict(model, inputs)
    assert torch.equal(outputs, model(inputs))
    assert not outputs.requires_grad and not outputs.is_inference()  # a head can train on them


@pytest.mark.parametrize("mode", [True, False])
def test_the_fast_path_gives_the_outputs_of_the_plain_one_bit_for_bit(mode, images):
    model = Restless().train(mode)
    with evaluating(model), torch.no_grad():
        plain = model(images)
    fast = predict(model, images)
    assert torch.equal(fast, plain) and fast.requires_grad == plain.requires_grad
    assert model.training == model.norm.training == mode


def test_a_prediction_changes_no_bit_of_the_model(images):
    model = Restless().train()
    before = copy.deepcopy(model.state_dict())
    first, second = predict(model, images), predict(model, images)
    assert torch.equal(first, second)  # no dropout
    assert all(torch.equal(now, before[name]) for name, now in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("part", [True, False])
def test_each_part_gets_its_own_mode_back(whole, part, images):
    model = Restless().train(whole)
    model.norm.train(part)
    predict(model, images)
    assert (model.training, model.norm.training, model.drop.training) == (whole, part, whole)


class Nested(nn.Module):
    """Parts in a list and in a sequence, and one that was left out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.register_module("left_out", None)
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.Dropout()), nn.ReLU()])
        self.none_yet = nn.ModuleList()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for layer in self.layers:
            x = layer(x)
        return x


def after_a_deletion(model: Nested) -> None:
    del model.layers[1]  # PyTorch makes a new dict of the others
    model.layers.append(nn.Dropout())


# Fresh parts are in training mode.
CHANGES = {
    "the model alone": lambda model: setattr(model, "training", True),
    "a part": lambda model: model.layers[0][1].train(),
    "a list of parts": lambda model: setattr(model.layers, "training", True),
    "another part": lambda model: setattr(model, "first", nn.Linear(4, 4)),
    "another part, by its dict": lambda model: model._modules.update(first=nn.Linear(4, 4)),
    "an equal sequence": lambda model: model.layers.__setitem__(
        0, nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    ),
    "parts in a part without any": lambda model: setattr(model.first, "more", nn.Dropout()),
    "parts in the place of one": lambda model: model.layers.__setitem__(
        1, nn.Sequential(nn.Dropout()).train(False).append(nn.Dropout())
    ),
    "a part that was left out": lambda model: setattr(model, "left_out", nn.Dropout()),
    "the first of a list": lambda model: model.none_yet.append(nn.Dropout()),
    "one more": lambda model: model.layers.append(nn.Dropout()),
    "one more in the middle": lambda model: model.layers.insert(1, nn.Dropout()),
    "one more after a deletion": after_a_deletion,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_part_in_training_mode_is_seen_whenever_it_came(change):
    model, inputs, seen = Nested().eval(), torch.ones(3, 4), []
    for _ in range(3):  # nothing that was found before may hide it
        predict(model, inputs)
    change(model)
    modes = [part.training for part in model.modules()]
    model.register_forward_pre_hook(lambda *_: seen.extend(p.training for p in model.modules()))
    predict(model, inputs)
    assert any(modes) and len(seen) == len(modes) and not any(seen)
    assert [part.training for part in model.modules()] == modes


def test_a_copy_of_a_model_that_predicted_has_modes_of_its_own():
    model, inputs = Nested().eval(), torch.ones(3, 4)
    predict(model, inputs)
    twin = copy.deepcopy(model).train()
    assert torch.equal(predict(twin, inputs), predict(model, inputs))  # no dropout
    assert all(part.training for part in twin.modules())
    assert not any(part.training for part in model.modules())


def test_a_part_that_equals_the_one_before_it_is_another_part():
    class Equal(nn.Dropout):
        __hash__ = nn.Dropout.__hash__

        def __eq__(self, other):
            return isinstance(other, Equal)

    model, inputs = nn.Sequential(nn.Linear(4, 4), Equal()).eval(), torch.ones(3, 4)
    predict(model, inputs)
    model[1] = Equal()  # in training mode
    assert torch.equal(predict(model, inputs), model[0](inputs))  # no dropout


def test_what_a_prediction_found_is_in_no_fingerprint_and_in_no_pickle():
    teacher = Nested().eval()
    task = SimpleNamespace(loss=lambda outputs, _: teacher(outputs).sum(), score=len)
    before, pickled = metric_fingerprints(task), pickle.dumps(teacher)
    predict(teacher, torch.ones(3, 4))
    assert metric_fingerprints(task) == before
    read = pickle.loads(pickle.dumps(teacher))
    assert len(pickle.dumps(teacher)) < len(pickled) + 64  # no dict of any part
    assert torch.equal(predict(read, torch.ones(3, 4)), predict(teacher, torch.ones(3, 4)))


def test_weights_of_a_model_that_predicted_are_free_without_a_collection():
    model = Nested().eval()
    predict(model, torch.ones(3, 4))
    gone, collected = weakref.ref(model.first.weight), gc.isenabled()
    gc.disable()
    try:
        del model
        assert gone() is None
    finally:
        (gc.enable if collected else gc.disable)()


def test_a_model_that_predicted_is_forgotten_with_its_weights():
    model = Nested().eval()
    model.layers.register_forward_hook(model.__repr__)  # a part refers to the whole
    predict(model, torch.ones(3, 4))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_the_mode_comes_back_after_an_error():
    model = MLP().train()
    with pytest.raises(ShapeMismatch):
        predict(model, torch.zeros(2, 3))
    assert all(part.training for part in model.modules())


def test_evaluating_lends_the_model_in_evaluation_mode():
    model = Restless().train()
    with evaluating(model) as lent:
        assert lent is model
        assert not any(part.training for part in model.modules())


def test_a_shared_part_gets_its_mode_back_too():
    model = nn.Sequential(part := nn.Dropout(), part).train()
    with evaluating(model):
        assert not part.training
    assert part.training


def test_inputs_on_another_device_are_refused_with_both_and_the_way_out(images):
    """The meta device is on every machine: it knows shapes and has no numbers."""
    with pytest.raises(DeviceMismatch, match=r"'cpu'.*'meta'.*inputs\.to\('cpu'\)"):
        predict(MLP(), images.to("meta"))


def test_another_error_of_the_model_stays_what_it_is(images):
    model = MLP()
    model.head = nn.Linear(3, 10)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        predict(model, images)


def test_a_model_lives_where_its_weights_are():
    assert device_of(MLP().to("meta")) == torch.device("meta")
    assert device_of(Uniform()) == torch.device("cpu")


# --- Evaluate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_model_that_knows_nothing_scores_as_by_hand(vision, split):
    score = evaluate(Uniform(), vision, split)
    targets = vision.data[split].targets
    right = int((targets == 0).sum())
    assert (score.total, score.squares, score.n) == (right, right, len(targets))
    assert score.mean == score.accuracy == proportion(right, len(targets))
    assert score.loss == pytest.approx(math.log(10), rel=1e-6)
    assert score.split == split


@pytest.mark.parametrize("batch_size", [1, 7, 299, 300, 10_000])
def test_the_batch_size_does_not_change_the_score(vision, batch_size):
    torch.manual_seed(0)
    model = MLP()
    whole, parts = evaluate(model, vision), evaluate(model, vision, batch_size=batch_size)
    assert (parts.total, parts.n) == (whole.total, 300)
    assert parts.loss == pytest.approx(whole.loss, rel=1e-5)


def test_evaluating_changes_nothing(vision):
    model = Restless().train()
    before, rng = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    evaluate(model, vision)
    assert all(torch.equal(now, before[name]) for name, now in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng) and model.training


def test_an_unknown_split_lists_those_there_are(vision):
    with pytest.raises(UnknownName, match=r"train, validation, test"):
        evaluate(Uniform(), vision, "tset")


def test_an_empty_split_cannot_be_scored(vision):
    nothing = Split(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64))
    data = Dataset("none", {"test": nothing}, vision.data.classes, "nowhere", "CC0")
    with pytest.raises(BadValue, match="the split 'test' of 'vision' has no examples"):
        evaluate(Uniform(), replace(vision, load=lambda: data))


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_wrong_batch_size_is_refused(vision, batch_size):
    with pytest.raises(BadValue, match="batch_size"):
        evaluate(Uniform(), vision, batch_size=batch_size)


# --- Scores --------------------------------------------------------------------------------------


def test_a_score_of_right_and_wrong_carries_wilsons_interval():
    score = Score(total=297, squares=297, n=300, split="test", loss=0.05)
    assert repr(score) == "99.0 % [97.1 to 99.7 %] right on 300 test examples, loss 0.0500"
    assert score.mean == score.accuracy == proportion(297, 300)
    assert score.to_dict()["mean_share"]["value"] == 0.99
    assert "300 test examples; Wilson's 95 % interval" in score.table().caption
    assert score.table().header[0] == "right"


def test_a_score_of_shares_carries_students_interval():
    shares = [0.625, 0.75, 0.75, 0.875]  # together 3.0, as three right answers would be
    total, squares = sum(shares), sum(share**2 for share in shares)
    score = Score(total, squares, 4, "test", 0.05, "of the pole's time")
    assert score.mean == average(total, squares, 4, "%", limits=(0, 1))
    assert (score.mean.value, score.mean.unit) == (0.75, "%")
    assert repr(score).startswith("75.0 % [")
    assert "] of the pole's time on 4 test examples" in repr(score)
    assert "Student's" in score.table().caption


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([0.5], 0.0, 1.0), ([0.9, 0.9, 0.1], 0.0, 1.0), ([0.5, 0.5], 0.0, 1.0)],
)
def test_the_interval_of_a_share_stays_between_nothing_and_all(values, low, high):
    score = Score(sum(values), sum(value**2 for value in values), len(values), "test", 0.05, "up")
    assert (score.mean.low, score.mean.high) == (low, high)


def test_only_a_share_of_right_answers_is_an_accuracy():
    score = Score(3, 3, 4, "test", 0.05, "of the fraud found")
    assert score.mean == proportion(3, 4)
    with pytest.raises(BadValue, match=r"a share of the fraud found, not an accuracy\. Use \.mean"):
        score.accuracy  # noqa: B018


def closeness(outputs, targets):
    """A share of each example, such as a forecast's: how near 1 the probability is."""
    return outputs.softmax(-1).gather(1, targets.unsqueeze(1)).squeeze(1)


def test_shares_are_added_up_as_they_are(vision):
    torch.manual_seed(0)
    model, work = MLP(), replace(vision, score=closeness, measure="of certainty")
    score = evaluate(model, work)
    inputs, targets = vision.data["test"]
    shares = [float(p[t]) for p, t in zip(predict(model, inputs).softmax(-1), targets, strict=True)]
    assert score.n == 300 and score.measure == "of certainty"
    assert score.total == pytest.approx(sum(shares))
    assert score.squares == pytest.approx(sum(share**2 for share in shares))
    assert score.mean.value == pytest.approx(sum(shares) / 300)


def test_fewer_values_than_examples_may_count(vision):
    """As where the score is about the frauds alone: here about the sevens."""

    def of_the_sevens(outputs, targets):
        return (outputs.argmax(-1) == 7)[targets == 7]

    sevens = int((vision.data["test"].targets == 7).sum())
    score = evaluate(Uniform(), replace(vision, score=of_the_sevens, measure="of the sevens"))
    assert (score.total, score.n) == (0, sevens)


def test_all_outputs_of_a_split_are_judged_together(vision):
    """A rank among all others cannot be told from a batch alone."""
    seen = []

    def judge(outputs, targets):
        seen.append((outputs.shape, len(targets)))
        return outputs.argmax(-1) == targets

    evaluate(Uniform(), replace(vision, score=judge), batch_size=7)
    assert seen == [((300, 10), 300)]


def test_a_trial_takes_the_place_of_the_score(vision):
    """It tries the model in the world, here on inputs of its own; the loss stays the data's."""
    asked = []

    def never(outputs, targets):
        raise AssertionError("the score was asked")

    def trial(predict, split):
        answers = predict(torch.zeros(5, 1, 8, 8))
        asked.append((split, answers.shape, answers.requires_grad))
        return torch.tensor([1.0, 0.5])

    model = MLP().train()
    score = evaluate(model, replace(vision, score=never, trial=trial, measure="balanced"))
    assert asked == [("test", (5, 10), False)] and model.training
    assert (score.total, score.squares, score.n) == (1.5, 1.25, 2)
    assert score.loss == pytest.approx(evaluate(model, vision).loss)
