"""How a model travels to the server's processes: as a file in a private folder, never as a pickle.

what is given                          the file
one of the kit's models, a checkpoint  model.kit, safetensors with a digest
a form that another runtime runs       model.onnx, .pt2 or .pte, as `kit.techniques.write` makes it
any other module                       program.pt2, the graph that `torch.export` traces
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kit import checkpoints
from kit.core.errors import BadValue, CheckpointRefused, NotSupported
from kit.core.silence import silenced
from kit.data.packed_inputs import Packed, takes_one_dict
from kit.inference import device_of, evaluating
from kit.models import family_of
from kit.models.custom import call_model, find_logits, short_name
from kit.serving.served_model import Arrays, base_of
from kit.serving.vocabulary import Vocabulary
from kit.techniques import Exported, inference_copy, write
from kit.techniques.precision import LowPrecision
from kit.techniques.runtimes import SUFFIXES

MANIFEST, EXAMPLE = "manifest.json", "example.safetensors"
PROGRAM = "program.pt2"


def pack(
    model: Any, example: Any, folder: Path, *, text: Any = None, trusted: bool = False
) -> None:
    """Write the model, or a copy of its file, and an example of its inputs into the folder.

    Raises
    ------
    BadValue
        It is neither a model nor a file, or a module of the user's own without an example.
    CheckpointRefused
        There is no such file.
    NotSupported
        `torch.export` cannot trace the module: which form can be served instead.
    """
    model, example = _own_inputs(model, example)
    if isinstance(model, str | Path):
        manifest = _copy_file(Path(model), folder, trusted)
    elif isinstance(model, nn.Module):
        manifest = _write_model(model, example, folder)
    else:
        raise BadValue(
            f"kit.serve: given {type(model).__name__}; needs a model or the path of a file: "
            f"kit.serve(model) or kit.serve('model.kit')."
        )
    style, arrays = _arrays_of(example, model)
    if arrays:
        from safetensors.numpy import save_file

        save_file(arrays, folder / EXAMPLE)
    if style == "dict" and manifest["form"] == "program":
        style = "one dict"  # as its graph was recorded
    manifest |= {"style": style, "names": list(arrays)}
    if text is not None:
        manifest["vocabulary"] = Vocabulary.of(text).to_dict()
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def _own_inputs(model: Any, example: Any) -> tuple[Any, Any]:
    """The user's own module and its inputs by name, not the row that a workload makes of them."""
    if isinstance(model, Packed):
        if isinstance(example, Tensor):
            parts = model.layout.unpack(example)
            names = model.layout.names
            example = dict(zip(names, parts, strict=True)) if names else tuple(parts)
        model = model.net
    if isinstance(example, tuple) and len(example) == 1 and isinstance(example[0], Mapping):
        example = example[0]  # its one argument is a dict: the server's inputs have its names
    return model, example


def _copy_file(path: Path, folder: Path, trusted: bool) -> dict[str, Any]:
    """The server reads a copy: replacing the file cannot make replicas differ."""
    if not path.is_file():
        raise CheckpointRefused("exists", f"{path}: no such file. kit.save writes checkpoints.")
    exported = path.suffix in SUFFIXES.values()
    target = folder / f"model{path.suffix if exported else '.kit'}"
    shutil.copyfile(path, target)
    beside = path.with_name(f"{path.name}.sha256")
    if exported and beside.is_file():
        shutil.copyfile(beside, target.with_name(f"{target.name}.sha256"))
    return {"form": "exported" if exported else "checkpoint", "file": target.name} | (
        {"trusted": trusted, "runtime": None} if exported else {}
    )


def _write_model(model: nn.Module, example: Any, folder: Path) -> dict[str, Any]:
    if isinstance(model, Exported):
        path = write(model, folder / f"model{SUFFIXES[model.runtime]}")
        runtime = {"runtime": model.runtime, "trusted": True}
        return {"form": "exported", "file": path.name, **runtime}
    base, more = base_of(model), {"device": str(device_of(model)), "wrappers": _wrappers(model)}
    if family_of(base) and _is_rebuilt(base):
        path = checkpoints.save(folder / "model.kit", base)
        return {"form": "checkpoint", "file": path.name, **more}
    inner: Any = getattr(model, "_orig_mod", model)
    _save_program(inner, example, folder / PROGRAM)
    wrappers = [name for name in _wrappers(model) if name == "compiled"]
    return {"form": "program", "file": PROGRAM, **more, "wrappers": wrappers}


def _is_rebuilt(base: nn.Module) -> bool:
    """Whether a checkpoint can make this model again; not if it was pruned, for example."""
    try:
        return checkpoints._family(base) is not None
    except (BadValue, RuntimeError):
        return False


def _wrappers(model: Any) -> list[str]:
    """What lies around a model of the kit, outermost first."""
    found = []
    if hasattr(model, "_orig_mod"):
        found, model = ["compiled"], model._orig_mod
    if isinstance(model, LowPrecision):
        found.append(str(model.dtype).removeprefix("torch."))
        model = model.model
    if any(p.ndim == 4 and not p.is_contiguous() for p in model.parameters()):
        found.append("channels_last")
    return found


def _save_program(model: nn.Module, example: Any, path: Path) -> None:
    """The graph of a module that the kit cannot build, for batches of any size."""
    if example is None:
        raise BadValue(
            f"{short_name(model)}: the server runs in another process, which does not know this "
            f"class. Give an example of its inputs, with which its graph is recorded: "
            f"kit.serve(model, example=inputs[:2])."
        )
    args = _two_rows(example)
    sizes: Any = {0: torch.export.Dim("batch")}
    shapes = tuple(dict.fromkeys(arg, sizes) if isinstance(arg, dict) else sizes for arg in args)
    recorded = Recorded(inference_copy(model))
    try:
        with silenced(), evaluating(recorded), torch.no_grad():
            program = torch.export.export(recorded, args, dynamic_shapes={"inputs": shapes})
            torch.export.save(program, path)
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise NotSupported(
            f"{short_name(model)}: torch.export could not record its graph ({first[:200]}), so "
            f"it cannot travel to the server's process. What its forward does must not depend on "
            f"values: no .item(), .tolist() or `if` on a tensor, no packed sequences. Use "
            f"torch.where and masks, or move that part to the client."
        ) from error


class Recorded(nn.Module):
    """A model as its graph is recorded: its inputs, or all of them in one dict; logits only."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any) -> Any:
        """The outputs, or their logits: other classes cannot be recorded."""
        named = isinstance(inputs[0], Mapping)
        one_dict = named and takes_one_dict(self.model, inputs[0])
        outputs = call_model(self.model, inputs if one_dict or not named else inputs[0])
        return find_logits(outputs, outputs)


def _two_rows(example: Any) -> tuple[Any, ...]:
    """The example's inputs, two rows each: from one row, a fixed batch would be recorded."""

    def two(value: Any) -> Tensor:
        tensor = torch.as_tensor(value)
        return torch.cat([tensor, tensor])[:2]

    if isinstance(example, Mapping):
        return ({str(name): two(value) for name, value in example.items()},)
    return tuple(two(value) for value in (example if isinstance(example, tuple) else (example,)))


def _arrays_of(example: Any, model: Any) -> tuple[str, Arrays]:
    """How the model takes its inputs, and one row of each by name; none if none were given."""
    if example is None:
        return "one", {}
    if isinstance(example, Mapping):
        named, style = dict(example), "dict"
    elif isinstance(example, tuple):
        named, style = dict(zip(_names(model, len(example)), example, strict=True)), "tuple"
    else:
        named, style = {"input": example}, "one"
    return style, {str(name): _row(name, value) for name, value in named.items()}


def _names(model: Any, count: int) -> list[str]:
    """The names of the model's arguments, or numbers if it hides them."""
    names = list(inspect.signature(model.forward).parameters) if count else []
    plain = len(names) >= count and not {"args", "kwargs"} & set(names)
    return names[:count] if plain else [f"input_{i}" for i in range(count)]


def _row(name: object, value: Any) -> np.ndarray:
    tensor = torch.as_tensor(value).detach().cpu()
    if tensor.ndim == 0 or not len(tensor):
        raise BadValue(
            f"example: {name!r} has shape {tuple(tensor.shape)}; needs at least one row of inputs, "
            f"a batch (B, …) such as work.example(1)[0]."
        )
    row = tensor[:1].float() if tensor.dtype == torch.bfloat16 else tensor[:1]
    return row.contiguous().clone().numpy()
