"""Integers instead of floating-point numbers, inside of PyTorch.

What is rounded: the weights alone, or the activations too; and when the scale of activations is
found, by which a number is divided before it is rounded: at each call ("dynamic") or once, from
examples ("static"). Outside of PyTorch, see `exporting`.

Shapes: B batch.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.silence import silenced
from kit.devices import compiling, lacks_compiler
from kit.techniques.exporting import check_calibration, program
from kit.techniques.precision import half
from kit.techniques.technique import Unsuitable

ROWS, GROUP = 16, 32  # a matrix of 4-bit weights has multiples of these as its sizes


def int8_weights(model: nn.Module, example: Tensor) -> nn.Module:
    """Weights of linear layers in a quarter of the bytes; each is widened again when it is used."""
    with silenced():
        from torchao.quantization import Int8WeightOnlyConfig

        return _quantised(model, Int8WeightOnlyConfig())


def int8_dynamic(model: nn.Module, example: Tensor) -> nn.Module:
    """Linear layers multiply integers; what comes in is rounded by a scale of its own each time."""
    with silenced():
        from torchao.quantization import Int8DynamicActivationInt8WeightConfig

        return _quantised(model, Int8DynamicActivationInt8WeightConfig())


def int4_weights(model: nn.Module, example: Tensor) -> nn.Module:
    """Weights of linear layers as 4-bit integers with a scale per 32, the rest in bfloat16."""
    with silenced():
        from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

        config = PrototypeInt4WeightOnlyConfig(group_size=GROUP)
        return _quantised(half(model, example), config, _fits_int4)


def int8_static(model: nn.Module, example: Tensor) -> nn.Module:
    """Compiled for integers throughout; scales are learnt once, from the example.

    PyTorch's "pt2e": the graph is exported, watched while the example goes through it, rounded,
    and compiled for x86 processors.
    """
    check_calibration(example)
    with silenced():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
        watched = prepare_pt2e(program(model, example).module(), quantizer)
        watched(example)
        return Static(_without_leftovers(convert_pt2e(watched)))


def _without_leftovers(graph: Any) -> nn.Module:
    """The graph without the weights that it had before they were rounded."""
    used = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in graph.named_parameters() if name not in used]:
        owner, _, last = name.rpartition(".")
        delattr(graph.get_submodule(owner), last)
    return graph


class Static(nn.Module):
    """A graph of integer operations, compiled with its weights as constants ("frozen")."""

    def __init__(self, graph: nn.Module):
        super().__init__()
        self.graph = graph
        for part in self.modules():  # an exported graph has no modes, and refuses `eval()`
            part.training = False

        # Of a function, since a compiled module would be a second child with the same weights.
        def run(inputs: Tensor) -> Any:
            return graph(inputs)

        self._compiled: Any = torch.compile(run, dynamic=False, **compiling())
        self._shapes: set[torch.Size] = set()  # of inputs that it is compiled for

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, …) as the model takes them -> its outputs."""
        with torch.no_grad():
            if inputs.shape in self._shapes:
                return self._compiled(inputs)
            with silenced(), torch._inductor.config.patch(freezing=True):
                outputs = self._compiled(inputs)
        self._shapes.add(inputs.shape)
        return outputs

    def train(self, mode: bool = True) -> Static:
        """It stays as it is."""
        return self


def lacks_x86(device: torch.device) -> str:
    """Why PyTorch's integer kernels for x86 cannot be had; nothing if they can."""
    if device.type != "cpu":
        return "its kernels are for CPUs"
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"its kernels are for x86 processors, this one is {platform.machine()}"
    return lacks_compiler(device)


def _quantised(
    model: nn.Module, config: Any, wanted: Callable[[nn.Module, str], bool] | None = None
) -> nn.Module:
    from torchao.quantization import quantize_

    wanted = wanted or (lambda part, name: isinstance(part, nn.Linear))
    if not any(wanted(part, name) for name, part in model.named_modules()):
        raise Unsuitable("it has no linear layer of a size that can be rounded")
    quantize_(model, config, filter_fn=wanted)
    return model


def _fits_int4(part: nn.Module, name: str) -> bool:
    return (
        isinstance(part, nn.Linear)
        and part.out_features % ROWS == 0
        and part.in_features % GROUP == 0
    )
