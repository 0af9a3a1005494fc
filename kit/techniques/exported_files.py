"""Techniques on disk: the size of a model's file; write and read exported models.

An exported model is written as its runtime's own file. A second file beside it holds its SHA-256
in the form that `sha256sum -c` reads, so any program can check it. The digest proves that the file
is complete. It does not prove who made it: anyone can write both files.

a file from a stranger   `read` refuses it
.onnx                    if it names other files to read, or operations that are not part of ONNX
.pt2, .pte               without `trusted=True`, because opening such a file can run code
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
from kit.devices import check_present
from kit.techniques.quantisation import Int4Linear, StaticInt8
from kit.techniques.runtimes import (
    SUFFIXES,
    Exported,
    Load,
    load_executorch,
    load_onnxruntime,
    load_openvino,
    load_openvino_bf16,
    load_package,
)

READERS: dict[str, Load] = {
    "onnxruntime": load_onnxruntime,
    "openvino": load_openvino,
    "openvino_bf16": load_openvino_bf16,
    "aoti": load_package,
    "executorch": load_executorch,
}

UNSAFE = {  # why opening a file for this runtime can run code
    "aoti": "a .pt2 holds machine code, which runs when the file is opened",
    "executorch": "its reader does not check the file, so a bad .pte can take over the process",
}
# Operations that ONNX Runtime and OpenVINO contain. Others would need code from somewhere else.
DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}


def size_on_disk(model: nn.Module) -> int:
    """The bytes of the model's file: the exported file, or its saved weights."""
    if isinstance(model, Exported):
        return len(model.data)
    tensors = getattr(model, "_orig_mod", model).state_dict()
    if _plain(tensors):
        from safetensors.torch import save

        once = {
            (v.untyped_storage()._cdata, v.storage_offset(), v.shape, v.stride()): (name, v)
            for name, v in tensors.items()
        }  # shared weights are saved once
        plain = {name: v.detach().cpu().contiguous().clone() for name, v in once.values()}
        return len(save(plain))
    file = io.BytesIO()  # torchao stores each weight as several tensors
    torch.save(tensors, file)
    return file.tell()


def is_pytorch(model: nn.Module) -> bool:
    """Whether the model consists of PyTorch's own layers and tensors, so it can be counted."""
    if isinstance(model, (Exported, StaticInt8)):
        return False
    if any(isinstance(part, Int4Linear) for part in model.modules()):  # no parameters to count
        return False
    return _plain(getattr(model, "_orig_mod", model).state_dict())


def _plain(tensors: dict[str, Tensor]) -> bool:
    return all(type(value.data) is Tensor for value in tensors.values())


def write(model: nn.Module, path: str | Path) -> Path:
    """Write an exported model to a file, and its SHA-256 beside it; returns the path.

    Raises
    ------
    BadValue
        The model is not exported, or the path has a wrong suffix for its runtime.
    """
    if not isinstance(model, Exported):
        raise BadValue(
            f"{type(model).__name__} is not exported: needs a model of another runtime, such as "
            f"kit.techniques.onnx makes. Save this one with kit.save(path, model)."
        )
    path = Path(path)
    if path.suffix != SUFFIXES[model.runtime]:
        needed = SUFFIXES[model.runtime]
        raise BadValue(f"{path.name}: a model for {model.runtime} needs a name ending in {needed}.")
    digest = hashlib.sha256(model.data).hexdigest()
    with atomic_write(path) as draft:
        draft.write_bytes(model.data)
    with atomic_write(_digest_path(path)) as draft:
        draft.write_text(f"{digest}  {path.name}\n# for {model.home.type}\n", encoding="utf-8")
    return path


def read(path: str | Path, runtime: str | None = None, *, trusted: bool = False) -> Exported:
    """An exported model from its file, ready for `kit.predict`, after its bytes were checked.

    The digest beside the file proves that it is complete, not who made it.

    Parameters
    ----------
    path
        A file that `write` made. It may have been moved, together with its digest.
    runtime
        "onnxruntime", "openvino" (in float32), "openvino_bf16", "aoti" or "executorch";
        None takes the first one that reads such files.
    trusted
        True allows a .pt2 or .pte file, which can run code when it is opened. Use it if you made
        the file, or would run a program of its author. An .onnx file does not need it.

    Raises
    ------
    CheckpointRefused
        A check failed; `.check` names it: "exists", "format", "trusted", "digest", "external",
        "operations", or "runtime".
    NotInstalled
        The package `onnx`, which checks .onnx files, is not installed.
    DeviceUnavailable
        The file was made for a type of device that this computer does not have.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointRefused("exists", f"{path}: no such file. Write one with techniques.write.")
    fitting = [name for name, suffix in SUFFIXES.items() if suffix == path.suffix]
    if not fitting or (runtime and runtime not in fitting):
        known = ", ".join(f"{name} {suffix}" for name, suffix in SUFFIXES.items())
        wanted = f"for {runtime}" if runtime else "of an exported model"
        raise CheckpointRefused("format", f"{path}: not a file {wanted}; needs one of {known}.")
    name = runtime or fitting[0]
    if name in UNSAFE and not trusted:
        raise CheckpointRefused(
            "trusted",
            f"{path}: {UNSAFE[name]}. If you made the file, or would run a program of its author, "
            f"call read(path, trusted=True). The digest beside it proves that it is complete, not "
            f"who made it.",
        )
    data = path.read_bytes()
    home = _check_digest(path, data)
    try:
        check_present(home)
    except DeviceUnavailable as error:
        advice = "Export the model again on this computer."
        raise DeviceUnavailable(f"{path}: made for {home.type!r}; {error} {advice}") from error
    if path.suffix == ".onnx":
        _check_onnx(path, data)
    try:
        return Exported(name, data, READERS[name], device=home)
    except Exception as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        message = f"{path}: {name} cannot run it: {first[:200]}. Export the model again here."
        raise CheckpointRefused("runtime", message) from error


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _check_digest(path: Path, data: bytes) -> torch.device:
    """The device that the file was made for; refused if a byte has changed since."""
    beside = _digest_path(path)
    if not beside.is_file():
        problem = f"no {beside.name} beside it, which proves that it is complete"
        raise CheckpointRefused("digest", f"{path}: {problem}. Copy both, or write it again.")
    words = beside.read_text(encoding="utf-8", errors="replace").split()
    if not words or words[0] != hashlib.sha256(data).hexdigest():
        problem = f"its {len(data):,} bytes were cut short or altered after they were written"
        raise CheckpointRefused("digest", f"{path}: {problem}. Copy it again.")
    try:
        return torch.device(words[-1] if "for" in words[2:] else "cpu")
    except RuntimeError as error:
        message = (
            f"{path}: {beside.name} names the device {words[-1]!r:.40}, which this PyTorch does "
            f"not know. Copy both files again, or export the model again on this computer."
        )
        raise CheckpointRefused("digest", message) from error


def _check_onnx(path: Path, data: bytes) -> None:
    """Refuse a file that would make a runtime read other files or load other code.

    Only protobuf reads the file here, before any runtime does.
    """
    if find_spec("onnx") is None:
        raise NotInstalled(f"reading {path.name}", ["onnx"], "edge")
    import onnx

    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's own
        raise CheckpointRefused("format", f"{path}: not an ONNX file.") from error
    if not model.graph.node:  # protobuf also reads many files that are not ONNX
        raise CheckpointRefused("format", f"{path}: not an ONNX file, or one without a graph.")
    own = {(function.domain, function.name) for function in model.functions}
    for part in _parts(model):
        if isinstance(part, onnx.TensorProto):
            if part.external_data or part.data_location == onnx.TensorProto.EXTERNAL:
                problem = "it reads weights from other files, and could name any file of yours"
                advice = "Ask for it as one file (torch.onnx.export(..., external_data=False))"
                raise CheckpointRefused("external", f"{path}: {problem}. {advice}.")
        elif isinstance(part, onnx.NodeProto) and (
            (part.domain not in DOMAINS and (part.domain, part.op_type) not in own)
            or part.op_type == "EPContext"
        ):
            problem = f"{part.op_type[:40]!a} of {part.domain[:40]!a} is not an operation of ONNX"
            raise CheckpointRefused("operations", f"{path}: {problem}; it would need other code.")


def _parts(message: Any) -> Iterator[Any]:
    """The message and all messages in it, at any depth."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in [value] if hasattr(value, "ListFields") else value:
                yield from _parts(each)
