"""Keeping the weights: save and load, whole or not at all.

One safetensors file: tensors, and JSON in its header. It holds no pickled code, so loading a
stranger's file cannot run anything. It is written beside its place and moved there when whole.

A file is loaded only after every check has passed, in this order:

exists     there is such a file
format     it is a safetensors file of this kit, not somebody else's
version    it is not from a newer kit
complete   no byte is missing at the end
digest     no byte has changed since it was written
model      the kit still makes a model of that family, config and these shapes
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kit.errors import BadValue, CheckpointRefused, KitError
from kit.models import FAMILIES, build
from kit.places import whole

VERSION = 1
MOST_HEADER = 100_000_000  # bytes: safetensors' own limit
MODEL, STATE = "model.", "state."  # what the names of tensors begin with


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was saved, and what training needs to go on with it."""

    model: nn.Module
    state: dict[str, Any] | None  # for `kit.train(..., resume=state)`
    path: Path


def save(path: str | Path, model: nn.Module, history: Any = None) -> Path:
    """Write the model, and where training stands if a history is given; returns the path.

    Parameters
    ----------
    path
        Where to; missing folders are made. A file that is there is replaced at the very end, in
        one move: an interrupted save leaves the old one whole.
    model
        Of one of the kit's families.
    history
        What `kit.train` returned; its `.state` is kept, so that training can go on.

    Raises
    ------
    BadValue
        The model is of no family that `load` could make again, or other than its config says.
    """
    from safetensors.torch import save as pack

    family = type(model).__name__
    if family not in FAMILIES or not hasattr(model, "config"):
        raise BadValue(f"cannot save a {family}: load() makes only {', '.join(FAMILIES)} again.")
    if not _makes_it_again(model):
        raise BadValue(
            f"cannot save this {family}: its weights are not of the sizes in its config, so load() "
            f"could not make it again. Keep it as an exported model: kit.techniques.onnx(...), "
            f"then kit.techniques.write(...)."
        )
    tensors = {MODEL + name: value for name, value in model.state_dict().items()}
    state = _split(history.state, STATE, tensors) if history is not None else None
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    config = vars(model.config)
    about = {"version": VERSION, "family": family, "config": config, "state": state}
    text = json.dumps(about, sort_keys=True)
    data = pack(tensors, {"kit": text, "digest": _digest(tensors, text)})
    with whole(Path(path)) as draft:
        draft.write_bytes(data)
    return Path(path)


def load(path: str | Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Read a model, and where its training stood, after checking the whole file.

    Raises
    ------
    CheckpointRefused
        A check failed; `.check` is its name, see the top of this file. Nothing is half-loaded.
    """
    path = Path(path)
    tensors, about = _read(path)
    try:
        model = build(about["family"], about["config"])
        own = {name[len(MODEL) :]: v for name, v in tensors.items() if name.startswith(MODEL)}
        model.load_state_dict(own, assign=True)  # keeps the dtype they were saved in
    except (KitError, KeyError, RuntimeError) as error:
        raise CheckpointRefused("model", f"{path}: {error}") from error
    state = about["state"] and _join(about["state"], tensors)
    return Checkpoint(model.to(device), state, path)


def _makes_it_again(model: Any) -> bool:
    """Whether its config makes a model with weights of the same names and shapes."""
    with torch.device("meta"):
        other = build(type(model).__name__, vars(model.config))
    mine, its = model.state_dict(), other.state_dict()
    return mine.keys() == its.keys() and all(mine[n].shape == its[n].shape for n in mine)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the JSON of a file that has passed every check but the last."""
    from safetensors import SafetensorError
    from safetensors.torch import load as unpack

    if not path.is_file():
        raise CheckpointRefused("exists", f"{path}: no such file. Save one with kit.save(...).")
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = _json(data[8 : 8 + size])
    if header is None:
        cut = len(data) <= 8 or (len(data) < 8 + size < MOST_HEADER and data[8:9] == b"{")
        check = "complete" if cut else "format"
        raise CheckpointRefused(check, f"{path}: {len(data):,} bytes that have no readable header.")
    try:
        note = header.pop("__metadata__")
        about, digest = json.loads(note["kit"]), note["digest"]
        needed = 8 + size + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        newer, complete = about["version"] > VERSION, len(data) == needed
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise CheckpointRefused("format", f"{path}: not a checkpoint of this kit.") from error
    if newer:
        told = f"format {about['version']}, this kit reads {VERSION}. Upgrade it."
        raise CheckpointRefused("version", f"{path}: {told}")
    if not complete:
        raise CheckpointRefused("complete", f"{path}: {len(data):,} bytes, needs {needed:,}.")
    try:
        tensors = unpack(data)
    except SafetensorError as error:
        raise CheckpointRefused("format", f"{path}: {error}.") from error
    if _digest(tensors, note["kit"]) != digest:
        raise CheckpointRefused("digest", f"{path}: its content was altered after it was saved.")
    return tensors, about


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    """SHA-256 of the JSON and of each tensor's name, dtype, shape and bytes."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _split(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Plain JSON of a nested value; its tensors go to `tensors`, a reference stays."""
    if isinstance(value, Tensor):
        tensors[place] = value
        return {"tensor": place}
    if isinstance(value, dict):  # as pairs, since JSON would turn the optimizer's 0 into "0"
        return {"pairs": [[k, _split(v, f"{place}.{k}", tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_split(v, f"{place}.{i}", tensors) for i, v in enumerate(value)]
    return value


def _join(value: Any, tensors: dict[str, Tensor]) -> Any:
    """What `_split` took apart."""
    if isinstance(value, list):
        return [_join(v, tensors) for v in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        return {k: _join(v, tensors) for k, v in value["pairs"]}
    return value
