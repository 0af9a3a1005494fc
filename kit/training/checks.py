"""What a training refuses, or warns about, before its first step."""

from __future__ import annotations

from warnings import warn

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue
from kit.data import Task
from kit.inference import device_of, predict
from kit.models.custom import batch_norms, output_tensor
from kit.training.distributed import Processes
from kit.training.recipe import Recipe
from kit.training.recomputation import layers_that_repeat

# Frames between a warning and the call of `kit.train`: warning, context manager, `with`, `train`.
LEVELS_UP = 5


def create_all_weights(model: nn.Module, workload: Task) -> None:
    """Predict one example, so that lazy layers create their weights; refuse what cannot learn.

    The optimizer needs all weights before the first step.
    """
    # One example is enough to create weights.
    inputs, _ = next(iter(workload.batches("train", 1, device_of(model))))
    if not isinstance(inputs, Tensor):
        raise BadValue(
            f"the inputs of {workload.name!r} are a {type(inputs).__name__}; training needs one "
            f"tensor per batch. Join them, and take them apart in the model's forward."
        )
    # `predict` uses evaluation mode: no statistics of BatchNorm move, and dropout draws nothing.
    output_tensor(predict(model, inputs), model)
    check_learns(model)


def check_learns(model: nn.Module) -> None:
    """Refuse a model without a weight that can be trained."""
    weights = list(model.parameters())
    if any(weight.requires_grad for weight in weights):
        return
    reason = f"all {len(weights)} weight tensors are frozen" if weights else "it has no weights"
    advice = " Use model.requires_grad_() to let them learn." if weights else ""
    raise BadValue(f"{type(model).__name__} cannot be trained: {reason}.{advice}")


def check_loss_is_a_mean(
    model: nn.Module, workload: Task, recipe: Recipe, processes: Processes
) -> None:
    """Refuse to cut batches if the loss of a batch is not the mean of its examples' losses.

    Where padding does not count, for example, a short text weighs less than a long one. The mean
    of the parts' losses is then another number than the loss of the batch.
    """
    device = processes.device
    # Eight examples show whether it is a mean; a complete batch would cost time at each start.
    inputs, targets = next(workload.batches("train", min(8, recipe.batch_size), device))
    # Random outputs: those of an untrained model are too much alike to show a difference.
    # A generator of its own, so that this check does not move the training's random numbers.
    generator = torch.Generator().manual_seed(0)
    shape = output_tensor(predict(model, inputs), model).shape
    outputs = (5 * torch.randn(shape, generator=generator)).to(device)
    examples = zip(outputs.split(1), targets.split(1), strict=True)
    mean = torch.stack([workload.loss(*example) for example in examples]).mean()
    # Rounding differs by about 1e-6 here; a sum or another weighting differs by far more.
    if not torch.isclose(mean, workload.loss(outputs, targets), rtol=1e-4):
        parts = f"accumulate={recipe.accumulate}"
        cause = parts if recipe.accumulate > 1 else f"{processes.world_size} processes"
        raise BadValue(
            f"{cause}: the loss of {workload.name!r} is not a mean over examples of equal weight, "
            f"so the parts of a batch do not add up to it. Use accumulate=1 in one process."
        )


def warn_of_batch_norm(model: nn.Module, recipe: Recipe, processes: Processes) -> None:
    """Warn where BatchNorm sees parts of a batch: the update differs from that of the batch."""
    parts = recipe.accumulate * processes.world_size
    if parts > 1 and batch_norms(model):
        warn(
            f"BatchNorm takes its statistics from {recipe.batch_size // parts} examples at a "
            f"time (accumulate={recipe.accumulate}, processes: {processes.world_size}), so this "
            f"is not the update of one batch of {recipe.batch_size}. If that matters, use "
            f"accumulate=1 in one process, or GroupNorm.",
            stacklevel=LEVELS_UP,
        )
    # Each forward pass in training mode moves the running statistics, the repeated one, too.
    if recipe.recompute and any(map(batch_norms, layers_that_repeat(model))):
        warn(
            "recompute=True computes BatchNorm twice per step, so its running statistics move "
            "twice as fast as without it. If that matters, use recompute=False.",
            stacklevel=LEVELS_UP,
        )


def warn_of_zeros(model: nn.Module) -> None:
    """Warn that the zeros of `kit.techniques.zeroed` do not stay by themselves."""
    # `weight_mask` comes from PyTorch's pruning, by which `keep_zeros` works.
    if any(
        getattr(part, "zeroed", None) is True and not hasattr(part, "weight_mask")
        for part in model.modules()
    ):
        warn(
            "training fills the zeros that kit.techniques.zeroed has made. To keep them, train "
            "within `with kit.techniques.keep_zeros(model):`.",
            stacklevel=LEVELS_UP,
        )
