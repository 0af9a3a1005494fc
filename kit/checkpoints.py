"""Keeping the weights: save and load, whole or not at all.

One safetensors file: tensors, and JSON in its header. It holds no pickled code, so loading a
stranger's file cannot run anything. It is written beside its place and moved there when whole.

A file is loaded only after every check has passed, in this order:

exists     there is such a file
format     it is a safetensors file of this kit, and makes sense (see `kit.core.tensor_files`)
complete   no byte is missing at the end
version    it is not from a newer kit
digest     no byte has changed since it was written
training   the state of the training is one that training can go on from
model      names, shapes, dtypes and shared weights are those of the model to be filled
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kit.core import tensor_files
from kit.core.errors import BadValue, CheckpointRefused
from kit.core.files import atomic_write
from kit.core.tensor_files import MALFORMED, one_line
from kit.data.arguments import check_model, described
from kit.models import FAMILIES, build

VERSION = 2  # 1: models of the kit's own families alone, in which no two weights are shared
MODEL, STATE = "model.", "state."  # what the names of tensors begin with
LAYERS = ("layers", "n_layers")  # of a config: how many times something is made
MOST_TOLD = 3  # differences
FEW = 64  # numbers that may stand in the header; longer lists are kept as tensors
MOST_LISTED = 2**26  # numbers of such a list; each takes 8 bytes of the file and 32 of memory
# What `kit.train` keeps, with the fingerprints that older kits did not note.
KEPT = {"optimizer", "rng", "losses", "scores", "train_s", "settings", "fingerprints"}


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was saved, and what training needs to go on with it."""

    model: nn.Module
    state: dict[str, Any] | None  # for `kit.train(..., resume=state)`
    path: Path


@dataclass(frozen=True)
class Contents:
    """What a file holds, after every check but the last: no model has been touched yet."""

    path: Path
    about: dict[str, Any]
    weights: dict[str, Tensor]  # by name; shared ones under their first name
    state: dict[str, Any] | None

    def make(self) -> nn.Module:
        """The model, made by the kit."""
        if self.about["family"] is None:
            told = f"{self.path} holds the weights of {self.about['class']}, which you have to make"
            raise CheckpointRefused("model", f"{told}: kit.load(path, model=your_model).")
        try:
            _check_layers(self.about["family"], self.about["config"], self.weights)
            model = _on_meta(self.about["family"], self.about["config"])
            if told := _differences(self, model, dtypes=False):
                raise ValueError(told)
            model.load_state_dict(self.weights, assign=True)  # in the dtype they were saved in
        except MALFORMED as error:  # a config of nonsense, too
            raise CheckpointRefused("model", f"{self.path}: {one_line(error)}") from error
        return model

    def fill(self, model: nn.Module) -> None:
        """Put the weights into a model that fits; the dtypes and the device stay its own.

        Raises
        ------
        CheckpointRefused
            "model": it does not fit; the first differences. The model is as it was.
        """
        model = _plain(model)
        kind, told = type(model).__name__, _differences(self, model)
        if told:
            raise CheckpointRefused("model", f"{self.path} does not fit this {kind}: {told}")
        others = {name: self.weights[first] for name, first in self.about["shared"].items()}
        try:
            model.load_state_dict({**self.weights, **others})
        except MALFORMED as error:  # by a hook of its own
            raise CheckpointRefused("model", f"{self.path}: {kind}: {one_line(error)}") from error


def save(path: str | Path, model: nn.Module, history: Any = None) -> Path:
    """Write the model, and where training stands if a history is given; returns the path.

    Parameters
    ----------
    path
        Where to; missing folders are made. A file that is there is replaced at the very end, in
        one move: an interrupted save leaves the old one whole.
    model
        Any module whose state is tensors: its parameters and persistent buffers. Weights that
        are shared are kept once. One of the kit's families can be made again by `load(path)`;
        for another you make it, and `load(path, model=...)` fills it.
    history
        What `kit.train` returned; its `.state` is kept, so that training can go on.

    Raises
    ------
    BadValue
        No model where one is needed; part of its state is not a plain tensor, or is made at its
        first call only.
    """
    right = 'kit.save("model.kit", model)'
    if isinstance(path, nn.Module):
        raise BadValue(f"kit.save: given {described(path)} first; needs a path first: {right}.")
    check_model("kit.save", model, right)
    model = _plain(model)
    weights, shared = weights_of(model)
    family = _family(model)
    tensors = {MODEL + name: value for name, value in weights.items()}
    state = _split(history.state, STATE, tensors) if history is not None and history.state else None
    about = {
        "version": VERSION,
        "family": family,
        "config": vars(model.config) if family else None,
        "class": f"{type(model).__module__}.{type(model).__qualname__}",
        "shared": shared,
        "state": state,
    }
    text = json.dumps(about, sort_keys=True)
    data = tensor_files.pack(tensors, text, kit=text)
    with atomic_write(Path(path)) as draft:
        draft.write_bytes(data)
    return Path(path)


def load(
    path: str | Path, device: torch.device | str | None = None, *, model: nn.Module | None = None
) -> Checkpoint:
    """Read a model, and where its training stood, after checking the whole file.

    Parameters
    ----------
    path
        A file that `save` or `kit.train(checkpoint=...)` wrote.
    device
        Where the model is to be; None: the CPU, or where the given model is.
    model
        A module that you made as the saved one was made: its weights become those of the file.
        If it makes tensors at its first call, call it once on an example before. None: the kit
        makes the model again, which it can for its own families.

    Raises
    ------
    CheckpointRefused
        A check failed; `.check` is its name, see the top of this file. Nothing is half-loaded.
    """
    found = contents(path)
    if model is None:
        return Checkpoint(found.make().to(device or "cpu"), found.state, found.path)
    found.fill(model)
    return Checkpoint(model if device is None else model.to(device), found.state, found.path)


def contents(path: str | Path) -> Contents:
    """What a file holds, checked; see `load`."""
    path = Path(path)
    data = tensor_files.read(path)
    try:
        text = tensor_files.header(path, data)["__metadata__"]["kit"]
        about = {"shared": {}, "class": "", **tensor_files.parse_json(text)}
        version, family = about["version"], about["family"]
        if type(version) is not int or not isinstance(family, str | None):
            raise ValueError("no version, or no family")
    except CheckpointRefused:
        raise
    except (*MALFORMED, RecursionError) as error:
        told = f"{path}: not a checkpoint of this kit ({one_line(error)})."
        raise CheckpointRefused("format", told) from error
    if version > VERSION:
        told = f"format {version}, this kit reads {VERSION}. Upgrade it."
        raise CheckpointRefused("version", f"{path}: {one_line(told)}")
    tensors = tensor_files.unpack(path, data, text)
    try:
        weights = {k.removeprefix(MODEL): v for k, v in tensors.items() if k.startswith(MODEL)}
        about["class"] = one_line(about["class"])
        if not set(about["shared"].values()) <= set(weights) or set(about["shared"]) & set(weights):
            raise ValueError("shared weights that are not there")
        kept = {k: v for k, v in tensors.items() if k.startswith(STATE)}
        state = (about["state"] and _join(about["state"], kept)) or None
        if state is not None:
            _check_state(state)
    except (*MALFORMED, RecursionError) as error:
        told = f"{path}: nothing that training could go on from ({one_line(error)})."
        raise CheckpointRefused("training", told) from error
    return Contents(path, about, weights, state)


# --- Models --------------------------------------------------------------------------------------


def weights_of(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Its parameters and persistent buffers by name, each once; further name -> first name."""
    weights: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[Any, str] = {}
    for name, value in model.state_dict().items():
        _check_kept(model, name, value)
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
        if value.numel() and first.setdefault(place, name) != name:
            shared[name] = first[place]
        else:
            weights[name] = value
    return weights, shared


def _check_kept(model: nn.Module, name: str, value: Any) -> None:
    """Refuse what a file of tensors cannot hold."""
    told = f"cannot save this {type(model).__name__}: its {name!r} "
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        raise BadValue(f"{told}is a {kind}; needs tensors alone. Have get_extra_state return one.")
    if is_lazy(value):
        raise BadValue(f"{told}is made at the first call. Call the model once on an example.")
    if value.is_meta:
        raise BadValue(f"{told}has a shape and no numbers (device 'meta'). Load its weights first.")
    if type(value.data) is not Tensor or value.layout != torch.strided:
        kind = type(value.data).__name__ if value.layout == torch.strided else str(value.layout)
        raise BadValue(f"{told}is a {kind}. Save the model that it was made from.")
    if value.dtype not in tensor_files.DTYPES.values():
        raise BadValue(f"{told}is of {value.dtype}, which safetensors lacks. Convert it.")


def _plain(model: nn.Module) -> nn.Module:
    """The module that was compiled, if it was."""
    return getattr(model, "_orig_mod", model)


def _family(model: Any) -> str | None:
    """Its family, if the kit can make the like of it; a class of the same name is another."""
    family, kind = type(model).__name__, type(model)
    if family not in FAMILIES or FAMILIES[family][0] is not kind:
        return None
    other = _on_meta(family, vars(model.config)).state_dict()
    mine = model.state_dict()
    fits = mine.keys() == other.keys() and all(mine[n].shape == other[n].shape for n in mine)
    return family if fits else None  # pruned ones do not


def _on_meta(family: str, config: Any) -> nn.Module:
    """A model without numbers, which costs no memory."""
    for name, value in config.items():
        if type(value) is int and value >= 2**31:
            raise BadValue(f"{name} is too large")
    with torch.device("meta"):
        return build(family, config)


def _check_layers(family: str, config: Any, weights: Mapping[str, Tensor]) -> None:
    """Refuse more layers than the weights fill: making them takes milliseconds each.

    Models of one and of two layers say what a further layer adds.
    """
    filled = sum(value.numel() > 0 for value in weights.values())
    for name in set(LAYERS) & set(config):
        layers = config[name]
        if type(layers) is not int or layers > filled:
            raise BadValue(f"{name}: more than there are weights")
        if layers <= FEW:  # quick to make, and then every difference is told
            continue
        one, two = (_kinds(_on_meta(family, {**config, name: n}).state_dict()) for n in (1, 2))
        more = {kind: (layers - 1) * (two[kind] - one[kind]) for kind in two}
        if _kinds(weights) != Counter({kind: one[kind] + more[kind] for kind in two}):
            raise BadValue(f"{name}={layers:,}: these are not the weights of that many")


def _kinds(weights: Mapping[str, Tensor]) -> Counter[tuple[str, tuple[int, ...]]]:
    """How many weights there are of each shape and name, whatever the numbers in the name."""
    return Counter((re.sub("[0-9]+", "#", k), tuple(v.shape)) for k, v in weights.items())


def _differences(found: Contents, model: nn.Module, dtypes: bool = True) -> str:
    """How the weights in the file differ from the model's, in a line; nothing if they fit."""
    mine, shared = model.state_dict(), found.about["shared"]
    given = {**found.weights, **shared}
    told = [f"the file has no {name!r}" for name in mine if name not in given]
    told += [f"the model has no {name!r}" for name in given if name not in mine]
    for name, own in mine.items():
        kept = found.weights.get(shared.get(name, name))
        if kept is None or not isinstance(own, Tensor) or is_lazy(own):
            continue
        if kept.shape != own.shape:
            told.append(f"{name!r} is {tuple(kept.shape)} in the file, {tuple(own.shape)} in it")
        elif dtypes and kept.dtype != own.dtype:
            told.append(f"{name!r} is {kept.dtype} in the file, {own.dtype} in it")
    if not told and dtypes and not any(map(is_lazy, mine.values())):
        ours, theirs = _groups(shared), _groups(weights_of(model)[1])
        told += [f"the file shares {sorted(group)}, the model does not" for group in ours - theirs]
        told += [f"the model shares {sorted(group)}, the file does not" for group in theirs - ours]
    more = f", and {len(told) - MOST_TOLD:,} more" if len(told) > MOST_TOLD else ""
    return one_line("; ".join(told[:MOST_TOLD])) + more + "." if told else ""


def _groups(shared: Mapping[str, str]) -> set[frozenset[str]]:
    """Which names are names of one tensor."""
    found: dict[str, set[str]] = {}
    for name, first in shared.items():
        found.setdefault(first, {first}).add(name)
    return set(map(frozenset, found.values()))


# --- Where the training stands -------------------------------------------------------------------


def _split(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Plain JSON of a nested value; its tensors go to `tensors`, a reference stays."""
    if isinstance(value, Tensor):
        tensors[place] = value
        return {"tensor": place}
    if isinstance(value, dict):  # as pairs, since JSON would turn the optimizer's 0 into "0"
        return {"pairs": [[k, _split(v, f"{place}.{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list) and len(value) > FEW and all(type(v) is float for v in value):
        tensors[place] = torch.tensor(value, dtype=torch.float64)
        return {"floats": place}
    if isinstance(value, (list, tuple)):
        return [_split(v, f"{place}.{i}", tensors) for i, v in enumerate(value)]
    return value


def _join(value: Any, left: dict[str, Tensor]) -> Any:
    """What `_split` took apart; each tensor is taken out of `left`, so it serves once only."""
    if isinstance(value, list):
        return [_join(v, left) for v in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return left.pop(value["tensor"])
        if "floats" in value:
            return _listed(left.pop(value["floats"]))
        return {k: _join(v, left) for k, v in value["pairs"]}
    return value


def _listed(values: Tensor) -> list[float]:
    """The numbers of a long list, which `_split` keeps as float64."""
    if values.dtype != torch.float64 or values.ndim != 1 or len(values) > MOST_LISTED:
        raise ValueError(f"a list of {values.numel():,} numbers in {values.dtype}")
    numbers: list[float] = values.tolist()
    return numbers


def _check_state(state: Any) -> None:
    """Raise ValueError, TypeError … if it is not as `kit.train` keeps it."""
    if not set(state) <= KEPT:
        raise ValueError(f"{min(set(state) - KEPT, key=str)!r:.40}, which it does not keep")
    losses, scores, groups = state["losses"], state["scores"], state["optimizer"]["param_groups"]
    if not isinstance(losses, list) or not all(_is_number(loss) for loss in losses):
        raise ValueError("losses that are not numbers")
    if not _is_number(state["train_s"]) or state["train_s"] < 0:
        raise ValueError(f"train_s={state['train_s']!r}")
    for at, score in scores:
        if type(at) is not int or not 0 <= at <= len(losses):
            raise ValueError("a score at no step")
        if not all(isinstance(value, int | float | str | None) for value in score.values()):
            raise ValueError("a score that is not numbers")
    for index, kept in state["optimizer"]["state"].items():
        named = isinstance(kept, dict) and all(isinstance(name, str) for name in kept)
        if type(index) is not int or not named:
            raise ValueError("an optimizer's state without names")
    if not isinstance(groups, list) or not all(
        isinstance(group["params"], list) for group in groups
    ):
        raise ValueError("an optimizer without weights")
    if not all(isinstance(name, str) for name in state["settings"]):
        raise ValueError("settings without names")
    torch.Generator().set_state(state["rng"])  # which says what is wrong with it


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
