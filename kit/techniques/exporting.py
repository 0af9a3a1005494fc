"""Export: a model as a graph of standard operations, for runtimes that do not know its code.

Shapes: B batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue
from kit.core.silence import silenced
from kit.core.tensor_files import digest
from kit.core.units import plural
from kit.techniques.runtimes import (
    Exported,
    load_executorch,
    load_onnxruntime,
    load_openvino,
    load_openvino_bf16,
)
from kit.techniques.technique import UnsuitableModel

CALIBRATION = 16  # different examples: fewer say little about the range of activations
CALIBRATION_BATCH = 16
COMPUTING = ("Conv", "MatMul", "Gemm")  # operations that are faster in 8 bits …
PASSING = ("Relu", "MaxPool", "Reshape", "Transpose")  # … and others that stand between them
MAX_BYTES = 2**31 - 1  # of an ONNX file: protobuf's own limit
HELD_BYTES = 64_000_000  # of the last file made; a larger one is made again for each form
_last_made: dict[str, bytes] = {}  # at most one ONNX file, by what it was made from


def exported_program(model: nn.Module, example: Tensor) -> Any:
    """The graph that `torch.export` traces, for batches of any size."""
    two = torch.cat([example, example])[:2]  # from one example it would infer a fixed batch of 1
    batch = torch.export.Dim("batch")
    return torch.export.export(model, (two,), dynamic_shapes=({0: batch},))


def onnx_bytes(model: nn.Module, example: Tensor) -> bytes:
    """The model as an ONNX file.

    Several forms in turn need the same file, and to convert the graph takes most of the time. So
    the last file is held, and given again for the same graph with the same weights. The graph is
    traced at each call: a model that has changed meanwhile gets a file of its own.
    """
    if sum(p.nbytes for p in model.parameters()) > MAX_BYTES:
        raise UnsuitableModel("an ONNX file holds at most 2 GB of weights")
    with silenced():
        program = exported_program(model, example)
        source = _identity(program)
        if source is None or (data := _last_made.get(source)) is None:
            data = _converted(program)
    _last_made.clear()
    if source is not None and len(data) <= HELD_BYTES:
        _last_made[source] = data
    return data


def _identity(program: Any) -> str | None:
    """A digest of all that the program computes with; None if a part of it has no bytes."""
    tensors = {**program.state_dict, **program.constants}
    if not all(isinstance(v, Tensor) and type(v.data) is Tensor for v in tensors.values()):
        return None
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return digest(plain, str(program))  # the text has operations, shapes and names


def _converted(program: Any) -> bytes:
    """The ONNX file of a graph that was traced."""
    made = torch.onnx.export(program, dynamo=True, external_data=False, verbose=False)
    assert made is not None
    proto = made.model_proto
    del proto.graph.value_info[:]  # shapes of the example, which quantising would take as fixed
    data: bytes = proto.SerializeToString()
    return data


def int8_bytes(model: nn.Module, example: Tensor) -> bytes:
    """An ONNX file with 8-bit weights and activations; the example sets their scales."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    check_calibration(example)
    data = onnx_bytes(model, example)
    name = onnx.load_from_string(data).graph.input[0].name
    batches = iter([{name: part.cpu().numpy()} for part in example.split(CALIBRATION_BATCH)])
    return _quantised(
        data,
        quantize_static,
        calibration_data_reader=SimpleNamespace(get_next=lambda: next(batches, None)),
        op_types_to_quantize=[*COMPUTING, *PASSING],
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
    )


def _quantised(data: bytes, quantise: Callable[..., None], **options: Any) -> bytes:
    """The quantised bytes, by way of files: ONNX Runtime's tools read and write only files."""
    # Without the instructions that add four products at once (VNNI), the sums could overflow:
    # weights of 7 bits cannot.
    known: Any = getattr(torch.cpu, "get_capabilities", dict)()
    has_vnni = known.get("avx512_vnni") or known.get("avx_vnni")
    options["reduce_range"] = bool(known.get("avx2")) and not has_vnni
    with silenced(), tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(data)
        quantise(str(source), str(target), **options)
        return target.read_bytes()


def check_calibration(example: Tensor) -> None:
    """Refuse a batch with too few different examples to find the ranges of activations."""
    different = len(torch.unique(example, dim=0)) if len(example) else 0
    if different < CALIBRATION:
        raise BadValue(
            f"given {plural(different, 'different example')} to calibrate int8; "
            f"needs at least {CALIBRATION} to find the ranges of activations. Pass a batch of the "
            f"training split, such as work.example(64)[0]."
        )


# --- The techniques ------------------------------------------------------------------------------


def onnx(model: nn.Module, example: Tensor) -> nn.Module:
    """ONNX Runtime runs an ONNX file: one fused graph, without Python between operations."""
    return Exported("onnxruntime", onnx_bytes(model, example), load_onnxruntime)


def onnx_int8(model: nn.Module, example: Tensor) -> nn.Module:
    """ONNX Runtime with 8-bit weights and activations; scales from the example ("static")."""
    return Exported("onnxruntime", int8_bytes(model, example), load_onnxruntime)


def onnx_int8_dynamic(model: nn.Module, example: Tensor) -> nn.Module:
    """ONNX Runtime with 8-bit weights; each call scales its activations ("dynamic")."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    data = _quantised(onnx_bytes(model, example), quantize_dynamic, weight_type=QuantType.QInt8)
    return Exported("onnxruntime", data, load_onnxruntime)


def openvino(model: nn.Module, example: Tensor) -> nn.Module:
    """OpenVINO runs the ONNX file in float32, whatever the processor prefers."""
    return Exported("openvino", onnx_bytes(model, example), load_openvino)


def openvino_bf16(model: nn.Module, example: Tensor) -> nn.Module:
    """OpenVINO runs the ONNX file, in bfloat16 if the processor has it."""
    return Exported("openvino_bf16", onnx_bytes(model, example), load_openvino_bf16)


def openvino_int8(model: nn.Module, example: Tensor) -> nn.Module:
    """OpenVINO runs the file of `onnx_int8`."""
    return Exported("openvino", int8_bytes(model, example), load_openvino)


@silenced()
def executorch(model: nn.Module, example: Tensor) -> nn.Module:
    """ExecuTorch with XNNPACK, made for phones: one example at a time, memory planned ahead."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    graph = torch.export.export(model, (example[:1],))
    lowered = to_edge_transform_and_lower(graph, partitioner=[XnnpackPartitioner()])
    data = bytes(lowered.to_executorch().buffer)
    return Exported("executorch", data, load_executorch)
