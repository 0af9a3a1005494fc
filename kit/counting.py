"""What a model costs on paper: parameters, bytes and FLOPs, counted, not timed.

The rule, named in each result: a multiply-add is 2 FLOPs; matmuls and convolutions are counted
(by PyTorch's own counter), elementwise work is not, except the optimizer's, which is nothing
else: AdamW does 14 operations per parameter (Loshchilov & Hutter, "Decoupled Weight Decay
Regularization", 2019, algorithm 2: 1 decay, 3 first moment, 4 second, 3 root, 3 update).

Bytes moved are the least that must cross memory if everything needed were read once and
everything made were written once:

predict    weights + inputs + outputs
forward    the same, and what is kept for backward is written
backward   weights and what was kept are read, gradients are written
optimizer  weights, gradients and two moments are read; weights and moments are written
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kit.errors import BadValue
from kit.figures import Table
from kit.results import Result
from kit.units import words

ADAMW_OPERATIONS = 14  # per parameter and step
ADAMW_MOMENTS = 2  # numbers kept per parameter: means of the gradient and of its square


@dataclass(frozen=True)
class Work:
    """FLOPs and least bytes moved of one phase."""

    flops: int
    moved_bytes: int

    @property
    def intensity(self) -> float:
        """FLOPs per byte: where on the roofline the phase lies."""
        return self.flops / self.moved_bytes


@dataclass(frozen=True)
class Count(Result):
    """What one model costs on one batch, by phase."""

    model: str
    batch_size: int
    params: int
    trainable_params: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int  # kept from forward for backward, the batch itself included
    input_bytes: int
    output_bytes: int
    predict_working_bytes: int  # most alive at once of what a prediction makes
    step_working_bytes: int  # most alive at once of what a step makes, gradients included
    forward_flops: int
    backward_flops: int
    layers: dict[str, int] = field(repr=False)  # forward FLOPs by layer
    rule: str = "a multiply-add is 2 FLOPs; matmuls, convolutions and AdamW's update are counted"

    @property
    def optimizer_flops(self) -> int:
        """Elementwise operations of one AdamW update."""
        return ADAMW_OPERATIONS * self.trainable_params

    @property
    def step_flops(self) -> int:
        """One training step: forward, backward, optimizer."""
        return self.forward_flops + self.backward_flops + self.optimizer_flops

    @property
    def training_bytes(self) -> int:
        """What one step has in memory: weights, optimizer, inputs, and the most of the rest."""
        return self.weight_bytes + self.optimizer_bytes + self.input_bytes + self.step_working_bytes

    @property
    def inference_bytes(self) -> int:
        """What one prediction has in memory: weights, inputs, and the most of the rest."""
        return self.weight_bytes + self.input_bytes + self.predict_working_bytes

    @property
    def phases(self) -> dict[str, Work]:
        """FLOPs and least bytes moved: predict, and a step's forward, backward, optimizer."""
        w, g, o, a = (
            self.weight_bytes,
            self.gradient_bytes,
            self.optimizer_bytes,
            self.activation_bytes,
        )
        predict = w + self.input_bytes + self.output_bytes
        kept = max(0, a - self.input_bytes)  # the batch is kept too, but was there already
        return {
            "predict": Work(self.forward_flops, predict),
            "forward": Work(self.forward_flops, predict + kept),
            "backward": Work(self.backward_flops, w + a + g),
            "optimizer": Work(self.optimizer_flops, 2 * w + g + 2 * o),
        }

    def __repr__(self) -> str:
        return (
            f"{self.model}, batch {self.batch_size}: prediction "
            f"{words(self.forward_flops, 'FLOP')}, step {words(self.step_flops, 'FLOP')}; "
            f"{words(self.inference_bytes, 'B')} to predict, "
            f"{words(self.training_bytes, 'B')} to train"
        )

    def table(self) -> Table:
        """What people see: each number for a prediction and for a training step."""

        def row(name: str, infer: float | None, train: float, unit: str) -> tuple[str, ...]:
            return (name, words(infer, unit), words(train, unit))

        p = self.phases
        rows = [
            row("weights", self.weight_bytes, self.weight_bytes, "B"),
            row("gradients", None, self.gradient_bytes, "B"),
            row("optimizer state", None, self.optimizer_bytes, "B"),
            row("activations kept for backward", None, self.activation_bytes, "B"),
            row("memory at its fullest", self.inference_bytes, self.training_bytes, "B"),
            row("forward", self.forward_flops, self.forward_flops, "FLOP"),
            row("backward", None, self.backward_flops, "FLOP"),
            row("optimizer", None, self.optimizer_flops, "FLOP"),
            row(
                "least bytes moved",
                p["predict"].moved_bytes,
                sum(p[name].moved_bytes for name in ("forward", "backward", "optimizer")),
                "B",
            ),
        ]
        caption = (
            f"{self.model}; a batch of {self.batch_size}. At its fullest, memory also holds what "
            f"is made and dropped again on the way. Counting rule: {self.rule}."
        )
        return Table(("", "a prediction", "a training step"), rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw counts."""
        derived = ("optimizer_flops", "step_flops", "training_bytes", "inference_bytes")
        moved = {f"{name}_moved_bytes": work.moved_bytes for name, work in self.phases.items()}
        return {**asdict(self), **{name: getattr(self, name) for name in derived}, **moved}


def count(
    model: nn.Module, inputs: Tensor, loss: Callable[[Tensor], Tensor] | None = None
) -> Count:
    """What one prediction and one AdamW training step of the model cost on these inputs.

    Parameters
    ----------
    model
        Left as it is: weights, gradients and mode.
    inputs
        One batch, (B, …), on the model's device.
    loss
        From the outputs to a scalar; what it keeps for backward is counted too. None: the mean
        of the outputs, which keeps nothing.

    Examples
    --------
    >>> from kit.models import MLP, MLPConfig
    >>> count(MLP(MLPConfig(hidden=16, layers=1)), torch.zeros(2, 1, 8, 8)).forward_flops
    4736

    By hand: 2 examples × 2 FLOPs × (64·16 + 16·10) multiply-adds. Explained in lesson 02.
    """
    if inputs.ndim == 0 or len(inputs) == 0:
        raise BadValue(f"inputs of shape {tuple(inputs.shape)}: needs a batch of at least 1.")
    name = repr(model).splitlines()[0]
    server, model = deepcopy(model).eval(), deepcopy(model).train()  # the caller's stays as it is
    params = list(model.parameters())
    trained = [p for p in params if p.requires_grad]
    training = _Alive([*params, *model.buffers(), inputs])
    predicting = _Alive([*server.parameters(), *server.buffers(), inputs])
    kept, flops = _Kept(params, training), _flop_counter()
    with torch.inference_mode(), predicting:
        outputs = server(inputs)
    output_bytes = _bytes([outputs])
    with torch.random.fork_rng(), torch.enable_grad(), kept.hooks(), flops, training:
        outputs = model(inputs)
        value = outputs.mean() if loss is None else loss(outputs)
        forward = flops.get_total_flops()
        layers = _by_layer(flops, model)
        if trained:
            value.backward()
    weights = _bytes(params) + _bytes(model.buffers())
    return Count(
        model=name,
        batch_size=len(inputs),
        params=sum(p.numel() for p in params),
        trainable_params=sum(p.numel() for p in trained),
        weight_bytes=weights,
        gradient_bytes=_bytes(trained),
        optimizer_bytes=ADAMW_MOMENTS * _bytes(trained),
        activation_bytes=kept.bytes,
        input_bytes=_bytes([inputs]),
        output_bytes=output_bytes,
        predict_working_bytes=predicting.most,
        step_working_bytes=training.most,
        forward_flops=forward,
        backward_flops=flops.get_total_flops() - forward,
        layers=layers,
    )


def _bytes(tensors: Any) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


class _Alive(TorchDispatchMode):
    """Adds up the tensors that operations make, as long as they live, and keeps the most."""

    def __init__(self, present: Iterable[Tensor]):
        super().__init__()
        self.present = {tensor.untyped_storage()._cdata for tensor in present}
        self.made: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        self.most = max(self.most, self.now)
        return made

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.present and key not in self.made:
            size = storage.nbytes()
            self.now += size
            self.made[key] = weakref.ref(storage, lambda _: self._gone(key, size))

    def _gone(self, key: int, size: int) -> None:
        self.made.pop(key, None)
        self.now -= size


class _Kept:
    """Adds up what autograd keeps for backward: each storage once, parameters not."""

    def __init__(self, params: list[nn.Parameter], made: _Alive):
        self.params = {p.untyped_storage().data_ptr() for p in params}
        self.made = made
        self.sizes: dict[int, int] = {}  # by address: what is kept stays alive until backward

    def hooks(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(self._keep, lambda t: t)

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata in self.made.made:
            self.sizes[storage.data_ptr()] = storage.nbytes()
        elif storage.data_ptr() not in self.params:
            # A batch may be a slice of a whole dataset: then the slice counts, not the storage.
            self.sizes[tensor.data_ptr()] = _bytes([tensor])
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())


def _flop_counter() -> Any:
    """PyTorch's FLOP counter, taught attention on the CPU, which it would count as nothing."""
    from torch.utils import flop_counter as f

    aten = torch.ops.aten
    attention = {
        aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, out_shape=None, **_: (
            f.sdpa_flop_count(*shapes[:3])
        ),
        aten._scaled_dot_product_flash_attention_for_cpu_backward: (
            lambda *shapes, out_shape=None, **_: f.sdpa_backward_flop_count(*shapes[:4])
        ),
    }
    return f.FlopCounterMode(display=False, custom_mapping=attention)


def _by_layer(counter: Any, model: nn.Module) -> dict[str, int]:
    """FLOPs so far of each direct child of the model."""
    counts = counter.get_flop_counts()
    root = type(model).__name__
    names = [name for name, _ in model.named_children()]
    return {name: sum(counts.get(f"{root}.{name}", {}).values()) for name in names}
