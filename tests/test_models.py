"""Models: every family, by what each promises. A new one is tested as soon as it is listed."""

import platform
from collections import Counter
from dataclasses import replace

import pytest
import torch
from families import INPUTS, fresh, inputs_for, larger, loss_of, sizes
from torch import nn
from torch.profiler import ProfilerActivity, profile

from kit.core.errors import BadValue, ShapeMismatch, UnknownName
from kit.models import CNN, FAMILIES, MLP, RNN, CNNConfig, MLPConfig, RNNConfig, build


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_every_family_has_a_line_that_says_what_it_takes():
    assert set(INPUTS) == set(FAMILIES)


@pytest.mark.parametrize("make", [fresh, larger])
@pytest.mark.parametrize("n", [1, 3])
def test_each_example_has_an_output(family, make, n):
    model = make(family)
    outputs = model(inputs_for(model, n))
    assert len(outputs) == n
    assert outputs.dtype == torch.float32 and not outputs.isnan().any()


def test_the_same_seed_gives_the_same_model(family):
    one, other, third = fresh(family, 1), fresh(family, 1), fresh(family, 2)
    assert torch.equal(one(inputs_for(one, 2)), other(inputs_for(one, 2)))
    assert not torch.equal(one(inputs_for(one, 2)), third(inputs_for(one, 2)))


def test_the_examples_of_a_batch_do_not_touch_each_other(family):
    model = fresh(family).eval()
    batch = inputs_for(model, 4)
    alone = torch.cat([model(example.unsqueeze(0)) for example in batch])
    torch.testing.assert_close(model(batch), alone, atol=1e-5, rtol=1e-5)


def test_every_weight_learns(family):
    model = fresh(family)
    loss_of(model(inputs_for(model, 64))).backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still


def test_build_makes_it_again_from_its_config(family):
    model = larger(family).eval()
    again = build(family, vars(model.config)).eval()
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(inputs_for(model, 2)), model(inputs_for(model, 2)))


def test_it_tells_its_family_and_size_in_one_line(family):
    model = fresh(family)
    assert repr(model).startswith(f"{family}(")
    assert repr(model).endswith(f": {params(model):,} parameters")
    assert "\n" not in repr(model)


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", None])
def test_a_wrong_size_is_refused_by_name(family, value):
    config = FAMILIES[family][1]()
    assert sizes(config)
    for name in sizes(config):
        with pytest.raises(BadValue, match=rf"{name}={value!r}: needs a whole number"):
            replace(config, **{name: value})


def spoilt(inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Inputs with a dimension more or less, or twice as wide; tokens may be ever so many."""
    wide = {"wide": torch.cat([inputs, inputs], -1)} if inputs.is_floating_point() else {}
    return {"deep": inputs.unsqueeze(0), "lone": inputs[0], **wide}


def test_inputs_of_another_shape_are_refused_with_both_shapes(family):
    model = fresh(family)
    for wrong in spoilt(inputs_for(model, 2)).values():
        with pytest.raises(ShapeMismatch, match="needed") as told:
            model(wrong)
        assert str(tuple(wrong.shape)) in str(told.value)


def test_an_unknown_family_lists_those_there_are():
    with pytest.raises(UnknownName, match="no model family is called 'CMN'; did you mean 'CNN'"):
        build("CMN", {})


def test_an_unknown_option_is_named(family):
    with pytest.raises(BadValue, match="colour"):
        build(family, {"colour": 3})


# --- A multilayer perceptron ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (MLPConfig(), (64 * 128 + 128) + (128 * 128 + 128) + (128 * 10 + 10)),
        (MLPConfig(hidden=16, layers=1), (64 * 16 + 16) + (16 * 10 + 10)),
        (MLPConfig(hidden=5, layers=3, features=24, classes=7),
         (24 * 5 + 5) + 2 * (5 * 5 + 5) + (5 * 7 + 7)),
    ],
)  # fmt: skip
def test_an_mlp_has_the_parameters_counted_by_hand(config, count):
    assert params(MLP(config)) == count


def test_an_mlp_computes_what_its_formula_says():
    model = fresh("MLP", hidden=3, layers=1, features=2, classes=2)
    x = torch.tensor([[0.5, -1.0]])
    (w1, b1), (w2, b2) = [(m.weight, m.bias) for m in model.modules() if isinstance(m, nn.Linear)]
    expected = w2 @ torch.relu(w1 @ x[0] + b1) + b2
    torch.testing.assert_close(model(x)[0], expected)


@pytest.mark.parametrize("shape", [(24,), (4, 6), (2, 3, 4), (1, 2, 3, 4)])
def test_an_mlp_takes_examples_of_any_shape(shape):
    model = fresh("MLP", features=24)
    rows = torch.rand(5, 24)
    assert torch.equal(model(rows.view(5, *shape)), model(rows))


def test_an_mlp_says_how_many_numbers_it_needs():
    with pytest.raises(
        ShapeMismatch, match=r"\(2, 1, 9, 8\), 72 numbers per example; .* 64.*work\.model"
    ):
        fresh("MLP")(torch.zeros(2, 1, 9, 8))


# --- A convolutional network ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (CNNConfig(), (9 * 16 + 16) + (9 * 16 * 32 + 32) + (32 * 16 * 48 + 48) + (48 * 10 + 10)),
        (CNNConfig(filters=2, hidden=3, channels=3, height=6, width=4, classes=5),
         (9 * 3 * 2 + 2) + (9 * 2 * 4 + 4) + (4 * 3 * 2 * 3 + 3) + (3 * 5 + 5)),
    ],
)  # fmt: skip
def test_a_cnn_has_the_parameters_counted_by_hand(config, count):
    assert params(CNN(config)) == count


def test_a_cnn_takes_images_of_any_size_and_number_of_channels():
    model = fresh("CNN", channels=3, height=7, width=5, classes=4)
    assert model(inputs_for(model, 2)).shape == (2, 4)


@pytest.mark.parametrize("side", ["height", "width"])
def test_an_image_that_pooling_cannot_halve_is_refused_at_once(side):
    assert fresh("CNN", **{side: 2})
    with pytest.raises(BadValue, match="needs at least 2×2"):
        fresh("CNN", **{side: 1})


@pytest.mark.parametrize("shape", [(2, 1, 9, 8), (2, 3, 8, 8), (2, 64), (1, 8, 8)])
def test_a_cnn_refuses_images_of_another_shape_with_both_shapes(shape):
    with pytest.raises(ShapeMismatch) as told:
        fresh("CNN")(torch.zeros(shape))
    assert str(shape) in str(told.value) and "(B, 1, 8, 8)" in str(told.value)
    assert ("unsqueeze(0)" in str(told.value)) == (len(shape) == 3)


def test_a_cnn_finds_the_same_stroke_anywhere():
    """Its first layers do not care where on the sheet a stroke is, away from the border."""
    model = fresh("CNN")
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 2:5, 3] = 1
    moved = image.roll(1, dims=3)
    torch.testing.assert_close(
        model.conv1(image).roll(1, dims=3)[..., 2:], model.conv1(moved)[..., 2:]
    )


# --- A recurrent network -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (RNNConfig(), 3 * (8 * 64 + 64 * 64 + 64 + 64) + (64 * 10 + 10)),
        (RNNConfig(features=5, hidden=4, layers=2, outputs=1),
         3 * (5 * 4 + 4 * 4 + 4 + 4) + 3 * (4 * 4 + 4 * 4 + 4 + 4) + (4 + 1)),
    ],
)  # fmt: skip
def test_an_rnn_has_the_parameters_counted_by_hand(config, count):
    assert params(RNN(config)) == count


def gru_step(gru, x, h):
    """Cho et al. 2014, equations 5 to 8; but as PyTorch has it, what is reset is a product."""
    gates_x = gru.weight_ih_l0 @ x + gru.bias_ih_l0
    gates_h = gru.weight_hh_l0 @ h + gru.bias_hh_l0
    (reset_x, update_x, new_x), (reset_h, update_h, new_h) = gates_x.chunk(3), gates_h.chunk(3)
    reset, update = torch.sigmoid(reset_x + reset_h), torch.sigmoid(update_x + update_h)
    new = torch.tanh(new_x + reset * new_h)
    return update * h + (1 - update) * new


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_an_rnn_computes_what_its_formula_says(steps):
    model = fresh("RNN", features=3, hidden=4, outputs=2)
    sequence, h = torch.randn(1, steps, 3), torch.zeros(4)
    for x in sequence[0]:
        h = gru_step(model.gru, x, h)
    expected = model.head.weight @ h + model.head.bias
    torch.testing.assert_close(model(sequence)[0], expected)


def test_what_an_rnn_says_at_the_end_depends_on_the_first_step():
    model = fresh("RNN")
    sequence = inputs_for(model, 1)
    changed = sequence.clone()
    changed[:, 0] += 1
    assert (model(changed) - model(sequence)).abs().max() > 1e-6


def test_an_rnn_reads_sequences_of_any_length():
    model = fresh("RNN")
    assert model(torch.rand(2, 1, 8)).shape == model(torch.rand(2, 50, 8)).shape == (2, 10)


@pytest.mark.parametrize("shape", [(2, 12, 7), (12, 8), (2, 1, 12, 8)])
def test_an_rnn_refuses_sequences_of_another_shape_with_both_shapes(shape):
    with pytest.raises(ShapeMismatch) as told:
        fresh("RNN")(torch.zeros(shape))
    assert str(shape) in str(told.value) and "(B, T, 8)" in str(told.value)


def operations(model: nn.Module, n: int) -> Counter[str]:
    """What PyTorch runs for a prediction of n examples."""
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as seen:
        model(inputs_for(model, n))
    return Counter(event.key for event in seen.key_averages() if "aten::" in event.key)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not torch.backends.mkldnn.is_available(),
    reason="elsewhere PyTorch has other convolutions",
)
def test_one_image_takes_another_convolution_than_two_and_an_mlp_does_not_care():
    """Lesson 04 explains its dip at two images by this rule, `use_mkldnn` of PyTorch."""
    one, two = (operations(fresh("CNN").eval(), n) for n in (1, 2))
    assert "aten::_slow_conv2d_forward" in one and "aten::mkldnn_convolution" not in one
    assert "aten::mkldnn_convolution" in two and "aten::_slow_conv2d_forward" not in two
    products = [operations(fresh("MLP").eval(), n)["aten::addmm"] for n in (1, 2, 512)]
    assert len(set(products)) == 1
