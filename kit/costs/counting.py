"""What a model costs on paper: parameters, bytes and FLOPs. Counted, not timed.

Each result names its counting rule. A multiply-add is 2 FLOPs. Of complex numbers it is 8, since
it consists of four real ones (PyTorch computes a complex convolution as three real ones).
Matmuls, convolutions, recurrent layers and attention are counted by PyTorch's own counter, with
formulas added for what it lacks. Elementwise work, sums, sorting and look-ups are not counted.
The optimizer is the exception, since it does nothing else. AdamW does 14 operations per parameter
(Loshchilov & Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2: 1 decay, 3 first
moment, 4 second, 3 root, 3 update). If an operation does more than elementwise work and has no
formula, the result lists it as not counted.

BatchNorm cannot train on one value per channel. A step with a single example is then counted with
the running statistics, and the result says so.

Attention has two conventions, and results give both:

full       every query meets every key, masked or not: PyTorch's counter, and every number here
           that does not say "causal"
causal     without the pairs that `is_causal=True` skips: nearly half of them

Both count what is computed. A fused operation computes the scores again in the backward pass.
The MFU of PaLM (Chowdhery et al., 2022, appendix B) leaves that out: a few percent of a step.

Only a fused operation reports that it is causal. Where the mask is a tensor, or attention is
written as matmuls (PyTorch's "math" backend does that), both conventions give the same number.

Memory is the sum of what operations create, for as long as it lives. Workspace inside an operation
is not visible. On a CPU it is small, except in LSTMs and in small convolutions of one example.

Bytes moved are a lower bound: each input is read once and each result is written once. A table of
embeddings is read completely:

predict    weights + inputs + outputs
forward    the same, and activations that are saved for the backward pass are written
backward   weights and saved activations are read, gradients are written
optimizer  weights, gradients and two moments are read; weights and moments are written
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.backends import mha
from torch.utils._pytree import tree_map_only

from kit.core.errors import BadValue
from kit.core.results import Result
from kit.core.units import words
from kit.costs.activation_memory import MemoryTracker, SavedTensors, bytes_of
from kit.costs.operation_flops import FlopCounter
from kit.data.arguments import check_model
from kit.inference.prediction import check_arguments
from kit.models.custom import Inputs, call_model, copy_model, short_name, tensors_in, training_copy
from kit.plots import Table, with_doubts

ADAMW_OPERATIONS = 14  # per parameter and step
ADAMW_MOMENTS = 2  # numbers stored per parameter: means of the gradient and of its square
RULE = (
    "a multiply-add is 2 FLOPs; matmuls, convolutions, full attention and AdamW's update "
    "are counted"
)
COMPLEX = "; a multiply-add of complex numbers is four of real ones"
SINGLE_VALUE = "with one value per channel, BatchNorm cannot train: it uses its running statistics"


@dataclass(frozen=True)
class PhaseCost:
    """FLOPs and the least bytes moved in one phase, such as forward or decode."""

    flops: int
    moved_bytes: int

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte: the position on the roofline. None if nothing moves."""
        return self.flops / self.moved_bytes if self.moved_bytes else None


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
    activation_bytes: int  # saved by forward for backward, the batch included
    written_activation_bytes: int  # of these, what forward created: not the batch, not the targets
    input_bytes: int
    output_bytes: int
    predict_working_bytes: int  # peak of what a prediction creates
    step_working_bytes: int  # peak of what a step creates, from forward to update
    forward_flops: int
    backward_flops: int
    masked_forward_flops: int  # the part of forward_flops that a causal mask skips
    masked_backward_flops: int
    layers: dict[str, int] = field(repr=False)  # forward FLOPs by direct child; they add up
    complex_params: int = 0  # trainable ones; an optimizer updates two numbers for each
    uncounted: tuple[str, ...] = ()  # operations with real work but no formula
    single_value: bool = False  # a channel has one value: BatchNorm does not train as it would
    rule: str = RULE

    @property
    def optimizer_flops(self) -> int:
        """Elementwise operations of one AdamW update."""
        return ADAMW_OPERATIONS * (self.trainable_params + self.complex_params)

    @property
    def step_flops(self) -> int:
        """FLOPs of one training step: forward, backward, optimizer."""
        return self.forward_flops + self.backward_flops + self.optimizer_flops

    @property
    def step_moved_bytes(self) -> int:
        """Least bytes moved by one training step."""
        return sum(moved for _, moved in self.step_work)

    @property
    def step_work(self) -> list[tuple[int, int]]:
        """FLOPs and least bytes of forward, backward and optimizer, which run one by one."""
        phases = [self.phases[name] for name in ("forward", "backward", "optimizer")]
        return [(phase.flops, phase.moved_bytes) for phase in phases]

    @property
    def causal_forward_flops(self) -> int:
        """Forward FLOPs in the causal convention: without what a causal mask skips."""
        return self.forward_flops - self.masked_forward_flops

    @property
    def causal_step_flops(self) -> int:
        """FLOPs of one training step in the causal convention."""
        return self.step_flops - self.masked_forward_flops - self.masked_backward_flops

    @property
    def training_bytes(self) -> int:
        """Peak memory of one step: weights, optimizer state, inputs and working memory."""
        return self.weight_bytes + self.optimizer_bytes + self.input_bytes + self.step_working_bytes

    @property
    def inference_bytes(self) -> int:
        """Peak memory of one prediction: weights, inputs and working memory."""
        return self.weight_bytes + self.input_bytes + self.predict_working_bytes

    @property
    def phases(self) -> dict[str, PhaseCost]:
        """FLOPs and least bytes moved, by phase: predict, forward, backward, optimizer."""
        w, g = self.weight_bytes, self.gradient_bytes
        o, a = self.optimizer_bytes, self.activation_bytes
        predict = w + self.input_bytes + self.output_bytes
        trained = g  # trainable weights and their gradients have the same number of bytes
        return {
            "predict": PhaseCost(self.forward_flops, predict),
            "forward": PhaseCost(self.forward_flops, predict + self.written_activation_bytes),
            "backward": PhaseCost(self.backward_flops, w + a + g if trained else 0),
            "optimizer": PhaseCost(self.optimizer_flops, 2 * trained + g + 2 * o),
        }

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a reader should know before believing the count, the most important first."""
        found = [f"not counted: {', '.join(self.uncounted)}"] if self.uncounted else []
        if self.single_value:
            found.append(SINGLE_VALUE)
        if self.masked_forward_flops:
            found.append("attention is counted in full, also the pairs that a causal mask skips")
        return tuple(found)

    def __repr__(self) -> str:
        return (
            f"{self.model}, batch {self.batch_size}: prediction "
            f"{words(self.forward_flops, 'FLOP')}, step {words(self.step_flops, 'FLOP')}; "
            f"{words(self.inference_bytes, 'B')} to predict, "
            f"{words(self.training_bytes, 'B')} to train"
        )

    def table(self) -> Table:
        """Each number for a prediction and for a training step."""

        def row(name: str, infer: float | None, train: float, unit: str) -> tuple[str, ...]:
            return (name, words(infer, unit), words(train, unit))

        predict, causal = self.phases["predict"], self.causal_forward_flops
        masked = self.masked_forward_flops
        rows = [
            row("weights", self.weight_bytes, self.weight_bytes, "B"),
            row("gradients", None, self.gradient_bytes, "B"),
            row("optimizer state", None, self.optimizer_bytes, "B"),
            row("activations saved for backward", None, self.activation_bytes, "B"),
            row("peak memory", self.inference_bytes, self.training_bytes, "B"),
            row("forward", self.forward_flops, self.forward_flops, "FLOP"),
            *([row("forward, causal convention", causal, causal, "FLOP")] if masked else []),
            row("backward", None, self.backward_flops, "FLOP"),
            row("optimizer", None, self.optimizer_flops, "FLOP"),
            row("least bytes moved", predict.moved_bytes, self.step_moved_bytes, "B"),
        ]
        caption = (
            f"{self.model}; a batch of {self.batch_size}. Peak memory includes temporary results."
        )
        details = f"Counting rule: {self.rule}."
        header = ("", "a prediction", "a training step")
        return Table(header, rows, *with_doubts(caption, self.doubts, details))

    def to_dict(self) -> dict[str, Any]:
        """The raw counts."""
        derived = (
            "optimizer_flops",
            "step_flops",
            "causal_forward_flops",
            "causal_step_flops",
            "training_bytes",
            "inference_bytes",
        )
        moved = {f"{name}_moved_bytes": work.moved_bytes for name, work in self.phases.items()}
        return {**asdict(self), **{name: getattr(self, name) for name in derived}, **moved}


def count(model: nn.Module, inputs: Inputs, loss: Callable[[Any], Tensor] | None = None) -> Count:
    """Parameters, bytes and FLOPs of one prediction and one AdamW training step.

    Parameters
    ----------
    model
        Its weights, gradients and mode do not change. Copies of it predict and train, after a
        first forward pass that gives lazy layers their sizes.
    inputs
        One batch, (B, …), on the model's device; a tuple of arguments, or a dict of keyword
        arguments, for models with several. B is the first size of the first tensor.
    loss
        A function from the outputs to a scalar. What it saves for backward is counted too. Its
        matmuls, if any, count as backward, since a prediction needs no loss. None: the mean of
        the outputs (the sum of the means if there are several), which saves nothing.

    Raises
    ------
    BadValue
        If the model or the batch is missing. Also if no loss is given and the outputs hold no
        floating-point tensor.

    Examples
    --------
    >>> from kit.models import MLP, MLPConfig
    >>> count(MLP(MLPConfig(hidden=16, layers=1)), torch.zeros(2, 1, 8, 8)).forward_flops
    4736

    By hand: 2 examples × 2 FLOPs × (64·16 + 16·10) multiply-adds. Explained in lesson 02.
    """
    check_model("kit.count", model, "kit.count(model, inputs)")
    batch_size = _batch_size(inputs)
    check_arguments("kit.count", model, inputs)
    name = short_name(model)
    with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
        # A training step needs no gradient with respect to the inputs, even if the caller does.
        inputs = tree_map_only(
            Tensor, lambda t: t.clone() if t.is_inference() else t.detach(), inputs
        )
        learner, single_value = training_copy(model, inputs)
        server, batch = copy_model(learner).eval(), tensors_in(inputs)
        weights = [*learner.parameters(), *learner.buffers()]
        trained = [p for p in learner.parameters() if p.requires_grad]

        # A prediction: nothing is saved for a backward pass, so results are freed early.
        predicting = MemoryTracker([*server.parameters(), *server.buffers(), *batch])
        # Not inference_mode: it would hide the operations inside a layer.
        with torch.no_grad(), _without_fused_layers(), predicting:
            output_bytes = bytes_of(tensors_in(call_model(server, inputs)))

        # A training step, in the order of `kit.step`. Only memory that it creates is tracked.
        update = _adamw(trained) if trained else None
        moments = tensors_in([*update.state.values()]) if update else []
        training, flops = MemoryTracker([*weights, *moments, *batch]), FlopCounter()
        saved = SavedTensors(weights, training)
        with flops.counter, training:
            with saved.hooks():
                with flops.by_layer(learner) as layers:
                    outputs = call_model(learner, inputs)
                forward, masked_forward = flops.total, flops.masked
                value = loss(outputs) if loss else _mean(outputs)
                del outputs  # as in a training step, which frees them here
            if value.requires_grad:
                value.backward()
            if update:
                update.step()
    return Count(
        model=name,
        batch_size=batch_size,
        params=sum(p.numel() for p in learner.parameters()),
        trainable_params=sum(p.numel() for p in trained),
        weight_bytes=bytes_of(weights),
        gradient_bytes=bytes_of(trained),
        optimizer_bytes=ADAMW_MOMENTS * bytes_of(trained),
        activation_bytes=saved.created_bytes + saved.given_bytes,
        written_activation_bytes=saved.created_bytes,
        input_bytes=bytes_of(batch),
        output_bytes=output_bytes,
        predict_working_bytes=predicting.peak_bytes,
        step_working_bytes=training.peak_bytes,
        forward_flops=forward,
        backward_flops=flops.total - forward,
        masked_forward_flops=masked_forward,
        masked_backward_flops=flops.masked - masked_forward,
        layers=layers,
        complex_params=sum(p.numel() for p in trained if p.is_complex()),
        rule=RULE + (COMPLEX if flops.complex else ""),
        single_value=bool(single_value),
        uncounted=flops.uncounted(training.operations),
    )


def _batch_size(inputs: Inputs) -> int:
    """B: the first dimension of the first tensor that has one."""
    shapes = [tuple(tensor.shape) for tensor in tensors_in(inputs)]
    size = next((shape[0] for shape in shapes if shape), 0)
    if size == 0:
        given = f"of shape {shapes[0]}" if len(shapes) == 1 else f"with shapes {shapes}"
        raise BadValue(f"inputs {given}: needs a batch of at least 1. Give kit.count one batch.")
    return size


def _mean(outputs: Any) -> Tensor:
    """The sum of the means of all outputs that can have a gradient; complex ones as two parts."""
    numbers = [torch.view_as_real(t) if t.is_complex() else t for t in tensors_in(outputs)]
    means = [t.mean() for t in numbers if t.is_floating_point()]
    if not means:
        kind = type(outputs).__name__
        raise BadValue(
            f"outputs ({kind}) hold no floating-point tensor, so they have no mean to "
            f"differentiate: give count a loss."
        )
    return means[0] if len(means) == 1 else torch.stack(means).sum()


def _adamw(params: list[nn.Parameter]) -> torch.optim.AdamW:
    """AdamW as in the middle of a training: its moments exist, gradients do not."""
    optimizer = torch.optim.AdamW(params, lr=0.0)
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


@contextmanager
def _without_fused_layers() -> Iterator[None]:
    """Disables the fused Transformer layer: as one operation it would hide its matmuls."""
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)
