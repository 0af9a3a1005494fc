"""Checkpoints: whole or not at all. Files are really cut, altered, interrupted and mixed up."""

import json
import multiprocessing
import os
import random
import sys
import time
from pathlib import Path

import pytest
import torch
from families import larger
from torch import nn

from kit import checkpoints
from kit.checkpoints import load, save
from kit.core.errors import CheckpointRefused
from kit.models import FAMILIES, MLP, MLPConfig, build
from kit.training import train

TINY = MLPConfig(hidden=1, layers=1, features=1, classes=2)


def tiny(seed: int = 0) -> MLP:
    torch.manual_seed(seed)
    return MLP(TINY)


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(
        torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype
        for name in ours
    )


def refusal(path: Path) -> str | None:
    """The name of the failed check; None if the file was loaded. Other errors come through."""
    try:
        load(path)
    except CheckpointRefused as error:
        assert str(path) in str(error)
        return error.check
    return None


@pytest.fixture
def saved(tmp_path) -> Path:
    return save(tmp_path / "tiny.kit", tiny())


# --- There and back ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_comes_back_bit_for_bit(family, dtype, tmp_path):
    model = larger(family).to(dtype)
    back = load(save(tmp_path / "model.kit", model)).model
    assert type(back) is type(model) and back.config == model.config
    assert same(back, model)


def test_training_comes_back_with_all_it_needs(vision, tmp_path):
    model = MLP(MLPConfig(hidden=4))
    history = train(model, vision, steps=3, live=False)
    state = load(save(tmp_path / "a.kit", model, history)).state
    assert state["losses"] == list(history.losses)
    assert state["settings"] == history.state["settings"]
    assert torch.equal(state["rng"], history.state["rng"])
    ours, theirs = (s["optimizer"]["state"] for s in (state, history.state))
    assert list(ours) == list(theirs)  # numbers, not "0", "1", …
    for index in theirs:
        assert all(torch.equal(ours[index][name], theirs[index][name]) for name in theirs[index])


def test_a_model_alone_has_no_state(saved):
    assert load(saved).state is None
    assert load(saved).path == saved


def test_missing_folders_are_made_and_an_old_file_is_replaced(tmp_path):
    path = tmp_path / "a" / "b" / "model.kit"
    save(path, tiny(1))
    assert save(str(path), tiny(2)) == path
    assert same(load(path).model, tiny(2))
    assert os.listdir(path.parent) == ["model.kit"]


def test_saving_leaves_the_model_alone(tmp_path):
    model = tiny().train()
    save(tmp_path / "a.kit", model)
    assert same(model, tiny()) and model.training


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
def test_a_file_may_be_read_by_those_who_may_read_new_files_here(tmp_path):
    (tmp_path / "other").touch()
    wanted = (tmp_path / "other").stat().st_mode
    assert oct(save(tmp_path / "a.kit", tiny()).stat().st_mode) == oct(wanted)


def test_a_model_that_load_could_not_make_has_to_be_given(tmp_path):
    path = save(tmp_path / "a.kit", nn.Linear(1, 1))
    with pytest.raises(
        CheckpointRefused, match=r"Linear, which is not one of .*model=your"
    ) as told:
        load(path)
    assert told.value.check == "model"


# --- Refused -------------------------------------------------------------------------------------


def test_a_file_that_is_not_there(tmp_path):
    assert refusal(tmp_path / "none.kit") == "exists"
    assert refusal(tmp_path) == "exists"


def foreign(folder: Path) -> dict[str, Path]:
    """Files of others."""
    from safetensors.torch import save_file

    paths = {name: folder / name for name in ("pickle", "safetensors", "json", "text", "zeros")}
    torch.save(tiny().state_dict(), paths["pickle"])
    save_file(tiny().state_dict(), paths["safetensors"])
    paths["json"].write_text(json.dumps({"weights": [1, 2, 3]}))
    paths["text"].write_text("Dear diary, today I trained a model. " * 10)
    paths["zeros"].write_bytes(bytes(1_000))
    return paths


@pytest.mark.parametrize("kind", ["pickle", "safetensors", "json", "text", "zeros"])
def test_a_file_of_somebody_else(kind, tmp_path):
    assert refusal(foreign(tmp_path)[kind]) == "format"


@pytest.mark.parametrize(
    "header",
    [
        {"__metadata__": ["a list"]},
        {"__metadata__": {"kit": 3, "digest": "x"}},
        {"__metadata__": {"kit": '{"version": 1}', "digest": "x"}, "w": 3},
        {"__metadata__": {"kit": '{"version": 1}', "digest": "x"}, "w": {"dtype": "F32"}},
        {"__metadata__": {"kit": '{"version": "new"}', "digest": "x"}},
        [],
    ],
    ids=json.dumps,
)
def test_a_header_that_makes_no_sense(header, tmp_path):
    text = json.dumps(header).encode()
    path = tmp_path / "odd.kit"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    assert refusal(path) is not None


def test_every_cut_is_noticed(saved, tmp_path):
    data, cut = saved.read_bytes(), tmp_path / "cut.kit"
    names = {}
    for length in range(len(data)):
        cut.write_bytes(data[:length])
        names[length] = refusal(cut)
    assert set(names.values()) == {"complete"}


def test_bytes_too_many_are_noticed(saved):
    saved.write_bytes(saved.read_bytes() + b"\0")
    assert refusal(saved) == "complete"


def test_every_flipped_bit_is_noticed(saved, tmp_path):
    data, altered = saved.read_bytes(), tmp_path / "altered.kit"
    wrong = []
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            altered.write_bytes(changed)
            try:
                if refusal(altered) is None:
                    wrong.append((position, bit, "loaded"))
            except Exception as error:
                wrong.append((position, bit, repr(error)))
    assert not wrong


def test_a_flipped_bit_among_the_numbers_is_called_altered(saved):
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(data)
    assert refusal(saved) == "digest"


def test_bytes_altered_anywhere_in_a_whole_training_are_noticed(vision, tmp_path):
    model = MLP(MLPConfig(hidden=2))
    path = save(tmp_path / "a.kit", model, train(model, vision, steps=2, live=False))
    data, draw = path.read_bytes(), random.Random(0)
    for position in draw.sample(range(len(data)), 200):
        changed = bytearray(data)
        changed[position] ^= draw.randrange(1, 256)
        path.write_bytes(changed)
        assert refusal(path) is not None, position


def test_a_file_of_a_newer_kit(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "VERSION", checkpoints.VERSION + 1)
    path = save(tmp_path / "new.kit", tiny())
    monkeypatch.undo()
    with pytest.raises(
        CheckpointRefused, match=r"format 3, but this kit reads formats up to 2\. Upgrade"
    ) as told:
        load(path)
    assert told.value.check == "version"


class Gone(MLP):
    """A family that the kit no longer has."""


def test_a_model_that_the_kit_no_longer_makes(tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, "Gone", (Gone, MLPConfig))
    path = save(tmp_path / "gone.kit", Gone(TINY))
    assert refusal(path) is None
    monkeypatch.undo()
    assert refusal(path) == "model"


def test_weights_that_do_not_fit_their_config_are_not_loaded(tmp_path, monkeypatch):
    model = tiny()
    model.config = MLPConfig(hidden=3)
    monkeypatch.setattr(checkpoints, "_family", lambda model: "MLP")  # as if it had slipped
    assert refusal(save(tmp_path / "odd.kit", model)) == "model"


def test_weights_that_do_not_fit_their_config_are_loaded_into_a_model_like_it(tmp_path):
    """A pruned one, say: the kit could not make it again from its config."""
    model = tiny(1)
    model.config = MLPConfig(hidden=3)
    path = save(tmp_path / "odd.kit", model)
    with pytest.raises(CheckpointRefused, match="Make the model yourself"):
        load(path)
    assert same(load(path, model=tiny(2)).model, tiny(1))


def test_nothing_in_a_file_is_run(saved, tmp_path):
    """A pickle would run this; here it is only a foreign file."""

    class Bomb:
        def __reduce__(self):
            return (Path(tmp_path / "ran").touch, ())

    import pickle

    saved.write_bytes(pickle.dumps(Bomb()))
    assert refusal(saved) in {"format", "complete"}
    assert not (tmp_path / "ran").exists()


# --- Interrupted ---------------------------------------------------------------------------------


def save_for_ever(path: Path) -> None:
    torch.set_num_threads(1)
    models = [tiny(0), tiny(1)]
    while True:
        for model in models:
            save(path, model)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_killed_while_saving_leaves_a_whole_file(saved):
    draw, fork = random.Random(0), multiprocessing.get_context("fork")
    for _ in range(8):
        saver = fork.Process(target=save_for_ever, args=(saved,))
        saver.start()
        time.sleep(0.05 * draw.random())
        saver.kill()
        saver.join()
        assert saver.exitcode == -9
        found = load(saved).model
        assert same(found, tiny(0)) or same(found, tiny(1))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_full_disk_leaves_the_old_file(saved):
    """A limit on the size of files stands in for the disk: the write fails half-way."""
    import resource

    old, limits = saved.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(old) // 2, limits[1]))
    try:
        with pytest.raises(OSError):
            save(saved, tiny(1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert saved.read_bytes() == old
    assert list(saved.parent.iterdir()) == [saved]


def test_a_state_that_cannot_be_written_leaves_the_old_file(saved):
    class History:
        state = {"optimizer": object()}  # noqa: RUF012

    old = saved.read_bytes()
    with pytest.raises(TypeError):
        save(saved, tiny(1), History())
    assert saved.read_bytes() == old
    assert list(saved.parent.iterdir()) == [saved]


# --- Deep models, long trainings -----------------------------------------------------------------


@pytest.mark.parametrize("family", ["GPT", "Transformer", "RNN", "MLP"])
def test_a_deep_model_comes_back(family, tmp_path):
    options = vars(FAMILIES[family][1]())
    small = dict.fromkeys({"d_model", "n_heads", "hidden"} & set(options), 2)
    deep = dict.fromkeys(set(checkpoints.LAYERS) & set(options), checkpoints.FEW + 2)
    model = build(family, {**small, **deep})
    assert same(load(save(tmp_path / "a.kit", model)).model, model)


def test_a_long_history_comes_back(tmp_path):
    tensors: dict[str, torch.Tensor] = {}
    losses = [i / 7 for i in range(200_000)]
    kept = checkpoints._split({"losses": losses}, checkpoints.STATE, tensors)
    assert checkpoints._join(kept, tensors) == {"losses": losses}
