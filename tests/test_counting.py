"""Counting: bytes and FLOPs against arithmetic done by hand, against AdamW, against the profiler.

Shapes: B batch, F features (64), H hidden units, D filters, C classes (10).
"""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention

from kit.counting import count
from kit.errors import BadValue
from kit.models import CNN, FAMILIES, MLP, CNNConfig, MLPConfig

F, C = 64, 10
FLOAT, LONG = 4, 8  # bytes


def images(batch: int) -> torch.Tensor:
    return torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def cross_entropy_of(batch: int):
    """A loss like a training's: from the logits to a scalar."""
    targets = torch.arange(batch) % C
    return lambda logits: cross_entropy(logits, targets)


# --- By hand -------------------------------------------------------------------------------------

MLPS = [(1, 128, 2), (32, 128, 2), (7, 16, 1), (64, 50, 3)]  # B, H, hidden layers


@pytest.mark.parametrize(("b", "h", "layers"), MLPS)
def test_an_mlp_costs_what_it_costs_by_hand(b, h, layers):
    counted = count(MLP(MLPConfig(hidden=h, layers=layers)), images(b))
    multiply_adds = F * h + (layers - 1) * h * h + h * C
    params = multiply_adds + layers * h + C
    assert counted.params == counted.trainable_params == params
    assert counted.weight_bytes == counted.gradient_bytes == FLOAT * params
    assert counted.optimizer_bytes == 2 * FLOAT * params
    assert counted.input_bytes == FLOAT * b * F
    assert counted.output_bytes == FLOAT * b * C
    assert counted.forward_flops == 2 * b * multiply_adds
    # Backward: each weight's gradient costs a forward, each input's too, but for the first layer.
    assert counted.backward_flops == 2 * b * multiply_adds + 2 * b * (multiply_adds - F * h)
    assert counted.activation_bytes == FLOAT * b * (F + layers * h)  # the input of each layer
    assert counted.optimizer_flops == 14 * params


CNNS = [(1, 16, 48), (32, 16, 48), (5, 4, 7)]  # B, D, H


@pytest.mark.parametrize(("b", "d", "h"), CNNS)
def test_a_cnn_costs_what_it_costs_by_hand(b, d, h):
    counted = count(CNN(CNNConfig(filters=d, hidden=h)), images(b))
    pixels, pooled = 8 * 8, 4 * 4
    near, wide = pixels * 9 * d, pixels * 9 * d * 2 * d  # 3×3 filters at each pixel
    hidden, head = 2 * d * pooled * h, h * C
    multiply_adds = near + wide + hidden + head
    params = (9 * d + d) + (9 * d * 2 * d + 2 * d) + (hidden + h) + (head + C)
    assert counted.params == params
    assert counted.weight_bytes == counted.gradient_bytes == FLOAT * params
    assert counted.optimizer_bytes == 2 * FLOAT * params
    assert counted.forward_flops == 2 * b * multiply_adds
    assert counted.backward_flops == 2 * b * (2 * multiply_adds - near)
    kept = FLOAT * b * (pixels + pixels * d + pixels * 2 * d + pooled * 2 * d + h)
    where = LONG * b * pooled * 2 * d  # which pixel was the largest
    assert counted.activation_bytes == kept + where


@pytest.mark.parametrize("b", [1, 16])
def test_the_loss_keeps_its_share(b):
    """Cross-entropy keeps the logarithms of the probabilities, the targets and their number."""
    model = MLP(MLPConfig(hidden=8, layers=1))
    alone = count(model, images(b)).activation_bytes
    with_loss = count(model, images(b), cross_entropy_of(b)).activation_bytes
    assert with_loss - alone == FLOAT * b * C + LONG * b + FLOAT


def test_forward_flops_by_layer_add_up():
    counted = count(CNN(), images(4))
    assert list(counted.layers) == ["near", "wide", "hidden", "head"]
    assert counted.layers["head"] == 2 * 4 * 48 * 10
    assert sum(counted.layers.values()) == counted.forward_flops


def test_bytes_moved_are_the_least_by_hand():
    b, h = 2, 4
    counted = count(MLP(MLPConfig(hidden=h, layers=1)), images(b))
    w = FLOAT * (F * h + h + h * C + C)
    inputs, hidden, outputs = FLOAT * b * F, FLOAT * b * h, FLOAT * b * C
    moved = {name: work.moved_bytes for name, work in counted.phases.items()}
    assert moved == {
        "predict": w + inputs + outputs,
        "forward": w + inputs + outputs + hidden,
        "backward": w + inputs + hidden + w,
        "optimizer": (w + w + 2 * w) + (w + 2 * w),
    }
    assert counted.phases["predict"].intensity == counted.forward_flops / (w + inputs + outputs)


class Attention(nn.Module):
    """Nothing but attention: x -> attention of x to itself, with one weight so that it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.scale * x
        return scaled_dot_product_attention(x, x, x)


def test_attention_is_counted_on_the_cpu_too():
    b, heads, t, d = 2, 3, 16, 8
    counted = count(Attention(), torch.rand(b, heads, t, d))
    one = 2 * b * heads * t * t * d  # scores, or their sum over values: a matmul each
    assert counted.forward_flops == 2 * one
    assert counted.backward_flops == 5 * one  # the scores once more, and a gradient for each input


# --- What is trained, what is frozen -------------------------------------------------------------


def test_frozen_weights_have_no_gradient_and_no_optimizer():
    b, h = 3, 16
    model = MLP(MLPConfig(hidden=h, layers=1))
    model.hidden.requires_grad_(False)
    counted = count(model, images(b))
    head = h * C + C
    assert counted.params == (F * h + h) + head
    assert counted.trainable_params == head
    assert (counted.gradient_bytes, counted.optimizer_bytes) == (FLOAT * head, 2 * FLOAT * head)
    assert counted.backward_flops == 2 * b * h * C  # the head's weights; nothing before them
    assert counted.forward_flops == 2 * b * (F * h + h * C)


def test_a_frozen_model_has_no_backward():
    counted = count(MLP().requires_grad_(False), images(2))
    assert (counted.backward_flops, counted.gradient_bytes, counted.activation_bytes) == (0, 0, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_optimizers_bytes_are_those_that_adamw_really_holds(family):
    model = FAMILIES[family][0]()
    optimizer = torch.optim.AdamW(model.parameters())
    model(images(4)).mean().backward()
    optimizer.step()
    moments = [
        state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")
    ]
    held = sum(t.numel() * t.element_size() for t in moments)
    assert count(model, images(4)).optimizer_bytes == held


def test_half_the_bytes_per_number_are_half_the_bytes():
    model, batch = MLP(), images(8)
    whole = count(model, batch)
    half = count(copy.deepcopy(model).bfloat16(), batch.bfloat16())
    assert half.weight_bytes * 2 == whole.weight_bytes
    assert half.activation_bytes * 2 == whole.activation_bytes
    assert half.forward_flops == whole.forward_flops


# --- At its fullest, against the profiler --------------------------------------------------------


def profiled_peak(work) -> int:
    """The most bytes alive at once of what the work allocates, as PyTorch's profiler sees it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    assert most > 0
    return most


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("b", [8, 128])
def test_a_predictions_memory_is_what_the_profiler_sees(family, b):
    model, batch = FAMILIES[family][0]().eval(), images(b)

    def predict():
        with torch.inference_mode():
            return model(batch)

    assert count(model, batch).predict_working_bytes == pytest.approx(
        profiled_peak(predict), rel=0.1
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("b", [8, 128])
def test_a_steps_memory_is_what_the_profiler_sees(family, b):
    model, batch, loss = FAMILIES[family][0](), images(b), cross_entropy_of(b)
    counted = count(model, batch, loss).step_working_bytes
    assert counted == pytest.approx(profiled_peak(lambda: loss(model(batch)).backward()), rel=0.1)


def test_training_and_inference_add_up_what_is_there():
    c = count(MLP(), images(8))
    assert c.inference_bytes == c.weight_bytes + c.input_bytes + c.predict_working_bytes
    assert (
        c.training_bytes
        == c.weight_bytes + c.optimizer_bytes + c.input_bytes + c.step_working_bytes
    )
    assert c.step_working_bytes >= c.gradient_bytes


# --- Nothing is changed --------------------------------------------------------------------------


class Restless(nn.Module):
    """A model with all that a forward pass could change: running statistics, dropout, a mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.head = nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Linear(F, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.norm(x).flatten(1)))


@pytest.fixture(params=[True, False], ids=["training", "evaluating"])
def restless(request):
    model = Restless().train(request.param)
    model.norm.eval()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    return model


def test_counting_leaves_the_model_as_it_was(restless):
    before, gradient = copy.deepcopy(restless), restless.head.weight.grad.clone()
    count(restless, images(4))
    for (name, now), (_, then) in zip(
        restless.state_dict().items(), before.state_dict().items(), strict=True
    ):
        assert torch.equal(now, then), name
    assert [m.training for m in restless.modules()] == [m.training for m in before.modules()]
    assert torch.equal(restless.head.weight.grad, gradient)
    assert restless.head.bias.grad is None


def test_counting_draws_no_random_numbers(restless):
    before = torch.get_rng_state()
    count(restless, images(4))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_has_gradients_counts_like_a_fresh_one(family):
    """As after a training: gradients are made anew in each step, so they belong to its memory."""
    model = FAMILIES[family][0]()
    fresh = count(model, images(8), cross_entropy_of(8))
    cross_entropy_of(8)(model(images(8))).backward()
    assert count(model, images(8), cross_entropy_of(8)) == fresh


def test_it_counts_the_same_where_gradients_are_off():
    model = MLP()
    wanted = count(model, images(2))
    with torch.no_grad():
        assert count(model, images(2)) == wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_a_slice_of_a_dataset_counts_like_a_batch_of_its_own(family):
    model = FAMILIES[family][0]()
    assert count(model, images(100)[8:16]) == count(model, images(100)[8:16].clone())


# --- Said clearly --------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [torch.zeros(0, 1, 8, 8), torch.tensor(1.0)])
def test_no_batch_no_count(inputs):
    with pytest.raises(BadValue, match=r"shape .*: needs a batch of at least 1"):
        count(MLP(), inputs)


def test_the_result_names_model_batch_and_rule():
    counted = count(MLP(), images(3))
    assert repr(counted).startswith("MLP(hidden=128, layers=2): 26,122 parameters, batch 3: ")
    assert "a multiply-add is 2 FLOPs" in counted.table().caption
    assert counted.to_dict()["step_flops"] == (
        counted.forward_flops + counted.backward_flops + counted.optimizer_flops
    )
