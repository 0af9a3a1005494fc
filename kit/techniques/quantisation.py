"""Integers instead of floating-point numbers, within PyTorch. For other runtimes see `exporting`.

A number is divided by a scale and rounded to an integer.

               rounds                    finds the scale of activations
int8_weights   weights                   not needed
int4_weights   weights                   not needed
int8_dynamic   weights and activations   at each call ("dynamic")
int8_static    weights and activations   once, from examples ("static")

Shapes: B batch.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kit.core.silence import silenced
from kit.devices import backend_of, compiling, lacks_compiler
from kit.techniques.exporting import check_calibration, exported_program
from kit.techniques.precision import half
from kit.techniques.technique import UnsuitableModel

ROWS, GROUP = 16, 32  # the sizes of a matrix of 4-bit weights are multiples of these


@silenced()
def int8_weights(model: nn.Module, example: Tensor) -> nn.Module:
    """Weights of linear layers as 8-bit integers, which are converted back for each call."""
    from torchao.quantization import Int8WeightOnlyConfig

    return _quantised(model, Int8WeightOnlyConfig())


@silenced()
def int8_dynamic(model: nn.Module, example: Tensor) -> nn.Module:
    """Linear layers multiply integers; each call finds the scale of its own inputs."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig

    return _quantised(model, Int8DynamicActivationInt8WeightConfig())


@silenced()
def int4_weights(model: nn.Module, example: Tensor) -> nn.Module:
    """Weights of linear layers as 4-bit integers, with a scale per 32; the rest in bfloat16."""
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig

    config = PrototypeInt4WeightOnlyConfig(group_size=GROUP)
    form = _quantised(half(model, example), config, _fits_int4)
    for parent in list(form.modules()):
        # Parts of others may read a layer's weight, which this one does not have.
        if type(parent).__module__.startswith("kit."):
            for name, part in parent.named_children():
                if _fits_int4(part, name):
                    setattr(parent, name, Int4Linear(part))
    return form.eval()


class Int4Linear(nn.Module):
    """A linear layer that gives torchao's 4-bit weights to PyTorch's kernel: (…, in) -> (…, out).

    torchao's tensor finds the kernel in Python, at each call: for a single row of 768 numbers,
    that takes a good tenth of the time of the kernel.
    """

    packed: Tensor  # (out, in / 2) uint8: two weights per byte, in the kernel's order
    scales: Tensor  # (in / 32, out, 2): scale and zero of each group of weights

    def __init__(self, linear: nn.Module):
        super().__init__()
        rounded: Any = linear.weight
        self.register_buffer("packed", rounded.qdata)
        self.register_buffer("scales", rounded.scale_and_zero)
        self.bias: Any = linear.bias

    def forward(self, inputs: Tensor) -> Tensor:
        """The product with the rounded weights, in the dtype of the inputs, and the bias."""
        rows = inputs.reshape(-1, inputs.shape[-1]).contiguous()
        product = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, self.packed, GROUP, self.scales)
        product = product.view(*inputs.shape[:-1], len(self.packed))
        return product if self.bias is None else product + self.bias


def int8_static(model: nn.Module, example: Tensor) -> nn.Module:
    """Compiled for integers throughout; the example sets the scales once.

    PyTorch's "pt2e" exports the graph, observes it while it computes the example, rounds it, and
    compiles it for x86 processors.
    """
    check_calibration(example)
    with silenced():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
        observed = prepare_pt2e(exported_program(model, example).module(), quantizer)
        observed(example)
        return StaticInt8(_without_unused_weights(convert_pt2e(observed)))


def _without_unused_weights(graph: Any) -> nn.Module:
    """The graph without the float32 weights that rounding has replaced."""
    used = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
    for name in [name for name, _ in graph.named_parameters() if name not in used]:
        owner, _, last = name.rpartition(".")
        delattr(graph.get_submodule(owner), last)
    return graph


class StaticInt8(nn.Module):
    """A graph of integer operations, compiled with its weights as constants ("frozen")."""

    def __init__(self, graph: nn.Module):
        super().__init__()
        self.graph = graph
        for part in self.modules():  # an exported graph raises an error on `eval()`
            part.training = False

        # A function is compiled, because a compiled module would be a second child module.
        def run(inputs: Tensor) -> Any:
            return graph(inputs)

        self._compiled: Any = torch.compile(run, dynamic=False, **compiling())
        self._shapes: set[torch.Size] = set()  # of inputs for which it is compiled

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, …) as the model takes them -> its outputs."""
        with torch.no_grad():
            if inputs.shape in self._shapes:
                return self._compiled(inputs)
            with silenced(), torch._inductor.config.patch(freezing=True):
                outputs = self._compiled(inputs)
        self._shapes.add(inputs.shape)
        return outputs

    def train(self, mode: bool = True) -> StaticInt8:
        """It has no training mode and stays unchanged."""
        return self


def lacks_x86(device: torch.device) -> str:
    """Why PyTorch's integer kernels for x86 do not work; an empty text if they do."""
    if not backend_of(device).is_cpu:
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
        raise UnsuitableModel("it has no linear layer of a size that can be rounded")
    quantize_(model, config, filter_fn=wanted)
    return model


def _fits_int4(part: nn.Module, name: str) -> bool:
    if not isinstance(part, nn.Linear):
        return False
    return part.out_features % ROWS == 0 and part.in_features % GROUP == 0
