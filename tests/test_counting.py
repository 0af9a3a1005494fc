"""Counting: bytes and FLOPs against arithmetic done by hand, against AdamW, against the profiler.

Shapes: B batch, F features (64), H hidden units, D filters, C classes (10); for sequences
T time steps, S keys, A attention heads, d features of one head, V words in the vocabulary.
"""

import copy
import json

import pytest
import torch
from families import MEMORY_WITHIN, fresh, inputs_for
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, normalize, scaled_dot_product_attention

from kit.core.errors import BadValue
from kit.costs.counting import count
from kit.models import CNN, FAMILIES, MLP, CNNConfig, MLPConfig

F, C = 64, 10
FLOAT, LONG = 4, 8  # bytes


def images(batch: int) -> torch.Tensor:
    return torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def cross_entropy_of(batch: int):
    """A loss like a training's: from the logits to a scalar."""
    targets = torch.arange(batch) % C
    return lambda logits: cross_entropy(logits, targets)


def loss_of(outputs: torch.Tensor) -> torch.Tensor:
    """A loss for outputs of any shape: the last of them is told apart from the others."""
    logits = outputs.flatten(0, -2)
    return cross_entropy(logits, torch.arange(len(logits), device=logits.device) % logits.shape[1])


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
    assert list(counted.layers) == ["conv1", "conv2", "hidden", "head"]
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
    # A step's phases. The update moves each weight's bytes seven times.
    assert counted.step_work[-1] == (counted.optimizer_flops, 7 * w)
    assert sum(moved for _, moved in counted.step_work) == counted.step_moved_bytes
    assert sum(flops for flops, _ in counted.step_work) == counted.step_flops


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_convolution_in_groups_costs_its_share(groups):
    b, channels, pixels = 2, 6, 8 * 8
    model = nn.Conv2d(channels, channels, kernel_size=3, padding=1, groups=groups)
    counted = count(model, torch.rand(b, channels, 8, 8))
    forward = 2 * b * pixels * 9 * channels * (channels // groups)
    assert (counted.forward_flops, counted.backward_flops) == (forward, forward)


class Learner(nn.Module):
    """A function of (w, x), with weights so that it learns: w (F,) or (), m (F, F)."""

    def __init__(self, function, weight=(), matrix=(1, 1)):
        super().__init__()
        self.function = function
        self.w, self.m = nn.Parameter(torch.ones(weight)), nn.Parameter(torch.eye(*matrix))

    def forward(self, x):
        return self.function(self, x)


def test_a_matrix_times_a_vector_is_a_matmul_too():
    counted = count(Learner(lambda self, x: x @ self.w, weight=F), torch.rand(3, F))
    assert counted.forward_flops == 2 * 3 * F
    assert counted.backward_flops == 2 * 3 * F


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_is_looked_up_and_a_head_multiplies(tied):
    b, t, d, v = 2, 5, 8, 30
    model = nn.Sequential(nn.Embedding(v, d), nn.Linear(d, v, bias=False))
    if tied:
        model[1].weight = model[0].weight
    counted = count(model, torch.arange(b * t).view(b, t))
    assert counted.forward_flops == 2 * b * t * d * v
    assert counted.layers == {"0": 0, "1": 2 * b * t * d * v}
    assert counted.backward_flops == 2 * counted.forward_flops  # of weights, and of what came in
    assert counted.params == v * d * (1 if tied else 2)
    assert counted.optimizer_flops == 14 * counted.params
    assert counted.input_bytes == LONG * b * t
    assert counted.output_bytes == FLOAT * b * t * v
    assert counted.activation_bytes == LONG * b * t + FLOAT * b * t * d  # tokens, their vectors
    assert counted.written_activation_bytes == FLOAT * b * t * d


@pytest.mark.parametrize(("kind", "gates"), [(nn.RNN, 1), (nn.GRU, 3)])
def test_a_recurrent_layer_costs_what_it_costs_by_hand(kind, gates):
    b, t, f, h = 2, 7, 5, 6
    counted = count(kind(f, h, batch_first=True), torch.rand(b, t, f))
    inwards, onwards = 2 * b * t * gates * h * f, 2 * b * t * gates * h * h
    assert counted.forward_flops == inwards + onwards
    # Backward: of both weights, and of every state but the first, which is a constant.
    assert counted.backward_flops == inwards + onwards + onwards * (t - 1) // t
    assert counted.params == gates * (h * f + h * h + 2 * h)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="an LSTM comes in parts here")
def test_an_lstm_in_one_operation_is_counted():
    b, t, f, h = 2, 7, 5, 6
    counted = count(nn.LSTM(f, h, batch_first=True), torch.rand(b, t, f))
    assert counted.forward_flops == 2 * b * t * 4 * h * (f + h)
    assert counted.backward_flops == 2 * counted.forward_flops  # the inputs' gradient too


def test_a_recurrent_layer_of_cudnn_is_counted():
    """Shapes are enough for that: a tensor on the `meta` device has nothing else."""
    b, t, f, h = 2, 7, 5, 6

    def gru(_, x):
        sizes = ((3 * h, f), (3 * h, h), (3 * h,), (3 * h,))
        weights, state = [x.new_empty(size) for size in sizes], x.new_empty(1, b, h)
        options = (None, 3, h, 0, 1, False, 0.0, False, False, [], None)
        return torch.ops.aten._cudnn_rnn(x, weights, 4, None, state, *options)[0]

    counted = count(Learner(gru).to("meta"), torch.empty(t, b, f, device="meta"))
    assert counted.forward_flops == 2 * b * t * 3 * h * (f + h)


def test_a_bilinear_layer_is_two_products_one_after_the_other():
    b, n, m, out = 2, 3, 5, 4
    counted = count(nn.Bilinear(n, m, out), (torch.rand(b, n), torch.rand(b, m)))
    assert counted.forward_flops == 2 * b * out * m * (n + 1)
    assert counted.backward_flops == 2 * b * out * n * m  # of the weights alone
    assert counted.uncounted == ()


class Blocks(nn.Module):
    """A list of layers, one that stands in it twice, and a matmul of its own."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.Linear(F, F, bias=False)
        self.blocks = nn.ModuleList([layer, nn.Sequential(nn.Linear(F, F, bias=False)), layer])
        self.again, self.head = layer, nn.Linear(F, C, bias=False)
        self.m = nn.Parameter(torch.ones(F, F))

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(self.again(x) @ self.m)


def test_the_layers_flops_add_up_to_all():
    counted, one = count(Blocks(), torch.rand(3, F)), 2 * 3 * F
    shares = {"blocks": 4 * one * F, "again": 0, "head": one * C, "(itself)": one * F}
    assert counted.layers == shares
    assert sum(counted.layers.values()) == counted.forward_flops
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(F, 2, F, batch_first=True), 2)
    counted = count(encoder, torch.rand(2, 3, F))
    assert counted.layers == {"layers": counted.forward_flops}
    assert counted.forward_flops > 0


def test_a_layer_called_twice_works_twice():
    twice = Twice()
    counted = count(twice, torch.rand(3, F))
    assert counted.layers == {"layer": 2 * (2 * 3 * F * F)}
    assert counted.forward_flops == 2 * (2 * 3 * F * F)
    assert counted.params == F * F
    assert counted.backward_flops == 3 * (2 * 3 * F * F)  # the batch itself needs no gradient


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(F, F, bias=False)

    def forward(self, x):
        return self.layer(self.layer(x))


# --- Attention, in both conventions --------------------------------------------------------------


def attention(keys=None, heads=None, **options):
    """Nothing but attention, of x (B, A, T, d) to its first keys and heads."""

    def attend(self, x):
        x = self.w * x
        others = torch.cat([x, x], dim=2)[:, :heads, : keys or x.shape[2]]
        return scaled_dot_product_attention(x, others, others, **options)

    return Learner(attend)


B, A, T, D = 2, 4, 6, 8
ONE = 2 * B * A * D  # FLOPs of a matmul for one pair of query and key
SEEN = {6: 21, 4: 18, 9: 21}  # keys -> pairs: 1+2+3+4+5+6; 1+2+3+4+4+4; 1+2+3+4+5+6


@pytest.mark.parametrize("keys", SEEN)
@pytest.mark.parametrize("causal", [True, False])
def test_attention_costs_what_it_costs_by_hand(keys, causal):
    counted = count(attention(keys, is_causal=causal), torch.rand(B, A, T, D))
    # Forward: the scores, and the sum of values. Backward: the scores once more, and from each
    # of the two matmuls a gradient for each side.
    assert counted.forward_flops == 2 * ONE * T * keys
    assert counted.backward_flops == 5 * ONE * T * keys
    masked = T * keys - SEEN[keys] if causal else 0
    assert counted.masked_forward_flops == 2 * ONE * masked
    assert counted.masked_backward_flops == 5 * ONE * masked
    assert counted.causal_forward_flops == counted.forward_flops - 2 * ONE * masked
    assert counted.causal_step_flops == counted.step_flops - 7 * ONE * masked


def test_fewer_heads_of_keys_save_no_flops():
    model = attention(heads=2, is_causal=True, enable_gqa=True)
    counted = count(model, torch.rand(B, A, T, D))
    assert counted.forward_flops == 2 * ONE * T * T
    assert counted.causal_forward_flops == 2 * ONE * SEEN[T]


def test_a_mask_as_a_tensor_is_not_seen():
    mask = torch.ones(T, T, dtype=torch.bool).tril()
    counted = count(attention(attn_mask=mask), torch.rand(B, A, T, D))
    assert counted.causal_forward_flops == counted.forward_flops == 2 * ONE * T * T


def test_attention_written_out_as_matmuls_shows_no_mask():
    with sdpa_kernel(SDPBackend.MATH):
        counted = count(attention(is_causal=True), torch.rand(B, A, T, D))
    assert counted.causal_forward_flops == counted.forward_flops == 2 * ONE * T * T
    assert counted.backward_flops == 4 * ONE * T * T  # the scores were kept, not made once more


ON_GPUS = {  # what comes after query, key and value
    "_scaled_dot_product_flash_attention": lambda causal: (0.0, causal),
    "_scaled_dot_product_efficient_attention": lambda causal: (None, True, 0.0, causal),
    "_scaled_dot_product_cudnn_attention": lambda causal: (None, True, 0.0, causal),
}


@pytest.mark.parametrize("name", ON_GPUS)
@pytest.mark.parametrize("causal", [True, False])
def test_a_gpus_attention_is_counted_from_its_shapes(name, causal):
    def attend(self, x):
        x = self.w * x
        return getattr(torch.ops.aten, name)(x, x, x, *ON_GPUS[name](causal))[0]

    batch = torch.empty(B, A, T, D, device="meta", dtype=torch.float16)
    counted = count(Learner(attend).half().to("meta"), batch)
    assert (counted.forward_flops, counted.backward_flops) == (2 * ONE * T * T, 5 * ONE * T * T)
    masked = T * T - SEEN[T] if causal else 0
    assert counted.masked_forward_flops == 2 * ONE * masked
    assert counted.masked_backward_flops == 5 * ONE * masked


class Block(nn.Module):
    """A transformer's block: (B, T, A·d) -> the same."""

    def __init__(self, heads=A, d=D, causal=True):
        super().__init__()
        width = heads * d
        self.heads, self.causal = heads, causal
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        b, t, width = x.shape
        heads = self.qkv(self.norm(x)).view(b, t, 3, self.heads, width // self.heads)
        q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, A, T, d) each
        mixed = scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, t, width))
        return x + self.mlp(x)


@pytest.mark.parametrize("causal", [True, False])
def test_a_block_costs_what_it_costs_by_hand(causal):
    width = A * D
    counted = count(Block(causal=causal), torch.rand(B, T, width))
    linear = 2 * B * T * width * width * (3 + 1 + 4 + 4)
    assert counted.forward_flops == linear + 2 * ONE * T * T
    # The norm's weights come first, so that every matmul has a gradient for both sides.
    assert counted.backward_flops == 2 * linear + 5 * ONE * T * T
    assert counted.causal_forward_flops == linear + 2 * ONE * (SEEN[T] if causal else T * T)


def test_the_table_gives_both_conventions_where_they_differ():
    full = count(Block(causal=False), torch.rand(B, T, A * D)).table()
    assert not any("causal" in row[0] for row in full.rows) and "causal" not in full.details
    assert "full attention" in full.details
    both = count(Block(), torch.rand(B, T, A * D))
    rows = {row[0]: row[1:] for row in both.table().rows}
    assert set(rows) == {row[0] for row in full.rows} | {"forward, causal convention"}
    assert rows["forward, causal convention"] != rows["forward"]
    assert both.table().caption.endswith(
        "Doubts: attention is counted in full, also the pairs that a causal mask skips."
    )
    kept = both.to_dict()
    assert kept["causal_forward_flops"] == kept["forward_flops"] - kept["masked_forward_flops"]
    assert kept["causal_step_flops"] == both.causal_step_flops


# --- What has no formula -------------------------------------------------------------------------


@torch.library.custom_op("kit_tests::doubled", mutates_args=())
def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


doubled.register_autograd(lambda _, gradient: 2 * gradient)

HARD = {
    "linalg_qr": lambda self, x: x @ torch.linalg.qr(self.m)[0],
    "cdist_forward": lambda self, x: torch.cdist(x, self.m, p=1),
    "euclidean_dist": lambda self, x: torch.cdist(x, self.m),
    "fft_r2c": lambda self, x: torch.fft.rfft(x @ self.m).abs(),
    "kit_tests::doubled": lambda self, x: doubled(x @ self.m),
}


@pytest.mark.parametrize("name", HARD)
def test_work_without_a_formula_is_named(name):
    counted = count(Learner(HARD[name], matrix=(F, F)), torch.rand(F, F))
    assert name in counted.uncounted
    assert f"Doubts: {counted.doubts[0]}" in counted.table().caption and name in counted.doubts[0]
    assert name in json.loads(json.dumps(counted.to_dict()))["uncounted"]


EASY = {
    "normalize": lambda self, x: normalize(x @ self.m),
    "sort": lambda self, x: (x @ self.m).sort().values,
    "softmax": lambda self, x: (x @ self.m).softmax(-1).cumsum(-1).cummax(-1).values,
    "layer": nn.TransformerEncoderLayer(F, 2, F, batch_first=True).__call__,
}


@pytest.mark.parametrize("name", EASY)
def test_elementwise_work_is_left_out_and_not_named(name):
    if name == "layer":
        counted = count(EASY[name].__self__, torch.rand(2, 3, F))
    else:
        counted = count(Learner(EASY[name], matrix=(F, F)), torch.rand(F, F))
        assert counted.forward_flops == 2 * F**3
    assert counted.uncounted == () and "not counted" not in counted.table().caption


@pytest.mark.parametrize("family", FAMILIES)
def test_all_of_a_family_is_counted(family):
    model = fresh(family)
    counted = count(model, inputs_for(model, 2), loss_of)
    assert counted.uncounted == ()
    assert 0 < counted.forward_flops <= counted.backward_flops


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
    moved = {name: work.moved_bytes for name, work in counted.phases.items()}
    w, trained = counted.weight_bytes, counted.gradient_bytes
    # The batch is not kept, since the first layer needs no gradient: what is, was written.
    assert moved["forward"] == w + FLOAT * b * (F + C) + FLOAT * b * h
    assert moved["optimizer"] == (1 + 1 + 2) * trained + (1 + 2) * trained


def test_a_frozen_model_has_no_backward():
    counted = count(MLP().requires_grad_(False), images(2))
    assert (counted.backward_flops, counted.gradient_bytes, counted.activation_bytes) == (0, 0, 0)
    for phase in ("backward", "optimizer"):
        work = counted.phases[phase]
        assert (work.flops, work.moved_bytes, work.intensity) == (0, 0, None)


def test_buffers_are_weights_and_not_activations():
    """A batch norm keeps its input, and the mean and spread that it saw; the running ones are there
    anyway, as is the number of batches."""
    b = 4
    counted = count(nn.Sequential(nn.BatchNorm1d(F), nn.Linear(F, C)), torch.rand(b, F))
    assert counted.weight_bytes == FLOAT * (2 * F + F * C + C) + FLOAT * 2 * F + LONG
    assert counted.gradient_bytes == FLOAT * (2 * F + F * C + C)
    assert counted.written_activation_bytes == FLOAT * (2 * F + b * F)
    assert counted.activation_bytes == FLOAT * (2 * F + b * F) + FLOAT * b * F


def test_work_in_place_makes_nothing():
    layers = [nn.Linear(F, 32), nn.ReLU(), nn.Linear(32, C)]
    apart, batch = count(nn.Sequential(*layers), torch.rand(9, F)), torch.rand(9, F)
    layers[1] = nn.ReLU(inplace=True)
    within = count(nn.Sequential(*layers), batch)
    assert within.activation_bytes == apart.activation_bytes == FLOAT * 9 * (F + 32)
    assert within.predict_working_bytes < apart.predict_working_bytes


def test_what_is_recomputed_is_not_kept_and_costs_a_forward_more():
    from torch.utils.checkpoint import checkpoint

    block, batch = Block(), torch.rand(B, T, A * D)
    whole = count(block, batch)
    learner = Learner(lambda self, x: checkpoint(self.block, x, use_reentrant=False))
    learner.block = block
    light = count(learner, batch)
    assert light.activation_bytes < whole.activation_bytes / 4
    assert whole.backward_flops < light.backward_flops <= whole.backward_flops + whole.forward_flops


@pytest.mark.parametrize("family", FAMILIES)
def test_the_optimizers_bytes_are_those_that_adamw_really_holds(family):
    model = fresh(family)
    optimizer = torch.optim.AdamW(model.parameters())
    loss_of(model(inputs_for(model, 4))).backward()
    optimizer.step()
    moments = [
        state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")
    ]
    held = sum(t.numel() * t.element_size() for t in moments)
    assert count(model, inputs_for(model, 4)).optimizer_bytes == held


def test_half_the_bytes_per_number_are_half_the_bytes():
    model, batch = MLP(), images(8)
    whole = count(model, batch)
    half = count(copy.deepcopy(model).bfloat16(), batch.bfloat16())
    assert half.weight_bytes * 2 == whole.weight_bytes
    assert half.activation_bytes * 2 == whole.activation_bytes
    assert half.forward_flops == whole.forward_flops


# --- At its fullest, against what was measured ---------------------------------------------------

# How to make a model, and B examples for it: beside every family there is.
OTHERS = {
    "attention block": (Block, lambda b: torch.rand(b, 64, A * D)),
    "transformer layer": (
        lambda: nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True),
        lambda b: torch.rand(b, 32, 64),
    ),
    "batch norm": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(1024, C),
        ),
        images,
    ),
    "words": (
        lambda: nn.Sequential(nn.Embedding(500, 32), nn.Linear(32, 500)),
        lambda b: torch.arange(16 * b).view(b, 16) % 500,
    ),
}
MADE = [*FAMILIES, *OTHERS]
# Not one example: what a convolution needs inside itself, which is not seen, is then a sixth of
# the CNN's memory.
BATCHES = [2, 8, 128]


def made(name, b):
    """A model and a batch of B examples for it."""
    if name in FAMILIES:
        model = fresh(name)
        return model, inputs_for(model, b)
    make, examples = OTHERS[name]
    return make(), examples(b)


def there(*tensors) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def a_prediction(model, batch):
    """A prediction, and the bytes that are there before it: weights, buffers, the batch."""
    model.eval()

    def predict():
        with torch.inference_mode():
            model(batch)

    predict()
    return predict, there(*model.parameters(), *model.buffers(), batch)


def a_step(model, batch):
    """A step in the middle of a training: AdamW's moments are there, gradients are to be made."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters())

    def step():
        optimizer.zero_grad()
        loss_of(model(batch)).backward()
        optimizer.step()

    step()
    optimizer.zero_grad()
    moments = [m for state in optimizer.state.values() for m in state.values()]
    return step, there(*model.parameters(), *model.buffers(), *moments, batch)


def near(measured: int, name: str):
    """What counts as the same number of bytes."""
    return pytest.approx(measured, rel=MEMORY_WITHIN.get(name, 0.1))


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


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("b", BATCHES)
def test_a_predictions_memory_is_what_the_profiler_sees(name, b):
    model, batch = made(name, b)
    counted = count(model, batch)
    predict, before = a_prediction(model, batch)
    assert counted.inference_bytes == near(before + profiled_peak(predict), name)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("b", BATCHES)
def test_a_steps_memory_is_what_the_profiler_sees(name, b):
    """Forward, backward and the update: with few examples, the update needs the most."""
    model, batch = made(name, b)
    counted = count(model, batch, loss_of)
    step, before = a_step(model, batch)
    assert counted.training_bytes == near(before + profiled_peak(step), name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("b", [512, 4096])  # blocks of 512 bytes are small beside these
@pytest.mark.parametrize("half", [a_prediction, a_step])
def test_on_a_gpu_memory_is_what_its_allocator_sees(name, b, half):
    model, batch = (each.cuda() for each in made(name, b))
    counted = count(model, batch, loss_of)
    work, before = half(model, batch)  # has run once: what libraries keep for good is there
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    measured = before + torch.cuda.max_memory_allocated() - held
    wanted = counted.training_bytes if half is a_step else counted.inference_bytes
    assert wanted == near(measured, name)


def test_a_view_of_what_was_there_makes_nothing():
    """Such as targets that are a slice of a whole dataset, in another shape."""
    model, dataset = MLP(), torch.zeros(100_000, 1, dtype=torch.long)

    def loss_with(targets):
        return lambda outputs: cross_entropy(outputs, targets.view(-1))

    slice_, own = dataset[:8], dataset[:8].clone()
    assert count(model, images(8), loss_with(slice_)) == count(model, images(8), loss_with(own))


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
    model = fresh(family)
    batch = inputs_for(model, 8)
    wanted = count(model, batch, loss_of)
    loss_of(model(batch)).backward()
    assert count(model, batch, loss_of) == wanted


def test_it_counts_the_same_where_gradients_are_off():
    model = MLP()
    wanted = count(model, images(2))
    with torch.no_grad():
        assert count(model, images(2)) == wanted


@pytest.mark.parametrize("family", FAMILIES)
def test_a_slice_of_a_dataset_counts_like_a_batch_of_its_own(family):
    model = fresh(family)
    slice_ = inputs_for(model, 100)[8:16]
    assert count(model, slice_) == count(model, slice_.clone())


def test_it_counts_the_same_where_everything_is_inference():
    wanted = count(MLP(), images(2))
    with torch.inference_mode():
        assert count(MLP(), images(2)) == wanted


def test_a_model_that_draws_when_predicting_leaves_the_dice_alone():
    before = torch.get_rng_state()
    count(Learner(lambda self, x: self.w * x + torch.rand_like(x)), images(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_inputs_that_want_a_gradient_get_none():
    model, batch = MLP(), images(2)
    wanted = count(model, batch)
    assert count(model, batch.requires_grad_()) == wanted
    assert batch.grad is None


def test_transformer_layers_are_left_on_their_fast_path():
    before = torch.backends.mha.get_fastpath_enabled()
    count(nn.TransformerEncoderLayer(8, 2, 8), torch.rand(2, 3, 8))
    assert torch.backends.mha.get_fastpath_enabled() == before


# --- Outputs of any form -------------------------------------------------------------------------

FORMS = {
    "tuple": lambda self, x: (x @ self.m, (x @ self.m).argmax(-1)),
    "dict": lambda self, x: {"logits": x @ self.m, "more": [(x @ self.m).argmax(-1)]},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_model_may_return_several_tensors(form):
    counted = count(Learner(FORMS[form], matrix=(F, F)), torch.rand(3, F))
    assert counted.output_bytes == FLOAT * 3 * F + LONG * 3
    assert counted.forward_flops == 2 * (2 * 3 * F * F)
    assert counted.backward_flops == 2 * 3 * F * F  # of the numbers; the places have no gradient


def test_a_loss_takes_the_outputs_as_they_come():
    model = Learner(FORMS["dict"], matrix=(F, F))
    alone = count(model, torch.rand(3, F))
    assert count(model, torch.rand(3, F), lambda outputs: outputs["logits"].mean()) == alone


def test_a_losss_matmuls_belong_to_training_alone():
    alone = count(MLP(), images(4))
    compared = count(MLP(), images(4), lambda outputs: (outputs @ outputs.T).mean())
    assert compared.forward_flops == alone.forward_flops
    assert compared.backward_flops == alone.backward_flops + 3 * (2 * 4 * 4 * C)


# --- Said clearly --------------------------------------------------------------------------------


@pytest.mark.parametrize("inputs", [torch.zeros(0, 1, 8, 8), torch.tensor(1.0)])
def test_no_batch_no_count(inputs):
    with pytest.raises(BadValue, match=r"shape .*: needs a batch of at least 1"):
        count(MLP(), inputs)


def test_the_result_names_model_batch_and_rule():
    counted = count(MLP(), images(3))
    assert repr(counted).startswith("MLP(hidden=128, layers=2): 26,122 parameters, batch 3: ")
    assert "a multiply-add is 2 FLOPs" in counted.table().details
    assert counted.to_dict()["step_flops"] == (
        counted.forward_flops + counted.backward_flops + counted.optimizer_flops
    )


def test_a_model_of_several_lines_has_a_name_of_one():
    named = count(nn.Sequential(nn.Linear(F, C)), torch.rand(1, F)).model
    assert named == f"Sequential: {F * C + C:,} parameters"


def test_outputs_without_numbers_need_a_loss():
    with pytest.raises(BadValue, match=r"outputs \(Tensor\) hold no floating-point.*a loss"):
        count(Learner(lambda self, x: x.argmax(-1)), torch.rand(2, F))
