"""What a model costs on paper: parameters, bytes and FLOPs, counted, not timed.

The rule, named in each result: a multiply-add is 2 FLOPs, and of complex numbers 8, since it is
four of real ones (a complex convolution shows as the three real ones that PyTorch makes of it).
BatchNorm cannot train on one value per channel; a step with a single example then counts it as it
predicts, and the result says so. Matmuls, convolutions, recurrent
layers and attention are counted (by PyTorch's own counter, taught what it lacks). Elementwise
work, sums, sorting and look-ups are not, except the optimizer's, which is nothing else: AdamW
does 14 operations per parameter (Loshchilov & Hutter, "Decoupled Weight Decay Regularization",
2019, algorithm 2: 1 decay, 3 first moment, 4 second, 3 root, 3 update). An operation that does
more than elementwise work, and has no formula, is named in the result as not counted.

Attention has two conventions, and both are given:

full       every query meets every key, masked or not: PyTorch's counter, and every number here
           that does not say "causal"
causal     without the pairs that `is_causal=True` throws away: nearly half of them

Both count what is computed. A fused operation computes the scores again in the backward pass;
the MFU of PaLM (Chowdhery et al., 2022, appendix B) leaves that out, a few percent of a step.

Only a fused operation says that it is causal. Where the mask is a tensor, or attention is
written out as matmuls (PyTorch's "math" backend does that), the two conventions give the same.

Memory is what operations make, added up as long as it lives. What an operation needs only
inside itself (workspace) is not seen: on a CPU that is little, but for its LSTM, and for small
convolutions of a single example.

Bytes moved are the least that must cross memory if everything needed were read once and
everything made were written once; a table of embeddings is read whole:

predict    weights + inputs + outputs
forward    the same, and what is made and kept for backward is written
backward   weights and what was kept are read, gradients are written
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
from kit.costs.activation_memory import Kept, Watch, bytes_of
from kit.costs.operation_flops import Flops
from kit.data.arguments import check_model
from kit.models.custom import Inputs, call_model, copy_model, short_name, tensors_in, training_copy
from kit.plots import Table

ADAMW_OPERATIONS = 14  # per parameter and step
ADAMW_MOMENTS = 2  # numbers kept per parameter: means of the gradient and of its square
RULE = (
    "a multiply-add is 2 FLOPs; matmuls, convolutions, full attention and AdamW's update "
    "are counted"
)
COMPLEX = "; a multiply-add of complex numbers is four of real ones"
LONELY = "; with one value per channel, BatchNorm cannot train: it uses its running statistics"


@dataclass(frozen=True)
class Work:
    """FLOPs and least bytes moved of one phase."""

    flops: int
    moved_bytes: int

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte: where on the roofline the phase lies; None if nothing moves."""
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
    activation_bytes: int  # kept from forward for backward, the batch itself included
    written_activation_bytes: int  # of these, what forward made: not the batch, not the targets
    input_bytes: int
    output_bytes: int
    predict_working_bytes: int  # most alive at once of what a prediction makes
    step_working_bytes: int  # most alive at once of what a step makes, from forward to update
    forward_flops: int
    backward_flops: int
    masked_forward_flops: int  # of the forward ones, what a causal mask throws away
    masked_backward_flops: int
    layers: dict[str, int] = field(repr=False)  # forward FLOPs by direct child; the sum is all
    complex_params: int = 0  # of the trainable ones: two numbers each to an optimizer
    uncounted: tuple[str, ...] = ()  # operations that work hard and have no formula
    rule: str = RULE

    @property
    def optimizer_flops(self) -> int:
        """Elementwise operations of one AdamW update."""
        return ADAMW_OPERATIONS * (self.trainable_params + self.complex_params)

    @property
    def step_flops(self) -> int:
        """One training step: forward, backward, optimizer."""
        return self.forward_flops + self.backward_flops + self.optimizer_flops

    @property
    def causal_forward_flops(self) -> int:
        """Forward in the causal convention: without what a causal mask throws away."""
        return self.forward_flops - self.masked_forward_flops

    @property
    def causal_step_flops(self) -> int:
        """One training step in the causal convention."""
        return self.step_flops - self.masked_forward_flops - self.masked_backward_flops

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
        trained = g  # bytes of the weights that are not frozen: as many as of their gradients
        return {
            "predict": Work(self.forward_flops, predict),
            "forward": Work(self.forward_flops, predict + self.written_activation_bytes),
            "backward": Work(self.backward_flops, w + a + g if trained else 0),
            "optimizer": Work(self.optimizer_flops, 2 * trained + g + 2 * o),
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

        p, causal, masked = self.phases, self.causal_forward_flops, self.masked_forward_flops
        rows = [
            row("weights", self.weight_bytes, self.weight_bytes, "B"),
            row("gradients", None, self.gradient_bytes, "B"),
            row("optimizer state", None, self.optimizer_bytes, "B"),
            row("activations kept for backward", None, self.activation_bytes, "B"),
            row("memory at its fullest", self.inference_bytes, self.training_bytes, "B"),
            row("forward", self.forward_flops, self.forward_flops, "FLOP"),
            *([row("forward, causal convention", causal, causal, "FLOP")] if masked else []),
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
        if masked:
            caption += (
                " Full attention: every query with every key; the causal convention leaves out "
                "the pairs that a causal mask throws away."
            )
        if self.uncounted:
            caption += f" Not counted: {', '.join(self.uncounted)}."
        return Table(("", "a prediction", "a training step"), rows, caption)

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
    """What one prediction and one AdamW training step of the model cost on these inputs.

    Parameters
    ----------
    model
        Left as it is: weights, gradients and mode. Copies of it predict and train, after a first
        forward pass, in which lazy layers get their sizes and tables are made that are kept.
    inputs
        One batch, (B, …), on the model's device; a tuple of arguments, or a dict of keyword
        arguments, for models with several. B is the first size of the first tensor.
    loss
        From the outputs, as they come, to a scalar. What it keeps for backward is counted too; its
        matmuls, if it has any, with backward: a prediction needs no loss. None: the mean of the
        outputs (the sum of the means of several), which keeps nothing.

    Raises
    ------
    BadValue
        Without a model or a batch; without a loss for outputs that hold no floating-point tensor.

    Examples
    --------
    >>> from kit.models import MLP, MLPConfig
    >>> count(MLP(MLPConfig(hidden=16, layers=1)), torch.zeros(2, 1, 8, 8)).forward_flops
    4736

    By hand: 2 examples × 2 FLOPs × (64·16 + 16·10) multiply-adds. Explained in lesson 02.
    """
    check_model("kit.count", model, "kit.count(model, inputs)")
    batch_size = _batch_size(inputs)
    name = short_name(model)
    with torch.random.fork_rng(), torch.inference_mode(False), torch.enable_grad():
        # A gradient with respect to the inputs is no part of a step, even if the caller wants one.
        inputs = tree_map_only(
            Tensor, lambda t: t.clone() if t.is_inference() else t.detach(), inputs
        )
        learner, lonely = training_copy(model, inputs)
        server, batch = copy_model(learner).eval(), tensors_in(inputs)
        weights = [*learner.parameters(), *learner.buffers()]
        trained = [p for p in learner.parameters() if p.requires_grad]

        predicting = Watch([*server.parameters(), *server.buffers(), *batch])
        with torch.no_grad(), _in_parts(), predicting:  # inference_mode would show whole layers
            output_bytes = bytes_of(tensors_in(call_model(server, inputs)))

        update = _adamw(trained) if trained else None
        moments = tensors_in([*update.state.values()]) if update else []
        training, flops = Watch([*weights, *moments, *batch]), Flops()
        kept = Kept(weights, training)
        with flops.counter, training:
            with kept.hooks():
                with flops.by_layer(learner) as layers:
                    outputs = call_model(learner, inputs)
                forward, masked_forward = flops.total, flops.masked
                value = loss(outputs) if loss else _mean(outputs)
                del outputs  # as in a training step, where nobody holds on to them
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
        activation_bytes=kept.made_bytes + kept.given_bytes,
        written_activation_bytes=kept.made_bytes,
        input_bytes=bytes_of(batch),
        output_bytes=output_bytes,
        predict_working_bytes=predicting.most,
        step_working_bytes=training.most,
        forward_flops=forward,
        backward_flops=flops.total - forward,
        masked_forward_flops=masked_forward,
        masked_backward_flops=flops.masked - masked_forward,
        layers=layers,
        complex_params=sum(p.numel() for p in trained if p.is_complex()),
        rule=RULE + (COMPLEX if flops.complex else "") + (LONELY if lonely else ""),
        uncounted=flops.uncounted(training.operations),
    )


def _batch_size(inputs: Inputs) -> int:
    """B: the first size of the first tensor that has one."""
    shapes = [tuple(tensor.shape) for tensor in tensors_in(inputs)]
    size = next((shape[0] for shape in shapes if shape), 0)
    if size == 0:
        told = f"of shape {shapes[0]}" if len(shapes) == 1 else f"with shapes {shapes}"
        raise BadValue(f"inputs {told}: needs a batch of at least 1.")
    return size


def _mean(outputs: Any) -> Tensor:
    """The sum of the means of all that can have a gradient; of complex numbers, of both parts."""
    numbers = [torch.view_as_real(t) if t.is_complex() else t for t in tensors_in(outputs)]
    means = [t.mean() for t in numbers if t.is_floating_point()]
    if not means:
        kind = type(outputs).__name__
        raise BadValue(f"outputs ({kind}) hold no floating-point tensor: give count a loss.")
    return means[0] if len(means) == 1 else torch.stack(means).sum()


def _adamw(params: list[nn.Parameter]) -> torch.optim.AdamW:
    """AdamW as it is in the middle of a training: its moments are there, gradients are not."""
    optimizer = torch.optim.AdamW(params, lr=0.0)
    for p in params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


@contextmanager
def _in_parts() -> Iterator[None]:
    """Transformer layers predict in parts: as one operation they show nothing of the inside."""
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)
