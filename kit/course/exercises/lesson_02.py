"""Exercises of lesson 02: accounting for bytes, FLOPs and time."""

from collections.abc import Callable, Sequence

import torch

from kit.costs.counting import count
from kit.course.exercises.registry import exercise, hint_for_number
from kit.measurement import compare
from kit.models import MLP, MLPConfig

WEIGHTS = 26_122  # parameters of the default MLP; a test compares this with the model
FLOAT32 = "Those are numbers; a float32 number takes 4 bytes."


@exercise("02-optimizer-bytes")
def optimizer_bytes(answer: int) -> str | None:
    """AdamW keeps two numbers per parameter. How many parameters are there, of how many bytes?"""
    mistakes = {
        4 * WEIGHTS: "That is one number per parameter: AdamW keeps the mean and the mean square.",
        2 * WEIGHTS: FLOAT32,
    }
    hint = "26,122 parameters × 2 numbers × 4 bytes."
    return hint_for_number(answer, 2 * 4 * WEIGHTS, mistakes, hint, within=0)


@exercise("02-kept-bytes")
def kept_bytes(answer: int) -> str | None:
    """Each linear layer keeps its input for the backward pass: 64, 128 and 128 numbers each."""
    right = 32 * (64 + 128 + 128) * 4
    mistakes = {
        right / 32: "That is one example. The batch has 32.",
        right / 4: FLOAT32,
        right + 32 * 10 * 4: "The logits are the output: no later layer takes them as its input.",
    }
    hint = "Batch × (64 + 128 + 128) numbers × 4 bytes: ReLU's output is the next layer's input."
    return hint_for_number(answer, right, mistakes, hint, within=0)


@exercise("02-mlp-flops", needs="function")
def mlp_flops(answer: Callable[[int, Sequence[int]], int]) -> str | None:
    """Write flops(batch, sizes): each layer multiplies (batch, a) by (a, b), consecutive sizes."""
    for batch, hidden, layers in ((1, 128, 2), (32, 16, 1), (7, 50, 3)):
        model = MLP(MLPConfig(hidden=hidden, layers=layers))
        wanted = count(model, torch.zeros(batch, 1, 8, 8)).forward_flops
        given = answer(batch, [64, *[hidden] * layers, 10])
        if given == wanted // 2:
            return "It should be twice as much: a multiply-add is 2 FLOPs."
        if given != wanted:
            return f"For {layers} hidden layers of {hidden} and batch {batch}: {wanted:,} wanted."
    return None


@exercise("02-cheaper-update")
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
