"""Exercises of lesson 02: accounting for bytes and FLOPs."""

from collections.abc import Callable, Mapping, Sequence

import torch

from kit.costs.counting import count
from kit.course.exercises.registry import WrongForm, exercise
from kit.models import MLP, MLPConfig

WEIGHTS = 4 * 26_122  # bytes of the default MLP; a test compares these with `kit.count`
LAYERS, LOSS = 32 * (64 + 128 + 128) * 4, 1_540  # kept by the layers and by the loss, batch 32
INPUT = 32 * 64 * 4  # the part of it that the first layer keeps
BYTES = {"weights": WEIGHTS, "gradients": WEIGHTS, "optimizer": 2 * WEIGHTS} | {
    "activations": LAYERS + LOSS
}
ACCOUNTED = {  # what is short of a part, or too much for it -> the likely mistake
    "optimizer": {WEIGHTS: "AdamW keeps two numbers per weight: the two means."},
    "activations": {
        LAYERS: "Add what the loss keeps: 1,540 bytes.",
        LAYERS // 32 + LOSS: "That is one example. The batch has 32.",
        LAYERS - INPUT + LOSS: "The first layer keeps its input, too: the 64 grey values.",
        LAYERS - INPUT: "The first layer keeps its input, too; and add what the loss keeps.",
        LAYERS + 32 * 10 * 4 + LOSS: "No layer takes the logits as its input.",
    },
}


@exercise("02-account")
def account(answer: Mapping[str, int]) -> str | None:
    """Begin with the weights: 26,122 numbers of 4 bytes. Layers keep 64, 128 and 128 inputs."""
    if not isinstance(answer, Mapping) or set(answer) != set(BYTES):
        return WrongForm(f"Give a dictionary with the keys {', '.join(BYTES)}.")
    for name, right in BYTES.items():
        given = answer[name]
        if given == right / 4:
            return f"{name}: those are numbers; a float32 number takes 4 bytes."
        if given != right:
            return f"{name}: " + ACCOUNTED.get(name, {}).get(given, f"{given:,} is not right.")
    return None


@exercise("02-mlp-flops", needs="function")
def mlp_flops(answer: Callable[[int, Sequence[int]], int]) -> str | None:
    """Write flops(batch, sizes): each layer multiplies (batch, a) by (a, b), consecutive sizes."""
    for batch, hidden, layers in ((1, 128, 2), (32, 16, 1), (7, 50, 3)):
        model = MLP(MLPConfig(hidden=hidden, layers=layers))
        wanted = count(model, torch.zeros(batch, 1, 8, 8)).forward_flops
        sizes = [64, *[hidden] * layers, 10]
        given = answer(batch, sizes)
        if given == wanted // 2:
            return "It should be twice as much: a multiply-add is 2 FLOPs."
        if given != wanted:
            return f"flops({batch}, {sizes}) should give {wanted:,} FLOPs; yours gives {given!r}."
    return None
