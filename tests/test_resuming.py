"""What a training may not go on with: each difference is refused in a line; older files go on."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import kit
from kit.core.errors import BadValue
from kit.workloads import from_data

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


class Chain(nn.Sequential):
    """As nn.Sequential."""


class Doubled(nn.Sequential):
    """The same layers, called in another way, and printed as the other is."""

    def forward(self, x):
        return 2 * super().forward(x)

    def _get_name(self):
        return "Chain"


def net(kind=Chain):
    torch.manual_seed(0)
    return Chain(kind(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 2))


def smooth(outputs, targets, by):
    return cross_entropy(outputs, targets, label_smoothing=by)


def enclosing(by):
    return lambda outputs, targets: smooth(outputs, targets, by)


def work(**options):
    return from_data((X, Y), (X, Y), (X, Y), model=net, **options)


def trained(path, model, workload, steps=4, **options):
    return kit.train(model, workload, steps=steps, checkpoint=path, live=False, **options)


def frozen():
    model = net()
    model[0].requires_grad_(False)
    return model


def sgd(momentum, rate=0.1):
    return lambda parameters, lr: torch.optim.SGD(parameters, lr=rate, momentum=momentum)


class Weighted(nn.CrossEntropyLoss):
    """A loss with weights."""


DIFFER = {
    "container": (
        (net(), work(), {}),
        (net(Doubled), work(), {}),
        "module classes differ .*Chain.*Doubled",
    ),
    "frozen": (
        (net(), work(), {}),
        (frozen(), work(), {}),
        r"frozen weights differ .*none; given 0\.0\.w",
    ),
    "code of a loss": (
        (net(), work(loss=lambda o, t: cross_entropy(o, t)), {}),
        (net(), work(loss=lambda o, t: 2 * cross_entropy(o, t)), {}),
        "the loss differs",
    ),
    "enclosed": (
        (net(), work(loss=enclosing(0.1)), {}),
        (net(), work(loss=enclosing(0.2)), {}),
        "the loss differs",
    ),
    "partial": (
        (net(), work(loss=partial(smooth, by=0.1)), {}),
        (net(), work(loss=partial(smooth, by=0.2)), {}),
        "the loss differs",
    ),
    "object": (
        (net(), work(loss=Weighted(torch.tensor([1.0, 2.0]))), {}),
        (net(), work(loss=Weighted(torch.tensor([1.0, 3.0]))), {}),
        "the loss differs",
    ),
    "score": (
        (net(), work(score=lambda o, t: o.argmax(-1) == t), {}),
        (net(), work(score=lambda o, t: o.argmin(-1) == t), {}),
        "the score differs",
    ),
    "momentum": (
        (net(), work(), {"optimizer": sgd(0.5)}),
        (net(), work(), {"optimizer": sgd(0.9)}),
        r"momentum=0\.9; the saved training has momentum=0\.5",
    ),
    "rate": (
        (net(), work(), {"optimizer": sgd(0.5)}),
        (net(), work(), {"optimizer": sgd(0.5, 0.2)}),
        r"lr=0\.2; the saved training has lr=0\.1",
    ),
}


@pytest.mark.parametrize("name", DIFFER)
def test_a_training_does_not_go_on_with_something_else(name, tmp_path):
    (model, first, options), (other, second, changed), told = DIFFER[name]
    trained(tmp_path / "kept", model, first, **options)
    with pytest.raises(BadValue, match=told) as error:
        trained(tmp_path / "kept", other, second, 8, **changed)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": enclosing(0.1)},
        {"loss": partial(smooth, by=0.1), "score": lambda o, t: o.argmax(-1) == t},
        {"loss": Weighted(torch.tensor([1.0, 2.0]))},
        {},
    ],
)
def test_it_goes_on_with_the_same_made_again(options, tmp_path):
    ways = {"optimizer": sgd(0.5)}
    trained(tmp_path / "kept", net(), work(**options), **ways)
    assert trained(tmp_path / "kept", net(), work(**options), 8, **ways).steps == 8


def test_a_state_that_says_less_goes_on():
    model = net()
    state = kit.train(model, work(), steps=4, live=False).state
    for name in ("frozen weights", "loss", "module classes", "score"):
        del state["fingerprints"]["made of"][name]
    del state["fingerprints"]["options"]
    assert kit.train(model, work(), steps=8, resume=state, live=False).steps == 8


@pytest.mark.parametrize("wrong", ["", 3, "folder"])
def test_a_checkpoint_that_is_no_file_is_refused_at_once(wrong, tmp_path):
    path = tmp_path if wrong == "folder" else wrong
    with pytest.raises(BadValue, match="is a folder" if wrong == "folder" else "needs the path"):
        trained(path, net(), work())
    with pytest.raises(kit.errors.CheckpointRefused, match="it is a folder"):
        kit.load(tmp_path)


def test_a_model_is_called_by_its_class_and_size(tmp_path):
    state = kit.train(net(), work(), steps=4, live=False).state
    assert state["settings"]["model"] == "Chain: 58 parameters"
    assert kit.count(net(), X[:2]).model == "Chain: 58 parameters"


def test_a_state_with_the_name_of_an_older_kit_goes_on():
    model = net()
    state = kit.train(model, work(), steps=4, live=False).state
    state["settings"]["model"] = "Chain("
    assert kit.train(model, work(), steps=8, resume=state, live=False).steps == 8


def test_a_judge_of_another_python_is_known_by_its_name():
    model = net()
    state = kit.train(model, work(), steps=4, live=False).state
    made = state["fingerprints"]["made of"]
    made["loss"] = made["loss"].partition(" (")[0] + " (Python 2.7: 0123)"
    assert kit.train(model, work(), steps=8, resume=state, live=False).steps == 8


def test_two_trainings_do_not_replace_each_others_steps(tmp_path):
    path, once = tmp_path / "kept", iter([1])

    def other(info):
        for _ in once:
            trained(path, net(), work(), steps=6)

    with pytest.raises(BadValue, match="was written by another training since this one began"):
        trained(path, net(), work(), steps=4, after_step=other)
    assert len(kit.load(path, model=net()).state["losses"]) == 6


def test_a_checkpoint_that_was_deleted_meanwhile_is_written_again(tmp_path):
    path = tmp_path / "kept"
    trained(path, net(), work(), steps=4)
    trained(path, net(), work(), steps=8, after_step=lambda info: path.unlink(missing_ok=True))
    assert len(kit.load(path, model=net()).state["losses"]) == 8
