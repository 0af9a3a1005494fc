"""A model written down as a graph of standard operations, for runtimes that know nothing of it.

Shapes: B batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue
from kit.core.silence import silenced
from kit.techniques.runtimes import Exported, run_onnxruntime, run_openvino
from kit.techniques.technique import Unsuitable

CALIBRATION = 16  # different examples: fewer say little of how large numbers get
AT_ONCE = 16  # examples in a calibration batch
WORKING = ("Conv", "MatMul", "Gemm")  # operations that gain from 8 bits …
PASSING = ("Relu", "MaxPool", "Reshape", "Transpose")  # … and those that would break their chain
MOST_BYTES = 2**31 - 1  # of an ONNX file: protobuf's own limit


def program(model: nn.Module, example: Tensor) -> Any:
    """The model as PyTorch's exporter sees it: a graph for batches of any size."""
    two = torch.cat([example, example])[:2]  # of a single example it would believe there is one
    batch = torch.export.Dim("batch")
    return torch.export.export(model, (two,), dynamic_shapes=({0: batch},))


def onnx_bytes(model: nn.Module, example: Tensor) -> bytes:
    """The model as an ONNX file."""
    if sum(p.nbytes for p in model.parameters()) > MOST_BYTES:
        raise Unsuitable("an ONNX file holds at most 2 GB of weights")
    with silenced():
        made = torch.onnx.export(
            program(model, example), dynamo=True, external_data=False, verbose=False
        )
    assert made is not None
    proto = made.model_proto
    del proto.graph.value_info[:]  # shapes that quantising would take at their word
    data: bytes = proto.SerializeToString()
    return data


def int8_bytes(model: nn.Module, example: Tensor) -> bytes:
    """The same with weights and activations as 8-bit integers, whose scales the example teaches."""
    from onnxruntime.quantization import QuantType, quantize_static

    check_calibration(example)
    # Without the instructions that add four products at once (VNNI), their sums would overflow.
    known: Any = getattr(torch.cpu, "get_capabilities", dict)()
    careful = bool(known.get("avx2")) and not (known.get("avx512_vnni") or known.get("avx_vnni"))

    def quantise(source: str, target: str, name: str) -> None:
        batches = [{name: part.cpu().numpy()} for part in example.split(AT_ONCE)]
        quantize_static(
            source,
            target,
            _Batches(iter(batches)),
            op_types_to_quantize=[*WORKING, *PASSING],
            per_channel=True,
            reduce_range=careful,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
        )

    return _quantised(onnx_bytes(model, example), quantise)


def int8_dynamic_bytes(model: nn.Module, example: Tensor) -> bytes:
    """The same with weights as 8-bit integers; activations are rounded as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    def quantise(source: str, target: str, name: str) -> None:
        quantize_dynamic(source, target, weight_type=QuantType.QInt8)

    return _quantised(onnx_bytes(model, example), quantise)


class _Batches:
    """What ONNX Runtime asks for the next calibration batch."""

    def __init__(self, batches: Iterator[dict[str, Any]]):
        self._batches = batches

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def _quantised(data: bytes, quantise: Callable[[str, str, str], None]) -> bytes:
    """Through files, since ONNX Runtime's tools read and write such."""
    import onnx

    name = onnx.load_from_string(data).graph.input[0].name
    with silenced(), tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(data)
        quantise(str(source), str(target), name)
        return target.read_bytes()


def check_calibration(example: Tensor) -> None:
    """Refuse too few different examples to learn the ranges of activations from."""
    different = len(torch.unique(example, dim=0)) if len(example) else 0
    if different < CALIBRATION:
        raise BadValue(
            f"given {different} different example{'s' * (different != 1)} to calibrate int8 with; "
            f"needed are at least {CALIBRATION}: they teach it how large numbers get. Give a batch "
            f"of the training split, such as work.example(64)[0]."
        )


# --- The techniques ------------------------------------------------------------------------------


def onnx(model: nn.Module, example: Tensor) -> nn.Module:
    """An ONNX file, run by ONNX Runtime: one graph, fused, without Python between operations."""
    return Exported("onnxruntime", onnx_bytes(model, example), run_onnxruntime)


def onnx_int8(model: nn.Module, example: Tensor) -> nn.Module:
    """ONNX Runtime in 8-bit integers, activations too; scales from the example ("static")."""
    return Exported("onnxruntime", int8_bytes(model, example), run_onnxruntime)


def onnx_int8_dynamic(model: nn.Module, example: Tensor) -> nn.Module:
    """ONNX Runtime with 8-bit weights; activations are scaled anew at each call ("dynamic")."""
    return Exported("onnxruntime", int8_dynamic_bytes(model, example), run_onnxruntime)


def openvino(model: nn.Module, example: Tensor) -> nn.Module:
    """The ONNX file, run by OpenVINO in float32."""
    return Exported("openvino", onnx_bytes(model, example), run_openvino("f32"))


def openvino_bf16(model: nn.Module, example: Tensor) -> nn.Module:
    """The ONNX file, run by OpenVINO, which computes in bfloat16 where the processor can."""
    return Exported("openvino", onnx_bytes(model, example), run_openvino("bf16"))


def openvino_int8(model: nn.Module, example: Tensor) -> nn.Module:
    """The file of `onnx_int8`, run by OpenVINO."""
    return Exported("openvino", int8_bytes(model, example), run_openvino("f32"))


def executorch(model: nn.Module, example: Tensor) -> nn.Module:
    """ExecuTorch with XNNPACK, made for phones: one example at a time, all memory planned ahead."""
    from kit.techniques.runtimes import run_executorch

    with silenced():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        graph = torch.export.export(model, (example[:1],))
        lowered = to_edge_transform_and_lower(graph, partitioner=[XnnpackPartitioner()])
        data = bytes(lowered.to_executorch().buffer)
    return Exported("executorch", data, run_executorch)
