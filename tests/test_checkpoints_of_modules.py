"""Checkpoints of modules that the kit did not write, and of trainings that must be the same."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import kit
from kit import checkpoints
from kit.core.errors import BadValue, CheckpointRefused
from kit.data.fingerprints import MOST_BYTES, fingerprint
from kit.training import train


class Tied(nn.Module):
    """One matrix under two names, as in many language models."""

    def __init__(self, tied: bool = True):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64, bias=False), nn.Linear(64, 64, bias=False)
        self.head = nn.Linear(64, 10)
        if tied:
            self.second.weight = self.first.weight

    def forward(self, images):
        return self.head(self.second(self.first(images.flatten(1)).relu()))


class Twice(nn.Module):
    """A layer in two places, normalised; with dropout and buffers of both kinds."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 64)
        self.layers = nn.ModuleList([self.layer, nn.BatchNorm1d(64), self.layer, nn.Dropout(0.2)])
        self.head = nn.utils.parametrizations.weight_norm(nn.Linear(64, 10))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("table", torch.arange(64.0), persistent=False)

    def forward(self, images):
        x = images.flatten(1) * self.scale + 0 * self.table
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class MLP(nn.Module):
    """A class of the user's, called as one of ours."""

    def __init__(self, hidden: int = 16):
        super().__init__()
        self.config = {"hidden": hidden}
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU())
        self.out = nn.Linear(hidden, 10)

    def forward(self, images):
        return self.out(self.net(images))


def lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(10))


def called() -> nn.Module:
    model = lazy()
    model(torch.zeros(2, 1, 8, 8))
    return model


KINDS = {"tied": Tied, "twice": Twice, "MLP": MLP, "once lazy": called}


def seeded(make, seed=0):
    torch.manual_seed(seed)
    return make()


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[n], theirs[n]) for n in ours)


def run(model, work, **options):
    options = {"steps": 8, "evaluate_every": 4, "batch_size": 32, "live": False, **options}
    return train(model, work, **options)


# --- There and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_any_module_is_saved_and_filled_again(kind, tmp_path):
    model = seeded(KINDS[kind])
    path = kit.save(tmp_path / "mine.kit", model)
    again = seeded(KINDS[kind], seed=1)
    assert not same(model, again)
    assert kit.load(path, model=again).model is again
    assert same(model, again)


@pytest.mark.parametrize("kind", KINDS)
def test_any_module_goes_on_bit_for_bit(kind, vision, tmp_path):
    whole, file = seeded(KINDS[kind]), tmp_path / "mine.kit"
    straight = run(whole, vision)
    half = seeded(KINDS[kind])
    run(half, vision, steps=4, checkpoint=file)
    torch.manual_seed(12345)
    again = seeded(KINDS[kind])
    assert run(again, vision, checkpoint=file).losses == straight.losses
    assert same(again, whole)
    kept = kit.load(file, model=seeded(KINDS[kind], seed=3))
    assert same(kept.model, whole) and kept.state["losses"] == list(straight.losses)


def test_a_module_is_saved_as_it_stands_after_each_kind_of_resume(vision, tmp_path):
    model = seeded(Tied)
    file = kit.save(tmp_path / "half.kit", model, run(model, vision, steps=4))
    kept = kit.load(file, model=seeded(Tied, seed=1))
    run(kept.model, vision, resume=kept.state)
    whole = seeded(Tied)
    run(whole, vision)
    assert same(kept.model, whole)


def test_shared_weights_are_kept_once_and_shared_again(tmp_path):
    path = kit.save(tmp_path / "tied.kit", seeded(Tied))
    apart = kit.save(tmp_path / "apart.kit", seeded(lambda: Tied(tied=False)))
    saved = apart.stat().st_size - path.stat().st_size
    assert 0.9 * 64 * 64 * 4 < saved < 1.1 * 64 * 64 * 4
    again = kit.load(path, model=Tied()).model
    assert again.second.weight is again.first.weight
    with pytest.raises(CheckpointRefused, match=r"shares \['first.weight', 'second.weight'\], the"):
        kit.load(path, model=Tied(tied=False))
    with pytest.raises(CheckpointRefused, match="the model shares"):
        kit.load(apart, model=Tied())


def test_views_of_one_memory_that_differ_are_each_kept(tmp_path):
    class Views(nn.Module):
        def __init__(self):
            super().__init__()
            both = torch.randn(4, 6)
            self.register_buffer("all", both)
            self.register_buffer("some", both[1:, ::2])

    model = Views()
    assert same(kit.load(kit.save(tmp_path / "a.kit", model), model=Views()).model, model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.complex64])
def test_every_dtype_comes_back(dtype, tmp_path):
    model = nn.Linear(3, 2).to(dtype)
    again = nn.Linear(3, 2).to(dtype)
    assert same(kit.load(kit.save(tmp_path / "a.kit", model), model=again).model, model)


def test_a_lazy_module_is_filled_before_its_first_call(tmp_path):
    model = called()
    again = kit.load(kit.save(tmp_path / "a.kit", model), model=lazy()).model
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(model(images), again(images))


def test_a_compiled_module_is_kept_as_the_one_inside(tmp_path):
    model = nn.Linear(3, 2)
    path = kit.save(tmp_path / "a.kit", torch.compile(model, backend="eager"))
    assert same(kit.load(path, model=nn.Linear(3, 2)).model, model)


def test_a_class_of_the_same_name_is_not_ours(tmp_path):
    path = kit.save(tmp_path / "a.kit", MLP())
    with pytest.raises(
        CheckpointRefused, match=r"test_checkpoints_of_modules\.MLP, which is not one of"
    ):
        kit.load(path)
    with pytest.raises(CheckpointRefused, match="does not fit this MLP"):
        kit.load(path, model=kit.models.MLP())


def test_a_model_of_ours_can_be_filled_too(tmp_path):
    model = kit.models.CNN()
    again = kit.load(kit.save(tmp_path / "a.kit", model), model=kit.models.CNN()).model
    assert same(model, again)


# --- Refused -------------------------------------------------------------------------------------


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"steps": 3}

    def set_extra_state(self, state):
        """Nothing to do."""


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return nn.Linear(2, 2)


def sparse() -> nn.Module:
    model = nn.Module()
    model.register_buffer("links", torch.eye(3).to_sparse())
    return model


UNFIT = {
    "extra": (lambda: Extra(1, 1), r"'_extra_state' is a dict; .* get_extra_state return one"),
    "lazy": (lazy, r"'1\.weight' is made at the first call\. Call the model once"),
    "meta": (on_meta, "has a shape and no numbers"),
    "sparse": (sparse, r"'links' is a torch\.sparse_coo"),
    "complex128": (lambda: nn.Linear(1, 1).to(torch.complex128), "safetensors cannot store"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_what_no_file_of_tensors_can_hold_is_refused(kind, tmp_path):
    make, told = UNFIT[kind]
    with pytest.raises(BadValue, match=told):
        kit.save(tmp_path / "a.kit", make())
    assert not list(tmp_path.iterdir())


OTHERS = {
    "shape": (
        lambda: MLP(17),
        r"'net\.1\.weight' is \(16, 64\) in the file, \(17, 64\) in the model",
    ),
    "dtype": (lambda: MLP().half(), r"torch\.float32 in the file, torch\.float16 in the model"),
    "names": (lambda: Tied(), r"the file has no 'first\.weight'.*, and \d+ more"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_model_that_does_not_fit_is_told_where_and_left(kind, tmp_path):
    make, told = OTHERS[kind]
    path, model = kit.save(tmp_path / "a.kit", MLP()), make()
    before = copy.deepcopy(model)
    with pytest.raises(CheckpointRefused, match=told) as refused:
        kit.load(path, model=model)
    assert refused.value.check == "model" and same(model, before)


# --- The same training, or another one -----------------------------------------------------------


def altered(work, split="train", part=0):
    """The same work, with one number of one example another."""
    examples = [each.clone() for each in work.data[split]]
    examples[part][7] = (examples[part][7] + 1) % 10
    return work.with_split(split, kit.data.Split(*examples))


def shorter(work):
    return work.with_split("train", kit.data.Split(*(part[:900] for part in work.data["train"])))


CHANGES = {
    "an example": (altered, "the training split differs"),
    "a label": (lambda work: altered(work, part=1), "the training split differs"),
    "the validation": (lambda work: altered(work, "validation"), "the validation split differs"),
    "the size": (shorter, r"the training split differs .*900"),
    "the classes": (
        lambda work: replace(
            work, load=lambda data=work.data: replace(data, classes=tuple("abcdefghij"))
        ),
        "the classes differ from",
    ),
}


@pytest.mark.parametrize("way", ["checkpoint", "resume"])
@pytest.mark.parametrize("change", CHANGES)
def test_other_data_are_refused(way, change, vision, tmp_path):
    alter, told = CHANGES[change]
    model, file = seeded(MLP), tmp_path / "a.kit"
    state = run(model, vision, steps=4, checkpoint=file).state
    before = copy.deepcopy(model)
    given = {"checkpoint": file} if way == "checkpoint" else {"resume": state}
    with pytest.raises(BadValue, match=told) as refused:
        run(model, alter(vision), **given)
    assert "another path" in str(refused.value) and "kit.load(path, model=model)" in str(
        refused.value
    )
    assert same(model, before)


def test_another_text_is_refused(tmp_path):
    """The same name, the same length, another letter."""
    words = "All of this is one text, and it is long enough for three splits. " * 60
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    works = []
    for folder, text in (("a", words), ("b", words.replace("long", "lung", 1))):
        (tmp_path / folder / "mine.txt").write_text(text)
        works.append(
            kit.workloads.language(
                kit.data.load_text_file(tmp_path / folder / "mine.txt", context=16)
            )
        )
    run(works[0].model("gpt-small"), works[0], steps=2, checkpoint=tmp_path / "a.kit")
    with pytest.raises(BadValue, match="the training split differs"):
        run(works[1].model("gpt-small"), works[1], checkpoint=tmp_path / "a.kit")


def test_a_large_text_is_looked_at_in_1024_places(tmp_path):
    """Of a gigabyte, sparse on the disk, a few pages are read; its size counts, and its windows."""
    path = tmp_path / "large.txt"
    with path.open("wb") as file:
        file.truncate(2**30)
    first = fingerprint(kit.workloads.language(kit.data.load_text_file(path)))
    assert MOST_BYTES < 2**30
    with path.open("r+b") as file:
        file.write(b"x")
    second = fingerprint(kit.workloads.language(kit.data.load_text_file(path)))
    assert first["training split"] != second["training split"]
    assert first["validation split"] == second["validation split"]


class Dropping(nn.Module):
    def __init__(self, share: float):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(share))

    def forward(self, images):
        return self.layers(images)


def test_other_options_of_a_layer_are_another_model(vision, tmp_path):
    """No weight tells of them."""
    run(Dropping(0.1), vision, checkpoint=tmp_path / "a.kit", steps=4)
    with pytest.raises(BadValue, match="the architecture differs from"):
        run(Dropping(0.2), vision, checkpoint=tmp_path / "a.kit")


def test_a_state_does_not_go_on_from_other_weights(vision):
    """A state holds no weights: the optimizer of one model went on with those of another."""
    state = run(seeded(MLP), vision, steps=4).state
    with pytest.raises(BadValue, match=r"other weights .* kit\.load\(path, model=model\)"):
        run(seeded(MLP), vision, resume=state)


def test_a_checkpoint_says_when_it_replaces_weights_that_were_never_its_own(
    vision, tmp_path, recwarn
):
    file = tmp_path / "a.kit"
    model = seeded(MLP)
    run(model, vision, steps=4, checkpoint=file)
    run(seeded(MLP), vision, steps=5, checkpoint=file)  # as it began
    last = kit.load(file, model=seeded(MLP, seed=5)).model
    run(last, vision, steps=6, checkpoint=file)  # as it was kept
    assert not recwarn.list
    with pytest.warns(UserWarning, match="other weights than the training in the checkpoint"):
        run(seeded(MLP, seed=1), vision, steps=7, checkpoint=file)


def test_an_older_training_goes_on_with_a_note(vision):
    model = seeded(MLP)
    state = run(model, vision, steps=4).state
    del state["fingerprints"]
    with pytest.warns(UserWarning, match="by an older kit"):
        run(model, vision, resume=state)


def test_a_checkpoint_of_the_first_format_is_still_read(tmp_path, vision):
    """Written as it was: all losses in the header, nothing about classes or shared weights."""
    import json

    from kit.core import tensor_files

    model = kit.models.MLP()
    history = run(model, vision, steps=80)
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    old = {k: v for k, v in history.state.items() if k != "fingerprints"}
    few = checkpoints.FEW
    try:
        checkpoints.FEW = 10**9
        state = checkpoints._split(old, "state.", tensors)
    finally:
        checkpoints.FEW = few
    about = {"version": 1, "family": "MLP", "config": vars(model.config), "state": state}
    text = json.dumps(about, sort_keys=True)
    (tmp_path / "old.kit").write_bytes(tensor_files.pack(tensors, text, kit=text))
    kept = kit.load(tmp_path / "old.kit")
    assert same(kept.model, model) and kept.state["losses"] == list(history.losses)


def test_an_optimizer_that_does_not_fit_is_refused(vision):
    """The fused AdamW writes as many numbers as the weight has, wherever its state ends."""
    model = seeded(MLP)
    state = run(model, vision, steps=4).state
    short = copy.deepcopy(state)
    short["optimizer"]["state"][0]["exp_avg"] = torch.zeros(1)
    with pytest.raises(BadValue, match=r"'exp_avg' of shape \(1,\) for a weight \(16, 64\)"):
        run(model, vision, resume=short)
    for name, value in (("lr", "fast"), ("betas", [0.9]), ("params", [0])):
        odd = copy.deepcopy(state)
        odd["optimizer"]["param_groups"][0][name] = value
        with pytest.raises(BadValue, match="optimizer"):
            run(model, vision, resume=odd)
