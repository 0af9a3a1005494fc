"""The FLOPs of operations: PyTorch's own counter, plus formulas that it lacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import nn

# Attention as one fused operation, each with a `…_backward`. Only these report `is_causal`.
FUSED_ATTENTION = (
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
)

# Products of matrices and vectors, also of complex numbers.
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot")

# Words in the names of operations that do more than elementwise work. Without a formula, such an
# operation is listed as not counted. So is any operation that is not PyTorch's own.
HEAVY = re.compile(
    r"(^|_)(mm|bmm|addmm|addbmm|matmul|vdot|linear|trilinear|conv|convolution|rnn|attention|"
    r"transformer|cdist|pdist|euclidean|fft|linalg|cholesky|lu|qr|ormqr|eig|svd|lstsq|solve)(_|$)"
)
ITSELF = "(itself)"  # among the layers: what the model computes outside its children
# The names of these match HEAVY, but their work is elementwise.
LIGHT = {"linalg_vector_norm", "linalg_cross", "_linalg_check_errors"}


class FlopCounter:
    """PyTorch's FLOP counter with more formulas, which also counts what a causal mask skips."""

    def __init__(self) -> None:
        # Imported here: it is slow, and most programs count nothing.
        from torch.utils import flop_counter as f

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
            # One gradient for the weights and one for the inputs, also in the first layer.
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
        self.complex = False  # whether a matmul of complex numbers was counted

    @property
    def total(self) -> int:
        """FLOPs so far."""
        return self.counter.get_total_flops()

    @contextmanager
    def by_layer(self, model: nn.Module) -> Iterator[dict[str, int]]:
        """FLOPs of each direct child of the model within this context; they add up to the total.

        What the model computes outside its children is under `ITSELF`. A layer that several
        children share counts for the first of them. A layer that is called by a layer of another
        child counts for that other child.
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
        """The names of operations that do more than elementwise work and have no formula."""
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
        """A matmul formula in which a complex multiply-add counts as four real ones."""

        def flops(*args: Any, out_val: Any = None, **kwargs: Any) -> int:
            real: int = formula(*args, out_val=out_val, **kwargs)
            if not out_val.is_complex():
                return real
            self.complex = True
            return 4 * real

        flops._get_raw = True  # type: ignore[attr-defined]  # PyTorch passes tensors to it, not shapes
        return flops

    def _attention(self, op: Any, formula: Callable[..., int], *, first: int) -> Callable[..., int]:
        """A formula that also adds up the masked part; the query is argument number `first`."""
        causal_at = [argument.name for argument in op.default._schema.arguments].index("is_causal")

        def flops(*args: Any, out_shape: Any = None, **kwargs: Any) -> int:
            full = formula(*args[: first + 3])
            queries, keys = args[first][-2], args[first + 1][-2]
            if (args[causal_at] if causal_at < len(args) else kwargs.get("is_causal")) is True:
                # Aligned top-left: query i meets keys 0 … i. All pairs cost the same.
                met = sum(min(i + 1, keys) for i in range(queries))
                self.masked += full - full * met // (queries * keys)
            return full

        return flops


def _convolution_backward(
    gradient: Any, inputs: Any, weight: Any, *rest: Any, out_shape: Any = None, **_: Any
) -> int:
    """The forward FLOPs once per requested gradient; PyTorch's formula is wrong with groups."""
    _, _, _, _, transposed, _, _, requested = rest
    positions = (inputs if transposed else gradient)[2:]
    return sum(requested[:2]) * 2 * inputs[0] * prod(positions) * prod(weight)


def _trilinear(
    first: Any, second: Any, third: Any, *dimensions: Any, out_shape: Any = None, **_: Any
) -> int:
    """FLOPs of `nn.Bilinear` and its gradients, which PyTorch computes as two products in turn.

    Each product multiplies and sums over some dimensions. Without a sum it is elementwise work.
    A prediction of nn.Bilinear takes 2·B·out·in2·(in1 + 1) FLOPs.
    """
    *missing, summed = map(set, dimensions[:4])  # those that each factor lacks; those summed over
    sizes = [
        dict(enumerate(_spread(*pair)))
        for pair in zip((first, second, third), missing, strict=True)
    ]
    size = {d: max(of[d] for of in sizes) for d in sizes[0]}
    early = summed & missing[2]  # the third factor lacks them: the first product sums over them
    pair = set(size) - (missing[0] & missing[1])
    rest = set(size) - early
    both = ((pair, early), (rest, summed - early))
    return sum(2 * prod(size[d] for d in dims) for dims, over in both if over)


def _spread(shape: Any, missing: set[int]) -> list[int]:
    """The shape with a 1 in each missing dimension."""
    present = iter(shape)
    return [1 if d in missing else next(present) for d in range(len(shape) + len(missing))]


def _recurrent(inputs: Any, weights: Any, *rest: Any, out_shape: Any = None, **_: Any) -> int:
    """A fused recurrent layer: each time step is multiplied by each weight matrix once."""
    matrices = weights if isinstance(weights, list) else [weights, rest[0]]
    return 2 * prod(inputs[:-1]) * sum(prod(w) for w in matrices if len(w) == 2)
