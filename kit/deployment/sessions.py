"""Runtimes that open a model's file: arrays in, arrays out.

onnxruntime    ONNX Runtime                    .onnx
openvino       OpenVINO, in float32            .onnx
openvino_bf16  OpenVINO, in bfloat16           .onnx
executorch     ExecuTorch: from Python it imports PyTorch to pass tensors
pytorch        PyTorch itself: a checkpoint of `kit.save`

The first two need no PyTorch. `kit.techniques` opens its exported models here as well, so that a
model has the same options in a notebook and at the edge.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from kit.core.silence import without_stderr

if TYPE_CHECKING:
    import numpy as np

Arrays = Sequence["np.ndarray"]
DTYPES = {"tensor(float)": "float32", "tensor(int64)": "int64", "f32": "float32", "i64": "int64"}


@dataclass(frozen=True)
class Session:
    """An open model. `run` takes an array per input and returns an array per output."""

    run: Callable[..., Any]
    shapes: tuple[tuple[int | None, ...], ...] = ()  # of the inputs, as the file says; None: any
    dtypes: tuple[str, ...] = ()  # of the inputs, as the file says

    def states(self) -> list[np.ndarray]:
        """Zeros for each input after the first: a model's memory before its first call."""
        import numpy as np

        shapes, dtypes = self.shapes[1:], self.dtypes[1:]
        pairs = zip(shapes, dtypes, strict=True)
        return [np.zeros([size or 1 for size in shape], dtype) for shape, dtype in pairs]


def onnxruntime(data: bytes, threads: int) -> Session:
    """A session of ONNX Runtime on the CPU."""
    import onnxruntime as ort

    ort.disable_telemetry_events()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    # What `session.run` calls. That compares the names first, in Python, which takes half as long
    # as all of a small model's call; this one finds the same mistakes.
    answer = getattr(session, "_sess", session).run
    names, outputs = ([each.name for each in ends] for ends in (inputs, session.get_outputs()))
    first = names[0]

    def run(*arrays: np.ndarray) -> Any:
        if len(arrays) == 1:  # the usual case, without the time of a zip
            return answer(outputs, {first: arrays[0]}, None)
        return answer(outputs, dict(zip(names, arrays, strict=True)), None)

    shapes = tuple(tuple(n if isinstance(n, int) else None for n in i.shape) for i in inputs)
    return Session(run, shapes, tuple(DTYPES.get(each.type, each.type) for each in inputs))


def openvino(data: bytes, threads: int, precision: str = "f32") -> Session:
    """A request of OpenVINO on the CPU, with that precision."""
    import_runtime("openvino")
    core = _openvino_core(os.getpid())
    hints = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        # To move the thread to a core of its own at each call takes longer than a small model. And
        # two processes would choose the same core.
        "ENABLE_CPU_PINNING": False,
    }
    model = core.read_model(data)
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    outputs, tensor = range(len(model.outputs)), import_module("openvino").Tensor

    def run(*arrays: np.ndarray) -> Any:
        try:
            for i, array in enumerate(arrays):
                request.set_input_tensor(i, tensor(array, shared_memory=True))
            request.infer()
        except (RuntimeError, ValueError):  # of another dtype, or read-only
            # It converts what it can, and explains the rest; for all calls it would cost 70 µs.
            request.infer(list(arrays), share_inputs=True)
        # Copies: the next call overwrites the request's own outputs.
        return [request.get_output_tensor(i).data.copy() for i in outputs]

    shapes = tuple(
        tuple(n.get_length() if n.is_static else None for n in each.get_partial_shape())
        for each in model.inputs
    )
    kinds = (each.get_element_type().get_type_name() for each in model.inputs)
    return Session(run, shapes, tuple(DTYPES.get(kind, kind) for kind in kinds))


@cache
def _openvino_core(process: int) -> Any:
    """The only Core of this process, which is never released.

    Its CPU plugin gives the thread that loads it a memory area for signals. If another thread
    releases the plugin, as a garbage collection may, that memory is gone. The next Ctrl-C, or
    *Interrupt the kernel*, then ends the process with a segmentation fault (OpenVINO 2026.4).
    """
    import openvino as ov

    return ov.Core()


def openvino_bf16(data: bytes, threads: int) -> Session:
    """A request of OpenVINO on the CPU, in bfloat16."""
    return openvino(data, threads, "bf16")


def executorch_method(data: bytes, threads: int) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """From a program's inputs to its outputs, as PyTorch's tensors: new ones at each call."""
    with without_stderr():  # it prints what it finds out about the processor
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(threads)
        execute: Any = Runtime.get().load_program(data).load_method("forward").execute
    return execute


def executorch(data: bytes, threads: int) -> Session:
    """A program of ExecuTorch. Its Python binding takes PyTorch's tensors, so it imports PyTorch.

    Notes
    -----
    On a phone, a program in C++ runs the same file without PyTorch. Without it, the binding cannot
    be imported (pytorch/executorch, issue 22971, September 2026).
    """
    execute = executorch_method(data, threads)
    import torch

    def run(*arrays: np.ndarray) -> Any:
        outputs = execute([torch.from_numpy(array) for array in arrays])
        return [output.numpy() for output in outputs]

    return Session(run)


def pytorch(data: bytes, threads: int) -> Session:
    """A model of the kit in PyTorch, from the path of a checkpoint that `kit.save` wrote."""
    import torch

    from kit.checkpoints import load
    from kit.inference import predict

    torch.set_num_threads(threads)
    model = load(data.decode()).model
    return Session(lambda array: [predict(model, torch.from_numpy(array)).numpy()])


def present_runtimes() -> list[str]:
    """The runtimes that can open an .onnx file here: of those that are installed."""
    known = ("onnxruntime", "openvino")
    return [name for name in known if find_spec(name) is not None]


def import_runtime(name: str) -> None:
    """Import what a runtime needs before it can open a file: most of the time to start."""
    # OpenVINO reports its use to its maker's server unless this module is missing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    for module in MODULES[name]:
        import_module(module)


OPENERS: dict[str, Callable[[bytes, int], Session]] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "openvino_bf16": openvino_bf16,
    "executorch": executorch,
    "pytorch": pytorch,
}
# What a runtime needs before it can open a file.
MODULES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "openvino_bf16": ("openvino",),
    "executorch": ("torch", "executorch.runtime"),
    "pytorch": ("torch", "kit.checkpoints", "kit.inference"),
}
