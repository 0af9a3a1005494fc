"""Other forms of a model on disk: how large they are, and exported ones kept and read again.

An exported model is kept as its runtime's own file, beside it its SHA-256 in the form that
`sha256sum -c` reads: any program can check it, and the runtime itself needs neither. The digest
proves that the file is whole. It does not prove who made it: anyone can write both.

from a stranger   what `read` does
.onnx             refuses it if it names other files to read, or operations that are not ONNX's
.pt2, .pte        refuses it without `trusted=True`: these can run code when they are opened
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue, CheckpointRefused, DeviceUnavailable, NotInstalled
from kit.core.files import atomic_write
from kit.devices import present_devices
from kit.techniques.quantisation import Static
from kit.techniques.runtimes import (
    SUFFIXES,
    Exported,
    Load,
    run_executorch,
    run_onnxruntime,
    run_openvino,
    run_package,
)

READERS: dict[str, Load] = {
    "onnxruntime": run_onnxruntime,
    "openvino": run_openvino("f32"),
    "aoti": run_package,
    "executorch": run_executorch,
}

RUNS = {  # why a file for this runtime is as good as a program
    "aoti": "a .pt2 holds machine code, which runs when the file is opened",
    "executorch": "its reader does not check the file, so a bad .pte can take over the process",
}
# What ONNX Runtime and OpenVINO bring along; other operations are code of somebody else.
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}


def size_on_disk(model: nn.Module) -> int:
    """The bytes of its file: the exported one, or its weights as one would save them."""
    if isinstance(model, Exported):
        return len(model.data)
    tensors = getattr(model, "_orig_mod", model).state_dict()
    if _plain(tensors):
        from safetensors.torch import save

        once = {
            (v.untyped_storage()._cdata, v.storage_offset(), v.shape, v.stride()): (name, v)
            for name, v in tensors.items()
        }  # shared weights are kept once
        plain = {name: v.detach().cpu().contiguous().clone() for name, v in once.values()}
        return len(save(plain))
    file = io.BytesIO()  # torchao's weights are several tensors each
    torch.save(tensors, file)
    return file.tell()


def is_open(model: nn.Module) -> bool:
    """Whether it can be copied and counted: it is made of PyTorch's own layers and tensors."""
    if isinstance(model, (Exported, Static)):
        return False
    return _plain(getattr(model, "_orig_mod", model).state_dict())


def _plain(tensors: dict[str, Tensor]) -> bool:
    return all(type(value.data) is Tensor for value in tensors.values())


def write(model: nn.Module, path: str | Path) -> Path:
    """Keep an exported model as a file, and its SHA-256 beside it; returns the path.

    Raises
    ------
    BadValue
        The model is not exported, or the path does not end as files of its runtime do.
    """
    if not isinstance(model, Exported):
        raise BadValue(f"{type(model).__name__} is not exported: keep it by kit.save(path, model).")
    path = Path(path)
    if path.suffix != SUFFIXES[model.runtime]:
        needed = SUFFIXES[model.runtime]
        raise BadValue(f"{path.name}: a model for {model.runtime} needs a name in {needed}.")
    digest = hashlib.sha256(model.data).hexdigest()
    with atomic_write(path) as draft:
        draft.write_bytes(model.data)
    with atomic_write(_sum_of(path)) as draft:
        draft.write_text(f"{digest}  {path.name}\n# for {model.home.type}\n", encoding="utf-8")
    return path


def read(path: str | Path, runtime: str | None = None, *, trusted: bool = False) -> Exported:
    """An exported model from its file, after its bytes were checked; ready for `kit.predict`.

    The digest beside the file proves that it is whole, not who made it.

    Parameters
    ----------
    path
        A file that `write` made; it may have been moved, together with the one beside it.
    runtime
        "onnxruntime", "openvino" (in float32), "aoti" or "executorch"; None: the first that
        reads such files.
    trusted
        True for a .pt2 or .pte that you made, or whose maker you trust as you would trust a
        program of theirs: opening it can run code. An .onnx needs no such word.

    Raises
    ------
    CheckpointRefused
        A check failed; `.check` names it: "exists", "format", "trusted", "digest", "external",
        "operations", or "runtime".
    NotInstalled
        An .onnx is checked by the package `onnx`, which is not here.
    DeviceUnavailable
        The file was made for a device that is not here.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointRefused("exists", f"{path}: no such file. Write one with techniques.write.")
    fitting = [name for name, suffix in SUFFIXES.items() if suffix == path.suffix]
    if not fitting or (runtime and runtime not in fitting):
        known = ", ".join(f"{name} {suffix}" for name, suffix in SUFFIXES.items())
        told = f"for {runtime}" if runtime else "of an exported model"
        raise CheckpointRefused("format", f"{path}: no file {told}; there are {known}.")
    name = runtime or fitting[0]
    if name in RUNS and not trusted:
        raise CheckpointRefused(
            "trusted",
            f"{path}: {RUNS[name]}. If you made it, or trust its maker as you would trust a "
            f"program of theirs: read(path, trusted=True). The digest beside it proves that it "
            f"is whole, not who made it.",
        )
    data = path.read_bytes()
    home = _checked(path, data)
    present = [device.type for device in present_devices()]
    if home.type not in present:
        raise DeviceUnavailable(
            f"{path}: made for {home.type!r}, which is not here or went away; present here: "
            f"{', '.join(present)}. Make the form anew from the model, on this computer."
        )
    if path.suffix == ".onnx":
        _check_onnx(path, data)
    try:
        return Exported(name, data, READERS[name], device=home)
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        told = f"{path}: {name} cannot run it: {first[:200]}"
        raise CheckpointRefused("runtime", told) from error


def _sum_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _checked(path: Path, data: bytes) -> torch.device:
    """The device that the file is for, after its bytes were found to be those that were written."""
    beside = _sum_of(path)
    if not beside.is_file():
        told = f"no {beside.name} beside it, so nobody can tell whether it is whole"
        raise CheckpointRefused("digest", f"{path}: {told}. Copy both, or write it anew.")
    words = beside.read_text(encoding="utf-8", errors="replace").split()
    if not words or words[0] != hashlib.sha256(data).hexdigest():
        told = f"{len(data):,} bytes that are not those which were written"
        raise CheckpointRefused("digest", f"{path}: {told}: cut short, or altered. Copy it anew.")
    try:
        return torch.device(words[-1] if "for" in words[2:] else "cpu")
    except RuntimeError as error:
        told = f"{path}: {beside.name} names no device that PyTorch knows. Copy both anew."
        raise CheckpointRefused("digest", told) from error


def _check_onnx(path: Path, data: bytes) -> None:
    """Refuse what would have a runtime read other files, or look for other code than its own.

    Protobuf alone reads it here; no runtime has seen it yet.
    """
    if find_spec("onnx") is None:
        raise NotInstalled(f"reading {path.name}", ["onnx"], "edge")
    import onnx

    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's own
        raise CheckpointRefused("format", f"{path}: not an ONNX file.") from error
    if not model.graph.node:  # as what is none may be read, too
        raise CheckpointRefused("format", f"{path}: not an ONNX file, or one without a graph.")
    own = {(function.domain, function.name) for function in model.functions}
    for part in _parts(model):
        if isinstance(part, onnx.TensorProto):
            if part.external_data or part.data_location == onnx.TensorProto.EXTERNAL:
                told = "it keeps weights in other files, and could name any file of yours"
                todo = "Ask for it as one file (torch.onnx.export(..., external_data=False))"
                raise CheckpointRefused("external", f"{path}: {told}. {todo}.")
        elif isinstance(part, onnx.NodeProto) and (
            (part.domain not in DOMAINS and (part.domain, part.op_type) not in own)
            or part.op_type == "EPContext"
        ):
            told = f"{part.op_type[:40]!a} of {part.domain[:40]!a} is not an operation of ONNX"
            raise CheckpointRefused("operations", f"{path}: {told}; it would need other code.")


def _parts(message: Any) -> Iterator[Any]:
    """The message and all messages in it, at any depth."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in [value] if hasattr(value, "ListFields") else value:
                yield from _parts(each)
