"""Exercises of lesson 02: accounting for bytes, FLOPs and time. A docstring is the first hint."""

from collections.abc import Callable, Sequence

import torch

from kit.costs.counting import count
from kit.measurement import compare
from kit.models import MLP, MLPConfig

WEIGHTS = 26_122  # parameters of the default MLP; the tests hold it against the model


def optimizer_bytes(answer: int) -> str | None:
    """AdamW keeps two numbers per parameter. How many parameters, how many bytes each?"""
    wanted = 2 * 4 * WEIGHTS
    if answer == wanted:
        return None
    if answer == wanted // 2:
        return "That is one number per parameter: AdamW keeps the mean and the mean square."
    if answer == 2 * WEIGHTS:
        return "Those are numbers; a float32 number takes 4 bytes."
    return "26,122 parameters × 2 numbers × 4 bytes."


def kept_bytes(answer: int) -> str | None:
    """Each linear layer keeps its input for the backward pass: 64, 128 and 128 numbers each."""
    wanted = 32 * (64 + 128 + 128) * 4
    if answer == wanted:
        return None
    if answer == wanted // 32:
        return "That is one example. The batch has 32."
    if answer == wanted // 4:
        return "Those are numbers; a float32 number takes 4 bytes."
    if answer == 32 * (64 + 128 + 128 + 10) * 4:
        return "The logits are the output: no later layer needs them as its input."
    return "Batch × (64 + 128 + 128) numbers × 4 bytes: ReLU's output is the next layer's input."


def mlp_flops(answer: Callable[[int, Sequence[int]], int]) -> str | None:
    """Write flops(batch, sizes): each layer multiplies (batch, a) by (a, b) for neighbours a, b."""
    if not callable(answer):
        return "Give the function itself, without calling it."
    for batch, hidden, layers in ((1, 128, 2), (32, 16, 1), (7, 50, 3)):
        model = MLP(MLPConfig(hidden=hidden, layers=layers))
        wanted = count(model, torch.zeros(batch, 1, 8, 8)).forward_flops
        given = answer(batch, [64, *[hidden] * layers, 10])
        if given == wanted // 2:
            return "Twice as much: a multiply-add is 2 FLOPs."
        if given != wanted:
            return f"For {layers} hidden layers of {hidden} and batch {batch}: {wanted:,} wanted."
    return None


def cheaper_update(answer: Callable[..., torch.optim.Optimizer]) -> str | None:
    """torch.optim has simpler optimizers, and AdamW a variant that does its update in one go."""
    if not callable(answer):
        return "Give something to call with parameters and lr, such as torch.optim.AdamW itself."

    def update(make: Callable[..., torch.optim.Optimizer]) -> Callable[[], object]:
        model = MLP()
        model(torch.zeros(8, 1, 8, 8)).mean().backward()
        return make(model.parameters(), lr=1e-4).step

    ratio = compare({"AdamW": update(torch.optim.AdamW), "yours": update(answer)}, budget_s=0.5)
    if ratio.ratio().high < 0.8:
        return None
    return f"Your update takes {ratio.ratio()} the time of AdamW's. Try SGD, or AdamW(fused=True)."


EXERCISES: dict[str, Callable[..., str | None]] = {
    "02-optimizer-bytes": optimizer_bytes,
    "02-kept-bytes": kept_bytes,
    "02-mlp-flops": mlp_flops,
    "02-cheaper-update": cheaper_update,
}
