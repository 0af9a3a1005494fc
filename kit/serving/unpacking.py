"""What a worker finds in its private folder: the model that `packing` wrote, ready to predict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kit import checkpoints
from kit.core.errors import BadValue
from kit.models import family_of
from kit.models.custom import short_name
from kit.serving.packing import EXAMPLE, MANIFEST
from kit.serving.served_model import Arrays, ServedModel, base_of, served
from kit.serving.vocabulary import Vocabulary
from kit.techniques import Exported, read
from kit.techniques.precision import LowPrecision
from kit.techniques.runtimes import SUFFIXES

PLATFORMS = {
    **{"onnxruntime": "onnx_onnxv1", "openvino": "openvino", "openvino_bf16": "openvino"},
    "executorch": "executorch",
}
STEPS = 8  # positions of an example of any length

# Family -> the shape of an example from its config, without the batch.
SHAPES: dict[str | None, Any] = {
    "MLP": lambda c: (c.features,),
    "Policy": lambda c: (c.features,),
    "CNN": lambda c: (c.channels, c.height, c.width),
    "Autoencoder": lambda c: (c.channels, c.height, c.width),
    "CNN1d": lambda c: (STEPS, c.features),
    "RNN": lambda c: (STEPS, c.features),
    "Transformer": lambda c: (STEPS, c.features),
    "GPT": lambda c: (min(STEPS, c.context),),
    "BERT": lambda c: (min(STEPS, c.context),),
    "Seq2Seq": lambda c: (c.source + 2,),
    "TwoTower": lambda c: (STEPS,),
}


def unpack(folder: Path, name: str) -> ServedModel:
    """The model in the folder, ready to predict.

    Raises
    ------
    CheckpointRefused, NotInstalled, DeviceUnavailable
        As `kit.load` and `kit.techniques.read` do.
    BadValue
        Nothing says what inputs it takes: an example is missing.
    """
    manifest = _manifest(folder)
    path, form = folder / manifest["file"], manifest["form"]
    platform = "pytorch"
    module: Any
    if form == "exported":
        module = read(path, manifest["runtime"], trusted=manifest["trusted"])
        platform = PLATFORMS.get(module.runtime, module.runtime)
    elif form == "program":
        module = torch.export.load(path).module()
    else:
        module = checkpoints.load(path).model.eval()
    device = manifest.get("device", "cpu")
    module = _wrapped(module, manifest.get("wrappers", ())).to(device)
    arrays = _example(folder) or default_example(module)
    arrays = {key: arrays[key] for key in manifest["names"] or arrays}  # in the arguments' order
    return served(
        module, arrays, name=name, platform=platform, style=manifest["style"], device=device
    )


def _manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return found


def vocabulary_of(folder: Path, model: ServedModel) -> Vocabulary | None:
    """The vocabulary that was given; else the one in the kit that has the model's size."""
    if stored := _manifest(folder).get("vocabulary"):
        return Vocabulary.from_dict(stored)
    config: Any = base_of(model.module).config
    if config.vocab_size == 256:  # a text of the user's, as `kit.data.load_text_file` reads it
        return Vocabulary("bytes")
    from kit.data import load_python_docs

    text = load_python_docs()  # of the workload `language`
    return Vocabulary.of(text) if len(text.classes) == config.vocab_size else None


def _wrapped(module: nn.Module, wrappers: list[str]) -> Any:
    """The model inside what lay around it, innermost first."""
    from kit.devices import compiling

    for wrapper in reversed(wrappers):
        if wrapper == "channels_last":
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        elif wrapper == "compiled":
            compiled: Any = torch.compile(module, **compiling())
            module = compiled
        else:
            module = LowPrecision(module, getattr(torch, wrapper)).eval()
    return module


def _example(folder: Path) -> Arrays:
    if not (folder / EXAMPLE).exists():
        return {}
    from safetensors.numpy import load_file

    found: Arrays = load_file(folder / EXAMPLE)
    return found


def default_example(module: nn.Module) -> Arrays:
    """One row of inputs that the model takes, made from its config or from its ONNX file.

    >>> from kit.models import MLP
    >>> default_example(MLP())["input"].shape
    (1, 64)
    """
    base = base_of(module)
    family, config = family_of(base), getattr(base, "config", None)
    if isinstance(base, Exported) and SUFFIXES[base.runtime] == ".onnx":
        return {"input": _of_onnx(base.data)}
    if family not in SHAPES:
        raise BadValue(
            f"{short_name(base)}: nothing says what inputs it takes. Give an example: "
            f"kit.serve(model, example=inputs[:1]), or kit serve PATH --workload NAME."
        )
    shape = SHAPES[family](config)
    whole = family in ("GPT", "BERT", "Seq2Seq", "TwoTower")
    return {"input": np.ones((1, *shape), np.int64 if whole else np.float32)}


def _of_onnx(data: bytes) -> np.ndarray:
    """Zeros in the shape that an ONNX file names for its one input."""
    import onnx

    kind = onnx.load_from_string(data).graph.input[0].type.tensor_type
    sizes = [dim.dim_value for dim in kind.shape.dim][1:]
    if not all(sizes):
        raise BadValue(
            "the ONNX file leaves the size of its inputs open: give an example, "
            "kit.serve(path, example=inputs[:1])."
        )
    return np.zeros((1, *sizes), onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
