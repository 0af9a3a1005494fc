"""The FLOPs of operations: PyTorch's own counter, and what it has to be taught."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import torch
from torch import nn

# Attention in one operation, each with a `…_backward`. Only these know that they are causal.
FUSED_ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)

PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot")  # complex ones, too

# Words in the names of operations that do more than elementwise work. One of these without a
# formula is named as not counted, and so is any operation that is not PyTorch's own.
HEAVY = re.compile(
    r"(^|_)(mm|bmm|addmm|addbmm|matmul|vdot|linear|trilinear|conv|convolution|rnn|attention|"
    r"transformer|cdist|pdist|euclidean|fft|linalg|cholesky|lu|qr|ormqr|eig|svd|lstsq|solve)(_|$)"
)
LIGHT = {"linalg_vector_norm", "linalg_cross", "_linalg_check_errors"}  # heavy only by name


class Flops:
    """PyTorch's FLOP counter, taught more operations, and to see what a causal mask throws away."""

    def __init__(self) -> None:
        from torch.utils import flop_counter as f  # here: most programs count nothing

        aten = torch.ops.aten
        formulas: dict[Any, Any] = {
            aten.mv: lambda matrix, vector, out_shape=None: 2 * prod(matrix),
            aten.dot: lambda a, b, out_shape=None: 2 * prod(a),
            aten.vdot: lambda a, b, out_shape=None: 2 * prod(a),
            aten.addmv: lambda a, matrix, vector, out_shape=None, **_: 2 * prod(matrix),
            aten.convolution_backward: _convolution_backward,
        }
        for rnn in ("mkldnn_rnn_layer", "_cudnn_rnn"):
            formulas[getattr(aten, rnn)] = _recurrent
            # A gradient for each weight and for each input, the very first layer's too.
            formulas[getattr(aten, f"{rnn}_backward")] = lambda *a, **k: 2 * _recurrent(*a, **k)
        for name in FUSED_ATTENTION:
            op, back = getattr(aten, name), getattr(aten, f"{name}_backward")
            formulas[op] = self._attention(op, f.sdpa_flop_count, first=0)
            formulas[back] = self._attention(back, f.sdpa_backward_flop_count, first=1)
        known = {getattr(aten, name): f.flop_registry.get(getattr(aten, name)) for name in PRODUCTS}
        for op, formula in known.items():
            formulas[op] = self._product(formula or f.shape_wrapper(formulas[op]))
        self.counter = f.FlopCounterMode(display=False, custom_mapping=formulas)
        self.masked = 0
        self.complex = False  # whether one of the matmuls was of complex numbers

    @property
    def total(self) -> int:
        """FLOPs so far."""
        return self.counter.get_total_flops()

    def by_layer(self, model: nn.Module) -> dict[str, int]:
        """FLOPs so far of each direct child of the model."""
        counts, root = self.counter.get_flop_counts(), type(model).__name__
        names = [name for name, _ in model.named_children()]
        return {name: sum(counts.get(f"{root}.{name}", {}).values()) for name in names}

    def uncounted(self, operations: Iterable[Any]) -> tuple[str, ...]:
        """The names of those that do more than elementwise work and have no formula."""
        names = set()
        for op in operations:
            space, _, name = op._schema.name.partition("::")
            if op.overloadpacket in self.counter.flop_registry or name in LIGHT:
                continue
            if space not in ("aten", "prim", "prims", "profiler"):
                names.add(f"{space}::{name}")
            elif HEAVY.search(name):
                names.add(name.lstrip("_"))
        return tuple(sorted(names))

    def _product(self, formula: Callable[..., int]) -> Callable[..., int]:
        """A formula of a matmul that counts four real multiply-adds for a complex one."""

        def flops(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
            real: int = formula(*args, out_val=out_val, **kwargs)
            if not out_val.is_complex():
                return real
            self.complex = True
            return 4 * real

        flops._get_raw = True  # type: ignore[attr-defined]  # of tensors, not of their shapes
        return flops

    def _attention(self, op: Any, formula: Callable[..., int], *, first: int) -> Callable[..., int]:
        """A formula that also adds up the masked part; query, key and value are `first` and on."""
        place = [argument.name for argument in op.default._schema.arguments].index("is_causal")

        def flops(*args: Any, out_shape: Any = None, **kwargs: Any) -> int:
            full = formula(*args[: first + 3])
            queries, keys = args[first][-2], args[first + 1][-2]
            if (args[place] if place < len(args) else kwargs.get("is_causal")) is True:
                # Aligned top-left: query i sees keys 0 … i. All pairs cost the same.
                seen = sum(min(i + 1, keys) for i in range(queries))
                self.masked += full - full * seen // (queries * keys)
            return full

        return flops


def _convolution_backward(
    gradient: Any, inputs: Any, weight: Any, *rest: Any, out_shape: Any = None, **_: Any
) -> int:
    """A forward's work for each gradient wanted; PyTorch's own formula is wrong with groups."""
    _, _, _, _, transposed, _, _, wanted = rest
    places = (inputs if transposed else gradient)[2:]
    return sum(wanted[:2]) * 2 * inputs[0] * prod(places) * prod(weight)


def _recurrent(inputs: Any, weights: Any, *rest: Any, out_shape: Any = None, **_: Any) -> int:
    """A recurrent layer in one operation: each weight matrix meets each time step once."""
    matrices = weights if isinstance(weights, list) else [weights, rest[0]]
    return 2 * prod(inputs[:-1]) * sum(prod(w) for w in matrices if len(w) == 2)
