"""Checkpoints: save and load a model and the state of its training, completely or not at all.

A checkpoint is one safetensors file: tensors, and JSON in its header. It contains no pickled code,
so loading a stranger's file cannot run any. It is written to a temporary file first, which replaces
the old checkpoint in one move.

A file is loaded only after all checks have passed, in this order:

exists     the file exists
format     it is a safetensors file of this kit, and makes sense (see `kit.core.tensor_files`)
complete   no bytes are missing at the end
version    it is not from a newer kit
digest     no byte has changed since it was written
training   training can go on from the saved state
model      names, shapes, dtypes and shared weights match the model that is filled
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
from kit.data.packed_inputs import Packed
from kit.devices import check_present
from kit.models import FAMILIES, build

VERSION = 2  # 1 held only the kit's own model families, without shared weights
MODEL, STATE = "model.", "state."  # prefixes of the names of tensors
LAYERS = ("layers", "n_layers")  # fields of a config that repeat a part of the model
MAX_DIFFERENCES = 3  # named in a message
FEW = 64  # numbers of a list that go into the header; longer lists become tensors
MAX_LIST = 2**26  # numbers of such a list; each takes 8 bytes of the file and 32 of memory
# What `kit.train` saves. Older kits did not save the fingerprints.
STATE_KEYS = {"optimizer", "rng", "losses", "scores", "train_s", "settings", "fingerprints"}


@dataclass(frozen=True)
class Checkpoint:
    """A saved model, and what training needs to go on with it."""

    model: nn.Module
    state: dict[str, Any] | None  # for `kit.train(..., resume=state)`
    path: Path


@dataclass(frozen=True)
class Contents:
    """The contents of a file that passed all checks but the last; no model was changed yet."""

    path: Path
    about: dict[str, Any]
    weights: dict[str, Tensor]  # by name; shared weights under their first name
    state: dict[str, Any] | None

    def make(self) -> nn.Module:
        """A new model with these weights, if it is one of the kit's families."""
        if self.about["family"] is None:
            raise CheckpointRefused(
                "model",
                f"{self.path} holds the weights of {self.about['class']}, which is not one of the "
                f"kit's models. Make the model yourself: kit.load(path, model=your_model). To "
                f"serve it: kit serve PATH --workload FILE.py:NAME.",
            )
        try:
            _check_layers(self.about["family"], self.about["config"], self.weights)
            model = _on_meta(self.about["family"], self.about["config"])
            if differences := _differences(self, model, dtypes=False):
                raise ValueError(differences)
            model.load_state_dict(self.weights, assign=True)  # with the dtypes of the file
        except MALFORMED as error:  # also if the config makes no sense
            raise CheckpointRefused("model", f"{self.path}: {one_line(error)}") from error
        return model

    def fill(self, model: nn.Module) -> None:
        """Copy the weights into a model that fits; it keeps its dtypes and its device.

        Raises
        ------
        CheckpointRefused
            "model": it does not fit; the message names the first differences. The model is
            unchanged.
        """
        model = _uncompiled(model)
        kind, differences = type(model).__name__, _differences(self, model)
        if differences:
            raise CheckpointRefused("model", f"{self.path} does not fit this {kind}: {differences}")
        others = {name: self.weights[first] for name, first in self.about["shared"].items()}
        try:
            model.load_state_dict({**self.weights, **others})
        except MALFORMED as error:  # raised by a hook of the model
            message = f"{self.path} fits this {kind}, whose own hook raised: {one_line(error)}"
            raise CheckpointRefused("model", message) from error


def save(path: str | Path, model: nn.Module, history: Any = None) -> Path:
    """Save the model, and the state of its training if a history is given; returns the path.

    Parameters
    ----------
    path
        The file to write; missing folders are made. An existing file is replaced at the end, in
        one move: an interrupted save leaves the old file intact.
    model
        Any module whose state consists of tensors: its parameters and persistent buffers. Shared
        weights are saved once. `load(path)` makes a model of the kit's families again. For other
        models, make the model yourself, and `load(path, model=...)` fills it.
    history
        The result of `kit.train`. Its `.state` is saved, so that training can go on.

    Raises
    ------
    BadValue
        `model` is not a model; or part of its state is not a plain tensor, or does not exist
        before the first call.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = save(f"{folder}/model.kit", nn.Linear(2, 1))
    ...     type(load(path, model=nn.Linear(2, 1)).model).__name__
    'Linear'

    Explained in lesson 01.
    """
    right = 'kit.save("model.kit", model)'
    if isinstance(path, nn.Module):
        raise BadValue(f"kit.save: given {described(path)} first; needs a path first: {right}.")
    check_model("kit.save", model, right)
    model = _uncompiled(model)
    weights, shared = weights_of(model)
    family, kind = _family(model), type(model.net if isinstance(model, Packed) else model)
    tensors = {MODEL + name: value for name, value in weights.items()}
    state = _split(history.state, STATE, tensors) if history is not None and history.state else None
    about = {
        "version": VERSION,
        "family": family,
        "config": vars(model.config) if family else None,
        "class": f"{kind.__module__}.{kind.__qualname__}",
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
    """Load a model, and the state of its training, after checking the whole file.

    Parameters
    ----------
    path
        A file that `save` or `kit.train(checkpoint=...)` wrote.
    device
        The device of the loaded model; None: the CPU, or the device of the given model.
    model
        A module that was made in the same way as the saved one; its weights are replaced by those
        of the file. If it makes tensors at its first call, call it once on an example before.
        None: the kit makes the model, which must be one of its own families.

    Raises
    ------
    CheckpointRefused
        A check failed; `.check` is its name, see the top of this file. Nothing is half-loaded.
    DeviceUnavailable
        This computer does not have the device.

    Explained in lesson 01.
    """
    device = None if device is None else check_present(device)
    found = contents(path)
    if model is None:
        return Checkpoint(found.make().to(device or "cpu"), found.state, found.path)
    found.fill(model)
    return Checkpoint(model if device is None else model.to(device), found.state, found.path)


def contents(path: str | Path) -> Contents:
    """The contents of a file, after all checks that need no model; see `load`."""
    path = Path(path)
    data = tensor_files.read(path)
    try:
        text = tensor_files.header(path, data)["__metadata__"]["kit"]
        about = {"shared": {}, "class": "", **tensor_files.parse_json(text)}
        version, family = about["version"], about["family"]
        if type(version) is not int or not isinstance(family, str | None):
            raise ValueError("no version or no family")
    except CheckpointRefused:
        raise
    except (*MALFORMED, RecursionError) as error:
        message = f"{path}: not a checkpoint of this kit ({one_line(error)})."
        message += " Give a file that kit.save(...) wrote."
        raise CheckpointRefused("format", message) from error
    if version > VERSION:
        problem = f"format {version}, but this kit reads formats up to {VERSION}. Upgrade the kit."
        raise CheckpointRefused("version", f"{path}: {one_line(problem)}")
    tensors = tensor_files.unpack(path, data, text)
    try:
        weights = {k.removeprefix(MODEL): v for k, v in tensors.items() if k.startswith(MODEL)}
        about["class"] = one_line(about["class"])
        if not set(about["shared"].values()) <= set(weights) or set(about["shared"]) & set(weights):
            raise ValueError("shared weights that are missing")
        of_state = {k: v for k, v in tensors.items() if k.startswith(STATE)}
        state = (about["state"] and _join(about["state"], of_state)) or None
        if state is not None:
            _check_state(state)
    except (*MALFORMED, RecursionError) as error:
        message = (
            f"{path}: training cannot go on from its state ({one_line(error)}). The file was "
            f"altered or is incomplete: copy it again, or use an earlier checkpoint."
        )
        raise CheckpointRefused("training", message) from error
    return Contents(path, about, weights, state)


# --- Models --------------------------------------------------------------------------------------


def weights_of(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Parameters and persistent buffers by name, each once; and other name -> first name.

    Two names share a weight if both mean the same memory, seen in the same way.
    """
    weights: dict[str, Tensor] = {}
    shared: dict[str, str] = {}
    first: dict[Any, str] = {}
    for name, value in model.state_dict().items():
        _check_savable(model, name, value)
        memory = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
        if value.numel() and first.setdefault(memory, name) != name:
            shared[name] = first[memory]
        else:
            weights[name] = value
    return weights, shared


def _check_savable(model: nn.Module, name: str, value: Any) -> None:
    """Refuse a value that a safetensors file cannot hold."""
    what = f"cannot save this {type(model).__name__}: its {name!r} "
    if not isinstance(value, Tensor):
        kind = type(value).__name__
        raise BadValue(f"{what}is a {kind}; needs tensors only. Let get_extra_state return one.")
    if is_lazy(value):
        raise BadValue(f"{what}is made at the first call. Call the model once on an example.")
    if value.is_meta:
        raise BadValue(f"{what}has a shape and no numbers (device 'meta'). Load its weights first.")
    if type(value.data) is not Tensor or value.layout != torch.strided:
        kind = type(value.data).__name__ if value.layout == torch.strided else str(value.layout)
        raise BadValue(f"{what}is a {kind}; needs plain tensors. Save the original model instead.")
    if value.dtype not in tensor_files.DTYPES.values():
        raise BadValue(f"{what}is {value.dtype}, which safetensors cannot store. Convert it.")


def _uncompiled(model: nn.Module) -> nn.Module:
    """The original module, if the model is compiled."""
    return getattr(model, "_orig_mod", model)


def _family(model: Any) -> str | None:
    """The model's family, if the kit can make the same model; another class may share its name."""
    family, kind = type(model).__name__, type(model)
    if family not in FAMILIES or FAMILIES[family][0] is not kind:
        return None
    other = _on_meta(family, vars(model.config)).state_dict()
    mine = model.state_dict()
    fits = mine.keys() == other.keys() and all(mine[n].shape == other[n].shape for n in mine)
    return family if fits else None  # some pruned models do not


def _on_meta(family: str, config: Any) -> nn.Module:
    """A model whose tensors have shapes but no numbers, which needs no memory."""
    for name, value in config.items():
        if type(value) is int and value >= 2**31:
            raise BadValue(f"{name} is too large")
    with torch.device("meta"):
        return build(family, config)


def _check_layers(family: str, config: Any, weights: Mapping[str, Tensor]) -> None:
    """Refuse a config with more layers than there are weights, before any layer is made.

    Making a layer takes milliseconds, so a forged config could ask for days of work. The models of
    one and of two layers show which weights each further layer adds.
    """
    filled = sum(value.numel() > 0 for value in weights.values())
    for name in set(LAYERS) & set(config):
        layers = config[name]
        if type(layers) is not int or layers > filled:
            raise BadValue(f"{name}: more than there are weights")
        if layers <= FEW:  # quick to make, and then the message can name each difference
            continue
        one, two = (_kinds(_on_meta(family, {**config, name: n}).state_dict()) for n in (1, 2))
        more = {kind: (layers - 1) * (two[kind] - one[kind]) for kind in two}
        if _kinds(weights) != Counter({kind: one[kind] + more[kind] for kind in two}):
            raise BadValue(f"{name}={layers:,}: the weights do not match this number")


def _kinds(weights: Mapping[str, Tensor]) -> Counter[tuple[str, tuple[int, ...]]]:
    """How many weights there are of each shape and name, ignoring numbers in the names."""
    return Counter((re.sub("[0-9]+", "#", k), tuple(v.shape)) for k, v in weights.items())


def _differences(found: Contents, model: nn.Module, dtypes: bool = True) -> str:
    """How the weights of file and model differ, in one line; an empty text if they fit."""
    mine, shared = model.state_dict(), found.about["shared"]
    given = {**found.weights, **shared}
    lines = [f"the file has no {name!r}" for name in mine if name not in given]
    lines += [f"the model has no {name!r}" for name in given if name not in mine]
    for name, own in mine.items():
        saved = found.weights.get(shared.get(name, name))
        if saved is None or not isinstance(own, Tensor) or is_lazy(own):
            continue
        if saved.shape != own.shape:
            lines.append(
                f"{name!r} is {tuple(saved.shape)} in the file, {tuple(own.shape)} in the model"
            )
        elif dtypes and saved.dtype != own.dtype:
            lines.append(f"{name!r} is {saved.dtype} in the file, {own.dtype} in the model")
    if not lines and dtypes and not any(map(is_lazy, mine.values())):
        ours, theirs = _groups(shared), _groups(weights_of(model)[1])
        lines += [f"the file shares {sorted(group)}, the model does not" for group in ours - theirs]
        lines += [f"the model shares {sorted(group)}, the file does not" for group in theirs - ours]
    more = f", and {len(lines) - MAX_DIFFERENCES:,} more" if len(lines) > MAX_DIFFERENCES else ""
    return one_line("; ".join(lines[:MAX_DIFFERENCES])) + more + "." if lines else ""


def _groups(shared: Mapping[str, str]) -> set[frozenset[str]]:
    """The sets of names that mean one tensor."""
    found: dict[str, set[str]] = {}
    for name, first in shared.items():
        found.setdefault(first, {first}).add(name)
    return set(map(frozenset, found.values()))


# --- The state of the training -------------------------------------------------------------------


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A nested value as plain JSON; its tensors move to `tensors`, and their names stay."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):  # as pairs, because JSON would turn the optimizer's 0 into "0"
        return {"pairs": [[k, _split(v, f"{name}.{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, list) and len(value) > FEW and all(type(v) is float for v in value):
        tensors[name] = torch.tensor(value, dtype=torch.float64)
        return {"floats": name}
    if isinstance(value, (list, tuple)):
        return [_split(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]
    return value


def _join(value: Any, left: dict[str, Tensor]) -> Any:
    """The value that `_split` got; each tensor is removed from `left`, so it is used only once."""
    if isinstance(value, list):
        return [_join(v, left) for v in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return left.pop(value["tensor"])
        if "floats" in value:
            return _numbers_of(left.pop(value["floats"]))
        return {k: _join(v, left) for k, v in value["pairs"]}
    return value


def _numbers_of(values: Tensor) -> list[float]:
    """The numbers of a long list, which `_split` turned into a tensor of float64."""
    if values.dtype != torch.float64 or values.ndim != 1 or len(values) > MAX_LIST:
        raise ValueError(f"a list of {values.numel():,} numbers in {values.dtype}")
    numbers: list[float] = values.tolist()
    return numbers


def _check_state(state: Any) -> None:
    """Raise ValueError, TypeError or the like if it is not a state that `kit.train` saves."""
    if not set(state) <= STATE_KEYS:
        raise ValueError(
            f"{min(set(state) - STATE_KEYS, key=str)!r:.40}, which kit.train does not save"
        )
    losses, scores, groups = state["losses"], state["scores"], state["optimizer"]["param_groups"]
    if not isinstance(losses, list) or not all(_is_number(loss) for loss in losses):
        raise ValueError("losses that are not numbers")
    if not _is_number(state["train_s"]) or state["train_s"] < 0:
        raise ValueError(f"train_s={state['train_s']!r}")
    for at, score in scores:
        if type(at) is not int or not 0 <= at <= len(losses):
            raise ValueError(f"a score at step {at!r:.40}, but there are {len(losses):,} losses")
        if not all(isinstance(value, int | float | str | None) for value in score.values()):
            raise ValueError("a score that is not numbers")
    for index, values in state["optimizer"]["state"].items():
        named = isinstance(values, dict) and all(isinstance(name, str) for name in values)
        if type(index) is not int or not named:
            raise ValueError("an optimizer's state without names")
    if not isinstance(groups, list) or not all(
        isinstance(group["params"], list) for group in groups
    ):
        raise ValueError("an optimizer without weights")
    if not all(isinstance(name, str) for name in state["settings"]):
        raise ValueError("settings without names")
    torch.Generator().set_state(state["rng"])  # raises an error that says what is wrong


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
