"""Other runtimes that run an exported model, used through the same `kit.predict`.

onnxruntime   ONNX Runtime                 .onnx
openvino      OpenVINO                     .onnx
openvino_bf16 OpenVINO, in bfloat16        .onnx
aoti          PyTorch's AOTInductor        .pt2
executorch    PyTorch's ExecuTorch         .pte

Shapes: B batch.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kit.core.silence import silenced, without_stderr
from kit.inference import Runtime

Answer = Callable[[Tensor], Tensor]
Load = Callable[[bytes], Answer]
SUFFIXES = {
    **{"onnxruntime": ".onnx", "openvino": ".onnx", "openvino_bf16": ".onnx"},
    **{"aoti": ".pt2", "executorch": ".pte"},
}


class Exported(Runtime):
    """A model that another runtime runs. It can predict like any other, and nothing else.

    It uses as many threads as PyTorch used when the model was exported or read.
    """

    def __init__(self, runtime: str, data: bytes, load: Load, device: torch.device | str = "cpu"):
        super().__init__()
        self.runtime, self.data, self.home = runtime, data, torch.device(device)
        with silenced():
            answer = load(data)
        # AOTInductor reads other memory layouts wrongly, without an error.
        self.answer: Answer = lambda inputs: answer(inputs.contiguous())  # for `kit.predict`
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, …) as the model takes them -> its outputs."""
        return self.answer(inputs)

    def __repr__(self) -> str:
        return f"{len(self.data):,} bytes for {self.runtime}"


def load_onnxruntime(data: bytes) -> Answer:
    """A session of ONNX Runtime on the CPU."""
    import onnxruntime as ort

    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name, run = session.get_inputs()[0].name, session.run
    return lambda inputs: torch.from_numpy(run(None, {name: inputs.numpy()})[0])


def load_openvino(precision: str) -> Load:
    """A request of OpenVINO on the CPU, with that precision."""

    def load(data: bytes) -> Answer:
        # OpenVINO reports its use to its maker's server unless this module is missing.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino as ov

        core = ov.Core()
        hints = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        request = core.compile_model(core.read_model(data), "CPU", hints).create_infer_request()
        infer = request.infer
        return lambda inputs: torch.from_numpy(infer([inputs.numpy()], share_inputs=True)[0])

    return load


def load_package(data: bytes) -> Answer:
    """A package of AOTInductor; it runs on the type of device that it was compiled on."""
    with tempfile.TemporaryDirectory() as folder:  # PyTorch unpacks it to a folder of its own
        path = Path(folder) / "model.pt2"
        path.write_bytes(data)
        package: Any = torch._inductor.aoti_load_package(str(path))

    def answer(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            return package(inputs)

    return answer


def load_executorch(data: bytes) -> Answer:
    """A program of ExecuTorch, which takes one example at a time."""
    with without_stderr():  # it prints what it finds out about the processor
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(torch.get_num_threads())
        method = Runtime.get().load_program(data).load_method("forward")
    execute = method.execute

    def answer(inputs: Tensor) -> Tensor:
        # Each output is copied: the next call overwrites its memory.
        answers = [execute([one])[0].clone() for one in inputs.split(1)]
        return answers[0] if len(answers) == 1 else torch.cat(answers)

    return answer
