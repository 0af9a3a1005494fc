"""Models that the kit did not write: what they make, share, freeze, return and are called.

Shapes: B batch, F features, C classes, d width.
"""

import copy
import textwrap
import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, interpolate

import kit
from kit import techniques
from kit.core.errors import BadValue, NotInstalled, NotSupported
from kit.costs.counting import count
from kit.inference import device_of, evaluate, predict
from kit.models.custom import copy_model
from kit.training import step, train, updates

FLOAT, F, C = 4, 64, 10


def images(batch: int) -> torch.Tensor:
    return torch.rand(batch, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def learnt(model: nn.Module, work, steps: int = 3, **options):
    return train(model, work, steps=steps, live=False, **options)


# --- What they make in their first forward pass --------------------------------------------------


class Rotary(nn.Module):
    """Makes a table at its first forward pass, a larger one when it needs it, and keeps it."""

    def __init__(self) -> None:
        super().__init__()
        self.table: torch.Tensor | None = None
        self.seen: torch.Tensor | None = None
        self.head = nn.Linear(F, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        if self.table is None or len(self.table) < len(x):
            self.table = torch.linspace(0, 1, len(x) * F).view(len(x), F)
        self.seen = self.head.weight * x.mean(0)  # for a picture: with a graph, in training
        return self.head(x * self.table[: len(x)])


def lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.LazyBatchNorm1d(), nn.LazyLinear(C))


MAKING = {"lazy": lazy, "rotary": Rotary}
FIRST = {
    "predict": lambda model, work: predict(model, images(2)),
    "evaluate": lambda model, work: evaluate(model, work),
    "count": lambda model, work: count(model, images(2)),
    "bill": lambda model, work: kit.step_cost(model, work, batch_size=4, budget_s=0.01),
    "zeroed": lambda model, work: techniques.zeroed(model, images(2)),
    "fastest": lambda model, work: kit.fastest(
        model, images(2), techniques=("half",), budget_s=0.01
    ),
    "nothing": lambda model, work: None,
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("name", MAKING)
def test_a_model_can_be_trained_after_anything(name, first, vision):
    torch.manual_seed(0)
    model = MAKING[name]()
    FIRST[first](model, vision)
    for parts in (images(40), images(7)):  # a larger table, a smaller batch
        predict(model, parts)
    value = cross_entropy(model(images(3)), torch.tensor([0, 1, 2]))
    value.backward()  # by PyTorch alone
    assert all(p.grad is not None for p in model.parameters())
    history = learnt(model, vision, steps=20)
    assert history.losses[-1] < history.losses[0]


@pytest.mark.parametrize("name", MAKING)
def test_a_fresh_one_learns_in_every_loop(name, vision):
    torch.manual_seed(0)
    model = MAKING[name]()
    before = learnt(model, vision, steps=30)
    assert before.losses[-1] < before.losses[0]
    assert len({id(p) for p in model.parameters()}) == len(list(model.parameters()))
    again = MAKING[name]()
    steps = updates(again, vision)
    losses = [float(next(steps)) for _ in range(30)]
    assert losses[-1] < losses[0]


def test_count_leaves_a_lazy_model_lazy():
    model = lazy()
    counted = count(model, images(3))
    assert counted.params == (F * 16 + 16) + 2 * 16 + (16 * C + C)
    assert counted.forward_flops == 2 * 3 * (F * 16 + 16 * C)
    assert any(nn.parameter.is_lazy(p) for p in model.parameters())


def test_what_predict_gives_can_be_trained_on():
    features = predict(nn.Linear(4, 3), torch.rand(5, 4))
    head = nn.Linear(3, 1)
    head(features).sum().backward()
    assert head.weight.grad is not None


def test_a_model_that_keeps_a_graph_can_be_copied(vision):
    model = Rotary()
    model(images(2))
    assert model.seen is not None and model.seen.requires_grad
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    assert torch.equal(copy_model(model).seen, model.seen)
    assert count(model, images(2)).params == F * C + C
    assert predict(techniques.zeroed(model, images(2)), images(2)).shape == (2, C)


# --- What is counted of them ---------------------------------------------------------------------


class Several(nn.Module):
    """Of two tensors and a number, by position or by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 5), nn.Linear(4, 5)

    def forward(self, a, b, scale=1.0):
        return self.left(a) * scale + self.right(b)


@pytest.mark.parametrize("named", [True, False])
def test_tuples_are_arguments_and_dicts_are_named_ones(named):
    a, b = torch.rand(3, 6), torch.rand(3, 4)
    inputs = {"a": a, "b": b, "scale": 2.0} if named else (a, b)
    counted = count(Several(), inputs)
    assert counted.batch_size == 3
    assert counted.forward_flops == counted.backward_flops == 2 * 3 * (6 * 5 + 4 * 5)
    assert counted.input_bytes == FLOAT * 3 * (6 + 4)
    assert counted.activation_bytes == counted.input_bytes
    model = Several()
    wanted = model(a, b, 2.0 if named else 1.0)
    assert torch.equal(predict(model, inputs), wanted)


def test_a_model_of_one_dict_takes_it_in_a_tuple():
    class OfDict(nn.Linear):
        def forward(self, batch):
            return super().forward(batch["x"])

    batch = {"x": torch.rand(3, 6)}
    assert count(OfDict(6, 5), (batch,)).forward_flops == 2 * 3 * 6 * 5
    assert predict(OfDict(6, 5), (batch,)).shape == (3, 5)


@pytest.mark.parametrize("inputs", [{}, (), {"a": torch.rand(0, 6)}, torch.tensor(1.0)])
def test_a_count_needs_a_batch(inputs):
    with pytest.raises(BadValue, match="needs a batch of at least 1"):
        count(Several(), inputs)


class Complex(nn.Module):
    """(B, n) -> (B, m), a matmul of complex numbers."""

    def __init__(self, n: int, m: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(n, m, dtype=torch.complex64))

    def forward(self, x):
        return x @ self.w


def test_a_complex_multiply_add_is_four_real_ones():
    b, n, m = 3, 7, 5
    counted = count(Complex(n, m), torch.randn(b, n, dtype=torch.complex64))
    assert counted.forward_flops == 4 * 2 * b * n * m
    assert counted.backward_flops == counted.forward_flops  # of the weights alone
    assert counted.optimizer_flops == 14 * 2 * n * m  # a real and an imaginary part of each
    assert counted.weight_bytes == 8 * n * m and counted.optimizer_bytes == 2 * 8 * n * m
    assert counted.activation_bytes == 8 * b * n
    assert "complex" in counted.rule and counted.uncounted == ()
    assert "complex" not in count(nn.Linear(2, 2), torch.rand(1, 2)).rule


PRODUCTS = {  # a function of x (B, n) and w (n, n), and its multiply-adds
    "bmm": (lambda x, w: torch.bmm(x[:, None], w.expand(3, 7, 7)), 3 * 7 * 7),
    "mv": (lambda x, w: w @ x[0], 7 * 7),
    "vdot": (lambda x, w: torch.vdot(w[0], x[0])[None], 7),
    "einsum": (lambda x, w: torch.einsum("bi,ij->bj", x, w), 3 * 7 * 7),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("kind", [torch.float32, torch.complex64])
def test_all_products_of_complex_numbers(name, kind):
    function, multiply_adds = PRODUCTS[name]
    model = Complex(7, 7).to(kind) if kind.is_complex else nn.Module()
    if not kind.is_complex:
        model.w = nn.Parameter(torch.randn(7, 7))
    model.forward = lambda x: function(x, model.w)
    counted = count(Calling(model, function), torch.randn(3, 7, dtype=kind))
    assert counted.forward_flops == (8 if kind.is_complex else 2) * multiply_adds
    assert counted.uncounted == ()


class Calling(nn.Module):
    def __init__(self, model, function) -> None:
        super().__init__()
        self.w, self.function = model.w, function

    def forward(self, x):
        return self.function(x, self.w)


class Enlarging(nn.Module):
    """Convolution, interpolation, convolution."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.before, self.after = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1)
        self.options = options

    def forward(self, x):
        return self.after(interpolate(self.before(x), **self.options))


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic", "area"])
@pytest.mark.parametrize("size", [5, 8, 16])
def test_what_interpolation_keeps_is_what_autograd_saves(mode, size):
    model, batch = Enlarging(mode=mode, size=(size, size)), images(2)
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    saved = {}

    def pack(tensor):
        key = tensor.untyped_storage()._cdata
        if key not in weights:
            saved[key] = tensor  # held, so that its place in memory is not used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        model(batch).sum()
    assert count(model, batch).activation_bytes == sum(t.nbytes for t in saved.values())


class Scaling(nn.Module):
    """(B, n) -> (B, 2) without an operation whose FLOPs are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x[:, :2] * self.w


def test_a_model_without_counted_flops_has_a_bill():
    x = torch.rand(200, 4)
    work = kit.workloads.from_data((x, (x.sum(1) > 2).long()), model=Scaling)
    model = Scaling()
    bill = kit.step_cost(model, work, budget_s=0.02)
    assert bill.flops_ratio is None is bill.to_dict()["flops_ratio"]
    assert "— the FLOPs" in repr(bill)
    assert bill.table().rows[-1][3] == bill.table().rows[0][5] == "—"
    history = learnt(model, work)
    alone = kit.measure(lambda: predict(model, x[:1]), budget_s=0.02)
    account = kit.run_cost(history, evaluate(model, work, "test"), 0.1, bill, alone)
    assert account.to_dict()["ratio"]["whole_run_flops"] is None
    assert repr(account) and str(account.table())


# --- What they share -----------------------------------------------------------------------------

V, D, T = 30, 8, 5  # words, width, places


class Tied(nn.Module):
    """(B, T) words -> logits (B, C) by a head whose weights are those of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(V, D), nn.Linear(D, V, bias=False)
        self.head.weight = self.embedding.weight
        self.wide = nn.Linear(D, D)

    def forward(self, tokens):
        return self.head(self.wide(self.embedding(tokens.flatten(1).long())).mean(1))


class TwoPlaces(nn.Module):
    """One layer in two places, under two names and in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(F, F)
        self.second = self.first
        self.layers = nn.ModuleList([self.first, self.first])
        self.head = nn.Linear(F, C)

    def forward(self, x):
        x = self.second(self.first(x.flatten(1)).relu()).relu()
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)


@pytest.fixture(scope="module")
def reading(vision):
    """Words in place of pixels: (N, T), and which of ten comes first."""
    words = torch.randint(0, 10, (60, T), generator=torch.Generator().manual_seed(0))
    split = kit.data.Split(words, words[:, 0].clone())
    data = replace(vision.data, splits=dict.fromkeys(("train", "validation", "test"), split))
    return replace(vision, load=lambda: data, name="reading")


def sharing(name, vision, reading):
    torch.manual_seed(0)
    if name == "tied":
        return Tied(), reading, reading.data["train"].inputs[:32]
    return TwoPlaces(), vision, vision.data["train"].inputs[:32]


SHARING = ["tied", "two places"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon", torch.optim.SGD])
@pytest.mark.parametrize("name", SHARING)
def test_shared_weights_are_trained_once(name, optimizer, vision, reading):
    model, work, _ = sharing(name, vision, reading)
    history = learnt(model, work, steps=5, optimizer=optimizer, lr=1e-3)
    assert history.steps == 5
    if name == "tied":
        assert model.head.weight is model.embedding.weight
    else:
        assert model.first is model.second is model.layers[0]


@pytest.mark.parametrize("name", SHARING)
def test_shared_weights_are_counted_once(name, vision, reading):
    model, _, batch = sharing(name, vision, reading)
    params = V * D + D * D + D if name == "tied" else F * F + F + F * C + C
    counted = count(model, batch)
    assert counted.params == params
    assert counted.weight_bytes == FLOAT * params
    assert counted.optimizer_bytes == 2 * FLOAT * params
    assert FLOAT * params <= techniques.size_on_disk(model) < FLOAT * params + 1000


TRIED = ["none", "half", "channels_last", "int8_weights", "int8_dynamic", "onnx", "onnx_int8"]


@pytest.mark.parametrize("technique", [*TRIED, "zeroed", "pruned", "low_rank"])
@pytest.mark.parametrize("name", SHARING)
def test_techniques_take_shared_weights(name, technique, vision, reading):
    model, work, batch = sharing(name, vision, reading)
    try:
        form = techniques.get(technique)(model, batch)
    except (NotInstalled, NotSupported) as error:
        pytest.skip(str(error))
    assert predict(form, batch).shape == predict(model, batch).shape
    assert techniques.size_on_disk(form) > 0
    if technique in ("zeroed", "low_rank", "pruned"):
        assert count(form, batch).params <= count(model, batch).params
        assert learnt(form, work).steps == 3
        if name == "tied":
            assert form.head.weight is form.embedding.weight
        else:
            assert form.first is form.second is form.layers[1]


@pytest.mark.parametrize("name", SHARING)
def test_shared_zeros_stay_zeros(name, vision, reading):
    model, work, batch = sharing(name, vision, reading)
    form = techniques.zeroed(model, batch, share=0.5)
    before = {n: p.detach() == 0 for n, p in form.named_parameters() if p.ndim > 1}
    outputs = []
    with techniques.keep_zeros(form):
        learnt(form, work, optimizer="muon")
        outputs.append(predict(form, batch))
    after = dict(form.named_parameters())
    assert set(after) == set(dict(model.named_parameters()))
    assert all((after[n][zero] == 0).all() for n, zero in before.items())
    assert torch.equal(predict(form, batch), outputs[0])  # it was judged with its zeros


@pytest.mark.parametrize("name", SHARING)
def test_the_fastest_form_of_a_model_that_shares(name, vision, reading):
    model, work, _ = sharing(name, vision, reading)
    fast = kit.fastest(model, work, batch_size=2, techniques=("half",), budget_s=0.01)
    assert fast.name in ("none", "half")


def test_a_layer_in_two_places_is_recomputed_once(vision):
    model = TwoPlaces()
    learnt(model, vision, recompute=True)
    assert "forward" not in vars(model.first)


# --- What they freeze ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zeroed", "pruned", "low_rank"])
def test_what_is_to_be_trained_on_can_be(name, vision):
    model = nn.Sequential(nn.Flatten(), nn.Linear(F, 32), nn.ReLU(), nn.Linear(32, C))
    try:
        form = techniques.get(name)(model, images(8))
    except NotInstalled as error:
        pytest.skip(str(error))
    assert all(p.requires_grad for p in form.parameters())
    before = predict(form, images(8))
    learnt(form, vision)
    assert not torch.equal(before, predict(form, images(8)))


@pytest.mark.parametrize("name", ["zeroed", "pruned", "low_rank"])
def test_what_its_owner_froze_stays_frozen(name):
    model = nn.Sequential(nn.Flatten(), nn.Linear(F, 32), nn.ReLU(), nn.Linear(32, C))
    model[3].requires_grad_(False)
    try:
        form = techniques.get(name)(model, images(8))
    except NotInstalled as error:
        pytest.skip(str(error))
    assert all(p.requires_grad for p in form[1].parameters())
    assert not any(p.requires_grad for p in form[3].parameters())


def test_a_frozen_model_is_refused_with_the_way_out(vision):
    model = vision.model().requires_grad_(False)
    with pytest.raises(
        BadValue, match=r"weight tensors are frozen\. Use model\.requires_grad_\(\)"
    ):
        learnt(model, vision)
    with pytest.raises(BadValue, match="Flatten cannot be trained: it has no weights"):
        learnt(nn.Flatten(), vision)


class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Flatten(), nn.Linear(F, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, C)
        )


def frozen(part: nn.Module, *, mode: bool = True, weights: bool = True) -> None:
    part.train(not mode).requires_grad_(not weights)


RULES = {  # what its owner does to the model -> whether the norm, and dropout, train
    "nothing": (lambda model: None, True, True),
    "evaluation mode": (lambda model: model.eval(), True, True),
    "norm frozen": (lambda model: frozen(model[2]), False, True),
    "norm in evaluation mode": (lambda model: frozen(model[2], weights=False), False, True),
    "norm frozen, all in evaluation mode": (
        lambda model: frozen(model.eval()[2], mode=True),
        False,
        True,
    ),
    "dropout off": (lambda model: model[3].eval(), True, False),
    "weights frozen alone": (lambda model: frozen(model[2], mode=False), True, True),
}


@pytest.mark.parametrize("name", RULES)
def test_what_is_frozen_does_not_thaw(name, vision):
    model = Normed()
    prepare, norm_trains, dropout_trains = RULES[name]
    prepare(model)
    modes = [part.training for part in model.modules()]
    seen = []

    def note(*_):
        if torch.is_grad_enabled():
            seen.append((model[2].training, model[3].training))

    model[4].register_forward_hook(note)
    before = model[2].running_mean.clone()
    learnt(model, vision)
    assert set(seen) == {(norm_trains, dropout_trains)}
    assert torch.equal(before, model[2].running_mean) != norm_trains
    assert [part.training for part in model.modules()] == modes


def test_norms_of_a_single_example(vision):
    model = Normed()
    counted, pair = count(model, images(1)), count(model, images(2))
    assert 2 * counted.step_flops == pair.step_flops + counted.optimizer_flops
    assert "BatchNorm cannot train" in counted.table().caption and not pair.doubts
    billed = kit.step_cost(model, vision, batch_size=1, budget_s=0.01)
    assert billed.count.forward_flops == counted.forward_flops
    assert "BatchNorm cannot train" in billed.table().caption
    fast = kit.fastest(model, vision, techniques=("half",), budget_s=0.01)
    assert fast.name in ("none", "half")
    assert model[2].num_batches_tracked == 0 and model[2].training
    with pytest.raises(BadValue, match=r"batch_size=1: BatchNorm cannot train on one value"):
        learnt(model, vision, batch_size=1)


def test_a_batch_in_parts_warns_of_batch_norm(vision, recwarn):
    with pytest.warns(UserWarning, match=r"from 8 examples at a time \(accumulate=4"):
        learnt(Normed(), vision, batch_size=32, accumulate=4)
    recwarn.clear()
    model = Normed()
    frozen(model[2])
    learnt(model, vision, batch_size=32, accumulate=4)
    learnt(Normed(), vision, batch_size=32)
    assert not [each for each in recwarn if "BatchNorm" in str(each.message)]


def test_recomputing_warns_of_batch_norm(vision):
    model = nn.Sequential(nn.Flatten(), Listed())
    with pytest.warns(UserWarning, match="recompute=True computes BatchNorm twice"):
        learnt(model, vision, recompute=True)


class Listed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [nn.Sequential(nn.Linear(F, F), nn.BatchNorm1d(F)) for _ in range(2)]
        )

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x[:, :C]


# --- What they are called ------------------------------------------------------------------------


class MLP(nn.Module):
    """Called like one of the kit's, with attributes that mean something else."""

    def __init__(self) -> None:
        super().__init__()
        self.answer, self.home, self.cache, self.config = "42", "here", {}, {"hidden": 3}
        self.head = nn.Linear(F, C)

    def forward(self, x):
        return self.head(x.flatten(1))


def test_names_decide_nothing(vision):
    model = MLP()
    assert predict(model, images(2)).shape == (2, C)
    assert device_of(nn.Identity()) == torch.device("cpu")
    stateless = nn.Identity()
    stateless.home = "here"
    assert device_of(stateless) == torch.device("cpu")
    stateless.register_buffer("table", torch.zeros(1, device="meta"))
    assert device_of(stateless) == torch.device("meta")
    assert learnt(model, vision).steps == 3
    for technique in ("pruned", "zeroed", "half"):
        try:
            assert predict(techniques.get(technique)(model, images(8)), images(2)).shape == (2, C)
        except (NotInstalled, NotSupported):
            continue
    with pytest.raises(BadValue, match=r"given MLP; halved\(\) needs a model of the kit"):
        kit.models.halved(model)
    with pytest.raises(BadValue, match="GPT"):
        kit.generate(model, [1, 2], max_new_tokens=2)
    with pytest.raises(BadValue, match="GPT"):
        kit.count_generation(model, 2, 2)


# --- What they return ----------------------------------------------------------------------------


@dataclass
class ModelOutput(OrderedDict):
    """As Hugging Face's: a dataclass that is a dict of what is there, too."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    hidden: tuple[torch.Tensor, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("loss", "logits", "hidden"):
            if getattr(self, name) is not None:
                self[name] = getattr(self, name)


@dataclass
class Plain:
    logits: torch.Tensor


class Returning(nn.Module):
    def __init__(self, make) -> None:
        super().__init__()
        self.head, self.make = nn.Linear(F, C), make

    def forward(self, x):
        return self.make(self.head(x.flatten(1)))


TAKEN = {
    "ModelOutput": lambda y: ModelOutput(logits=y, hidden=(y, y)),
    "dataclass": Plain,
    "dict": lambda y: {"features": y[:, :2], "logits": y},
}
REFUSED = {
    "tuple": (lambda y: (y, y), r"a tuple of 2.*return self\.model\(inputs\)\[0\]"),
    "dict": (lambda y: {"out": y}, r"a dict with out.*\['out'\]"),
    "None": (lambda y: None, r"a NoneType"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_logits_are_taken_everywhere(name, vision):
    torch.manual_seed(0)
    model = Returning(TAKEN[name])
    plain = nn.Sequential(nn.Flatten(), nn.Linear(F, C))
    plain[1].load_state_dict(model.head.state_dict())
    assert torch.equal(predict(model, images(3)), predict(plain, images(3)))
    assert evaluate(model, vision) == evaluate(plain, vision)
    targets = torch.tensor([0, 1, 2])
    loss = lambda logits: cross_entropy(logits, targets)  # noqa: E731
    assert count(model, images(3)).forward_flops == count(plain, images(3)).forward_flops
    assert count(model, images(3)).params == F * C + C
    for technique in ("none", "half", "zeroed"):
        form = techniques.get(technique)(model, images(3))
        assert predict(form, images(3)).shape == (3, C)
    assert kit.step_cost(model, vision, budget_s=0.01).flops_ratio > 1
    kit.fastest(model, vision, batch_size=2, techniques=("half",), budget_s=0.01)
    sgd = torch.optim.SGD(model.parameters(), lr=0.0)
    assert step(model, sgd, images(3), targets, cross_entropy) == loss(plain(images(3)))
    assert learnt(model, vision).losses == learnt(plain, vision).losses
    compared = kit.compare({"a": lambda: model(images(2)), "b": lambda: model(images(2))})
    assert compared.agreement is not None


@pytest.mark.parametrize("name", REFUSED)
def test_other_outputs_are_refused_with_the_wrapper(name, vision):
    make, told = REFUSED[name]
    model = Returning(make)
    calls = [
        lambda: evaluate(model, vision),
        lambda: learnt(model, vision),
        lambda: next(updates(model, vision)),
        lambda: techniques.half(model, images(2)),
        lambda: kit.step_cost(model, vision, budget_s=0.01),
        lambda: kit.fastest(model, vision, batch_size=2, techniques=("half",), budget_s=0.01),
    ]
    for call in calls:
        with pytest.raises(BadValue, match=f"(?s){told}") as caught:
            call()
        wrapper = str(caught.value).partition("\n")[2]
        assert len(wrapper.splitlines()) == 3
    if name != "None":
        scope = {"torch": torch}
        exec(textwrap.dedent(wrapper), scope)
        assert learnt(scope["OneTensor"](model), vision).steps == 3


def test_other_inputs_are_refused_in_a_line(vision):
    class Named:
        """A task whose batches are dicts."""

        def __getattr__(self, name):
            return getattr(vision, name)

        def batches(self, *args, **options):
            return (({"x": x}, y) for x, y in vision.batches(*args, **options))

    with pytest.raises(BadValue, match="are a dict; training needs one tensor"):
        learnt(Normed(), Named())
    with pytest.raises(BadValue, match="example is a dict"):
        techniques.half(Several(), {"a": torch.rand(1, 6), "b": torch.rand(1, 4)})


# --- NumPy's numbers, and large seeds ------------------------------------------------------------


def test_numbers_of_numpy_are_numbers(vision, tmp_path):
    options = {"batch_size": 16, "lr": 1e-3, "accumulate": 2, "clip": 1.0, "seed": 3}
    plain, other = vision.model(), vision.model()
    other.load_state_dict(plain.state_dict())
    numpys = {
        name: np.int64(value) if isinstance(value, int) else np.float64(value)
        for name, value in options.items()
    }
    first = train(plain, vision, steps=4, live=False, **options)
    path = tmp_path / "kept.kit"
    second = train(other, vision, steps=np.int32(4), live=False, checkpoint=path, **numpys)
    assert first.losses == second.losses
    assert kit.load(path).state is not None
    kit.seed(np.int64(5))
    drawn = torch.rand(1)
    kit.seed(5)
    assert torch.equal(drawn, torch.rand(1))
    gpt = kit.models.GPT()
    written = [
        kit.generate(gpt, [whole(1)], max_new_tokens=whole(3), temperature=1.0, seed=whole(4))
        for whole in (int, np.int64)
    ]
    assert written[0].tokens == written[1].tokens
    assert techniques.low_rank(
        nn.Sequential(nn.Linear(8, 8)), torch.rand(2, 8), share=np.float32(0.5)
    )
    assert len(vision.data["test"][0]) == sum(
        len(x) for x, _ in vision.batches("test", np.int64(7))
    )


@pytest.mark.parametrize("seed", [True, np.bool_(True), 1.5, "1", -1, 2**64, np.int64(-1)])
def test_other_seeds_are_refused_in_a_line(seed, vision):
    with pytest.raises(BadValue, match="seed"):
        kit.seed(seed)
    with pytest.raises(BadValue, match="seed"):
        learnt(vision.model(), vision, seed=seed)
    with pytest.raises(BadValue, match="seed"):
        kit.generate(kit.models.GPT(), [1], max_new_tokens=1, seed=seed)


@pytest.mark.parametrize("seed", [2**48, 2**63, 2**64 - 1])
def test_large_seeds_give_an_order_of_their_own(seed, vision):
    runs = []
    for each in (seed, seed, seed - 1):
        torch.manual_seed(0)
        runs.append(learnt(vision.model(), vision, seed=each).losses)
    assert runs[0] == runs[1] != runs[2]


# --- Several inputs in fewer bits; zeros; arguments in the wrong order ---------------------------


class Rated(nn.Module):
    """Numbers (B, 3) and an id (B,) -> (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.ids, self.head = nn.Embedding(2_000, 4), nn.Linear(7, 2)

    def forward(self, numbers, id):
        return self.head(torch.cat([numbers, self.ids(id)], 1))


@pytest.mark.parametrize("named", [True, False])
def test_half_of_a_model_with_numbers_and_ids_keeps_the_ids(named):
    ids = torch.arange(1_001, 1_201)  # bfloat16 knows every eighth of these
    inputs = {"numbers": torch.rand(200, 3), "id": ids}
    given = inputs if named else tuple(inputs.values())
    work = kit.workloads.from_data((given, ids % 2), model=Rated)
    model, rows = work.model(), work.example(64)[0]
    for made in (model, nn.Sequential(model)):
        form, seen = techniques.half(made, rows), []
        embedding = next(part for part in form.modules() if isinstance(part, nn.Embedding))
        embedding.register_forward_hook(lambda part, given, out, seen=seen: seen.append(given[0]))
        answers = predict(form, rows)
        assert torch.equal(seen[0], model.layout.unpack(rows)[1])
        assert embedding.weight.dtype == torch.bfloat16 and answers.dtype == torch.float32
        assert torch.allclose(answers, predict(model, rows), atol=0.05)
    assert model.layout.dtypes[0] == torch.float32  # its own is as it was


def test_training_warns_that_it_fills_zeros_unless_they_are_kept(vision):
    model = nn.Sequential(nn.Flatten(), nn.Linear(F, C))
    form = techniques.zeroed(model, images(8))
    with techniques.keep_zeros(form), warnings.catch_warnings():
        warnings.simplefilter("error")
        learnt(form, vision)
    assert (form[1].weight == 0).sum() == round(0.8 * F * C)
    with pytest.warns(UserWarning, match="keep_zeros"):
        learnt(form, vision)
    assert "keep_zeros" in techniques.zeroed.__doc__ and "keep_zeros" in str(techniques.table())


def untrained(x):
    return x


WRONG = {  # what is given in the wrong order, or is something else; the right call
    "predict": (lambda m, x: kit.predict(x, m), "kit.predict(model, inputs)"),
    "predict a name": (lambda m, x: kit.predict("mlp", x), "work.model('mlp')"),
    "predict a class": (lambda m, x: kit.predict(kit.models.MLP, x), "MLP()"),
    "save": (lambda m, x: kit.save(m, "x.kit"), 'kit.save("model.kit", model)'),
    "save a dict": (lambda m, x: kit.save("x.kit", {}), 'kit.save("model.kit", model)'),
    "count": (lambda m, x: kit.count(x, m), "kit.count(model, inputs)"),
    "count a function": (lambda m, x: kit.count(untrained, x), "kit.count(model, inputs)"),
    "half": (lambda m, x: techniques.half("mlp", x), "kit.techniques.half(model, example)"),
    "pruned": (lambda m, x: techniques.none(x, m), "kit.techniques.none(model, example)"),
    "compare": (lambda m, x: kit.compare([untrained, untrained]), "kit.compare({'one': f"),
    "compare numbers": (lambda m, x: kit.compare({"a": 3, "b": 4}), "lambda: "),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_get_one_line_with_the_right_call(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, right = WRONG[name]
    with pytest.raises(BadValue) as refusal:
        call(kit.models.MLP(), images(2))
    assert right in str(refusal.value) and "\n" not in str(refusal.value)
    assert "given" in str(refusal.value)
    assert not list(tmp_path.iterdir())
