"""The FLOPs of operations: PyTorch's own counter, and what it has to be taught."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
ITSELF = "(itself)"  # among the layers: what the model computes outside of them
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
            aten._trilinear: _trilinear,
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

    @contextmanager
    def by_layer(self, model: nn.Module) -> Iterator[dict[str, int]]:
        """FLOPs meanwhile of each direct child of the model and all in it; they add up to all.

        What the model computes outside its children is under `ITSELF`. A part of several children
        counts for the first; a part that another one calls counts for that one.
        """
        children, begun = dict(model.named_children()), self.total
        owner = {part: name for name in [*children][::-1] for part in children[name].modules()}
        layers, inside = dict.fromkeys(children, 0), 0

        def enter(part: nn.Module, _: Any) -> None:
            nonlocal inside
            layers[owner[part]] -= 0 if inside else self.total
            inside += 1

        def leave(part: nn.Module, *_: Any) -> None:
            nonlocal inside
            inside -= 1
            layers[owner[part]] += 0 if inside else self.total

        hooks = [part.register_forward_pre_hook(enter) for part in owner]
        hooks += [part.register_forward_hook(leave, always_call=True) for part in owner]
        try:
            yield layers
        finally:
            for hook in hooks:
                hook.remove()
        if own := self.total - begun - sum(layers.values()):
            layers[ITSELF] = own

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


def _trilinear(
    first: Any, second: Any, third: Any, *places: Any, out_shape: Any = None, **_: Any
) -> int:
    """As PyTorch computes `nn.Bilinear` and its gradients: two products, one after the other.

    Each multiplies, and adds up over some dimensions; where it adds up over none, it is
    elementwise work. nn.Bilinear predicts with 2·B·out·in2·(in1 + 1).
    """
    *missing, summed = map(set, places[:4])  # dimensions that a factor lacks; those added up
    sizes = [
        dict(enumerate(_spread(*pair)))
        for pair in zip((first, second, third), missing, strict=True)
    ]
    size = {d: max(of[d] for of in sizes) for d in sizes[0]}
    early = summed & missing[2]  # the third factor lacks them: they are gone before it comes
    pair = set(size) - (missing[0] & missing[1])
    rest = set(size) - early
    work = 0
    for dims, over in ((pair, early), (rest, summed - early)):
        work += 2 * prod(size[d] for d in dims) if over else 0
    return work


def _spread(shape: Any, missing: set[int]) -> list[int]:
    """The shape with a 1 in each dimension that is missing."""
    left = iter(shape)
    return [1 if d in missing else next(left) for d in range(len(shape) + len(missing))]


def _recurrent(inputs: Any, weights: Any, *rest: Any, out_shape: Any = None, **_: Any) -> int:
    """A recurrent layer in one operation: each weight matrix meets each time step once."""
    matrices = weights if isinstance(weights, list) else [weights, rest[0]]
    return 2 * prod(inputs[:-1]) * sum(prod(w) for w in matrices if len(w) == 2)
