"""Other runtimes that run an exported model, used through the same `kit.predict`.

onnxruntime   ONNX Runtime                 .onnx
openvino      OpenVINO                     .onnx
openvino_bf16 OpenVINO, in bfloat16        .onnx
aoti          PyTorch's AOTInductor        .pt2
executorch    PyTorch's ExecuTorch         .pte

Shapes: B batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kit.core.silence import silenced
from kit.deployment.sessions import OPENERS, executorch_method
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
            self.answer: Answer = load(data)  # for `kit.predict`
        self.eval()

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, …) as the model takes them -> its outputs."""
        return self.answer(inputs)

    def __repr__(self) -> str:
        return f"{len(self.data):,} bytes for {self.runtime}"


def load_with(runtime: str) -> Load:
    """A session of that runtime (`kit.deployment.sessions`), for tensors on the CPU."""

    def load(data: bytes) -> Answer:
        run, tensor = OPENERS[runtime](data, torch.get_num_threads()).run, torch.from_numpy
        return lambda inputs: tensor(run(inputs.numpy())[0])

    return load


load_onnxruntime, load_openvino, load_openvino_bf16 = map(
    load_with, ("onnxruntime", "openvino", "openvino_bf16")
)


def load_package(data: bytes) -> Answer:
    """A package of AOTInductor; it runs on the type of device that it was compiled on."""
    with tempfile.TemporaryDirectory() as folder:  # PyTorch unpacks it to a folder of its own
        path = Path(folder) / "model.pt2"
        path.write_bytes(data)
        run: Any = torch._inductor.aoti_load_package(str(path)).loader.run

    def answer(inputs: Tensor) -> Tensor:
        # The package itself would read from JSON at each call that one tensor comes and one goes.
        # Detached: nothing is recorded. It reads other memory layouts wrongly, without an error.
        return run([inputs.detach().contiguous()])[0]

    return answer


def load_executorch(data: bytes) -> Answer:
    """A program of ExecuTorch, which takes one example at a time."""
    execute = executorch_method(data, torch.get_num_threads())

    def answer(inputs: Tensor) -> Tensor:
        inputs = inputs.contiguous()
        if len(inputs) == 1:  # without the time of `split` and `cat`
            return execute((inputs,))[0]
        return torch.cat([execute((one,))[0] for one in inputs.split(1)])

    return answer
