"""The model first, then the workload, everywhere; anything else is answered in one line."""

import inspect

import pytest
import torch
from torch import nn

import kit
from kit.core.errors import BadValue, DeviceUnavailable
from kit.data.arguments import check_pair
from kit.models import MLP


@pytest.fixture(scope="module")
def model() -> MLP:
    return MLP()


CALLS = {  # name -> the call, and what else it needs
    "train": {"steps": 1},
    "evaluate": {},
    "step_cost": {},
    "inference_ladder": {},
    "fastest": {"techniques": ("none",)},
    "techniques.taught_by": {},
}


def call(name: str):
    return kit.techniques.taught_by if "." in name else getattr(kit, name)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("place", ["first", "second"])
def test_what_takes_a_workload_takes_it_second(name, place):
    names = list(inspect.signature(call(name)).parameters)
    assert names[1] == "workload" and names[0] in ("model", "teacher")


def test_the_others_too():
    assert list(inspect.signature(kit.step_costs).parameters)[:2] == [
        "models",
        "workload",
    ]
    assert list(inspect.signature(kit.training_ladder).parameters)[:2] == ["make", "workload"]


@pytest.mark.parametrize("name", CALLS)
def test_the_other_order_is_answered_with_the_right_one(name, model, vision):
    with pytest.raises(BadValue) as error:
        call(name)(vision, model, **CALLS[name])
    assert str(error.value) == (
        f"kit.{name}: given a workload first; needs a model first: kit.{name}(model, work)."
    )


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_workload_gets_the_line_that_makes_one(name, model, vision):
    examples = torch.utils.data.TensorDataset(*vision.data["train"])
    loader = torch.utils.data.DataLoader(examples)
    for given, told in ((loader, "a DataLoader"), (vision.data, "a Dataset"), (None, "None")):
        with pytest.raises(BadValue) as error:
            call(name)(model, given, **CALLS[name])
        said = str(error.value)
        assert said.startswith(f"kit.{name}: given {told} second; needs a workload")
        assert "kit.workloads.from_data(train=" in said and f"kit.{name}(model, work)" in said
        assert "\n" not in said


def test_ladders_and_step_costs_say_what_they_need_first(model, vision):
    with pytest.raises(BadValue, match="given a workload first; needs a function that makes"):
        kit.training_ladder(vision, lambda: MLP(), target_loss=1.0)
    with pytest.raises(
        BadValue, match=r"given the model MLP first; .*training_ladder\(lambda: Net"
    ):
        kit.training_ladder(model, vision, target_loss=1.0)
    for given in (vision, model, "mlp"):
        with pytest.raises(
            BadValue, match=r"needs several models first: kit\.step_costs\(work\.models"
        ):
            kit.step_costs(given, vision)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (MLP, r"given the class MLP first; needs a model: make one: kit\.train\(MLP\(\), work\)"),
        ("mlp", r"given 'mlp' first; needs a model: make it: kit\.train\(work\.model\('mlp'\)"),
        (lambda: MLP(), "given the function <lambda> first"),
        (torch.zeros(3, 2), r"given a tensor \(3, 2\) first"),
        (None, "given None first"),
    ],
)
def test_what_is_no_model_gets_the_line_that_makes_one(given, told, vision):
    with pytest.raises(BadValue, match=told):
        check_pair("kit.train", given, vision)


def test_arrays_of_numpy_are_answered_with_the_line_that_makes_a_tensor(model, vision):
    inputs = vision.data["test"].inputs[:2].numpy()
    with pytest.raises(
        BadValue, match=r"inputs are a ndarray float32 \(2, 1, 8, 8\); needs a tens"
    ):
        kit.predict(model, inputs)
    with pytest.raises(BadValue, match="inputs are a list; needs a tensor"):
        kit.predict(nn.Linear(2, 2), [[1.0, 2.0]])


def test_a_workload_that_was_not_made_is_recognised(model):
    with pytest.raises(BadValue, match=r"work = kit\.workloads\.vision\(\), then"):
        kit.evaluate(model, kit.workloads.vision)
    with pytest.raises(BadValue, match=r"work = kit\.workloads\.get\('vision'\), then"):
        kit.evaluate(model, "vision")


def test_a_model_that_has_the_words_of_a_workload_is_still_a_model(vision):
    class Lightning(nn.Linear):
        def batches(self): ...
        def loss(self): ...
        def score(self): ...

    check_pair("kit.train", Lightning(1, 1), vision)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.ones(2, 64).double(), r"torch\.float64, .* are torch\.float32: .* Use inputs\.to"),
        (torch.ones(2, 64).long(), r"torch\.int64, .* Use inputs\.to\(torch\.float32\)"),
        ({"a": torch.ones(2, 64)}, "given a dict of inputs: .* 'inputs'; MLP takes inputs"),
        ((torch.ones(2, 64),) * 2, "given a tuple of inputs: too many .*; MLP takes inputs"),
    ],
)
def test_inputs_that_the_model_cannot_take_are_explained(inputs, message, model):
    with pytest.raises(BadValue, match=message):
        kit.predict(model, inputs)


def test_a_workload_is_not_the_inputs(model, vision):
    with pytest.raises(BadValue, match=r"needs a tensor, such as work\.example\(32\)\[0\]"):
        kit.predict(model, vision)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda f: kit.measure(3),
            BadValue,
            r"kit\.measure is given a value \(int\); needs a function",
        ),
        (
            lambda f: kit.compare({"a": 3, "b": f}),
            BadValue,
            r"'a' is given a value \(int\); needs a function",
        ),
        (
            lambda f: kit.measure_parts({"a": 3}),
            BadValue,
            r"'a' is given a value \(int\); needs a function",
        ),
        (
            lambda f: kit.sweep(3, [1]),
            BadValue,
            r"is given a value \(int\); needs a function that makes",
        ),
        (
            lambda f: kit.sweep(lambda n: n, [1]),
            BadValue,
            r"batch size 1 is given a value \(int\); needs a",
        ),
        (lambda f: kit.measure(f, device="gpu"), DeviceUnavailable, "'gpu', which is not a device"),
        (lambda f: kit.load("a.kit", "tpu"), DeviceUnavailable, "'tpu', .* Use kit.device"),
        (lambda f: kit.peaks("gpu"), DeviceUnavailable, "'gpu', .* Use kit.device"),
        (lambda f: kit.compare(f, f), BadValue, r"given 2 arguments; .*kit\.compare\(\{'one'"),
        (lambda f: kit.monitoring.drfit, AttributeError, "'drfit'; did you mean 'drift'.* It has:"),
        (lambda f: kit.techniques.half8, AttributeError, "'half8'; did you mean 'half'"),
    ],
)
def test_a_wrong_call_is_answered_with_the_right_one(call, error, message):
    with pytest.raises(error, match=message):
        call(lambda: None)
