"""Models: every family, by what each promises. A new one is tested as soon as it is listed."""

from dataclasses import fields, replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from kit.errors import BadValue, ShapeMismatch, UnknownName
from kit.models import CNN, FAMILIES, MLP, CNNConfig, MLPConfig, build


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


def fresh(family: str, seed: int = 0, **options: int) -> nn.Module:
    model, config = FAMILIES[family]
    torch.manual_seed(seed)
    return model(config(**options))


def images(model: nn.Module, batch_size: int) -> torch.Tensor:
    c = model.config
    make = torch.Generator().manual_seed(1)
    return torch.rand(batch_size, c.channels, c.height, c.width, generator=make)


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("batch_size", [1, 3])
def test_images_become_logits(family, batch_size):
    model = fresh(family)
    assert model(images(model, batch_size)).shape == (batch_size, model.config.classes)


def test_other_sizes_work_too(family):
    model = fresh(family, channels=3, height=7, width=5, classes=4)
    assert model(images(model, 2)).shape == (2, 4)


@pytest.mark.parametrize("side", ["height", "width"])
def test_the_smallest_image_is_taken_or_refused_at_once(family, side):
    try:
        model = fresh(family, **{side: 1})
    except BadValue:
        return
    assert model(images(model, 2)).isfinite().all()


def test_the_same_seed_gives_the_same_model(family):
    one, other, third = fresh(family, 1), fresh(family, 1), fresh(family, 2)
    assert torch.equal(one(images(one, 2)), other(images(one, 2)))
    assert not torch.equal(one(images(one, 2)), third(images(one, 2)))


def test_the_examples_of_a_batch_do_not_touch_each_other(family):
    model = fresh(family).eval()
    batch = images(model, 4)
    alone = torch.cat([model(image.unsqueeze(0)) for image in batch])
    torch.testing.assert_close(model(batch), alone, atol=1e-6, rtol=1e-5)


def test_every_weight_learns(family):
    model = fresh(family)
    batch = images(model, 64)
    cross_entropy(model(batch), torch.arange(64) % model.config.classes).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_build_makes_it_again_from_its_config(family):
    model = fresh(family, height=6, width=6)
    again = build(family, vars(model.config))
    assert again.config == model.config
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(images(model, 2)), model(images(model, 2)))


def test_it_tells_its_family_and_size_in_one_line(family):
    model = fresh(family)
    assert repr(model).startswith(f"{family}(")
    assert repr(model).endswith(f": {params(model):,} parameters")


def test_no_size_has_a_default_that_is_wrong(family):
    config = FAMILIES[family][1]()
    assert all(getattr(config, field.name) >= 1 for field in fields(config))


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8", None])
def test_a_wrong_size_is_refused_by_name(family, value):
    config = FAMILIES[family][1]()
    for field in fields(config):
        with pytest.raises(BadValue, match=rf"{field.name}={value!r}: needs a whole number"):
            replace(config, **{field.name: value})


@pytest.mark.parametrize("shape", [(2, 1, 9, 8), (2, 3, 8, 8), (2, 64), (1, 8, 8)])
def test_images_of_another_shape_are_refused_with_both_shapes(family, shape):
    with pytest.raises(ShapeMismatch) as told:
        fresh(family)(torch.zeros(shape))
    assert str(shape) in str(told.value) and "(B, 1, 8, 8)" in str(told.value)
    assert ("unsqueeze(0)" in str(told.value)) == (len(shape) == 3)


def test_an_unknown_family_lists_those_there_are():
    with pytest.raises(UnknownName, match="no model family is called 'CMN'; did you mean 'CNN'"):
        build("CMN", {})


def test_an_unknown_option_is_named(family):
    with pytest.raises(BadValue, match="depth"):
        build(family, {"depth": 3})


# --- Known answers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (MLPConfig(), (64 * 128 + 128) + (128 * 128 + 128) + (128 * 10 + 10)),
        (MLPConfig(hidden=16, layers=1), (64 * 16 + 16) + (16 * 10 + 10)),
        (MLPConfig(hidden=5, layers=3, channels=3, height=4, width=2, classes=7),
         (24 * 5 + 5) + 2 * (5 * 5 + 5) + (5 * 7 + 7)),
    ],
)  # fmt: skip
def test_an_mlp_has_the_parameters_counted_by_hand(config, count):
    assert params(MLP(config)) == count


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


def test_an_mlp_computes_what_its_formula_says():
    model = fresh("MLP", hidden=3, layers=1, height=2, width=1, classes=2)
    x = torch.tensor([[[[0.5], [-1.0]]]])
    (w1, b1), (w2, b2) = [(m.weight, m.bias) for m in model.modules() if isinstance(m, nn.Linear)]
    expected = w2 @ torch.relu(w1 @ x.flatten() + b1) + b2
    torch.testing.assert_close(model(x)[0], expected)


def test_a_cnn_finds_the_same_stroke_anywhere():
    """Its first layers do not care where on the sheet a stroke is, away from the border."""
    model = fresh("CNN")
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 2:5, 3] = 1
    moved = image.roll(1, dims=3)
    torch.testing.assert_close(
        model.near(image).roll(1, dims=3)[..., 2:], model.near(moved)[..., 2:]
    )
