"""Exercises of lesson 07: shuffled pixels, wrong labels, and a common scale."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kit.course.exercises.registry import LastHint, exercise, hint_for_number

REPLACED, CLASSES = 0.4, 10


@exercise("07-shuffle-pixels", needs="function")
def shuffle_pixels(answer: Callable[[Tensor], Any]) -> str | None:
    """One order for all images: order = torch.randperm(64, generator=...), then flat[:, order]."""
    images = torch.arange(3 * 64.0).reshape(3, 1, 8, 8)
    shuffled = answer(images)
    if not isinstance(shuffled, Tensor) or shuffled.shape != images.shape:
        return f"It must return images of the shape that it was given, {tuple(images.shape)}."
    if not torch.equal(answer(images), shuffled):
        return (
            "A second call gave another order, so train and test images would not match. Seed it."
        )
    flat = shuffled.flatten(1)
    if not torch.equal(flat.sort(1).values, images.flatten(1)):
        return "Some pixels are lost or came from another image: only their positions may change."
    if torch.equal(flat, images.flatten(1)):
        return "Nothing was shuffled."
    orders = flat - images.flatten(1)[:, :1]
    if not torch.equal(orders[0], orders[1]):
        return "Each image got its own order, so nothing can be learned. Use one order for all."
    return None


@exercise("07-really-wrong", needs="share")
def really_wrong(answer: float) -> str | None:
    """A label that is replaced at random may be replaced by itself: how often?"""
    mistakes = {
        REPLACED: "That many are replaced. One in ten of them gets the digit that it had.",
        REPLACED / CLASSES: "That many are replaced by the digit they had. The others are wrong.",
    }
    hint = "40 % of the labels are replaced; each new label is any of ten digits, equally likely."
    return hint_for_number(answer, REPLACED * (1 - 1 / CLASSES), mistakes, hint, within=0.005)


@exercise("07-standardise", needs="function")
def standardise(answer: Callable[[Tensor, Tensor], Any]) -> str | None:
    """In both splits, subtract train.mean(0) from each feature and divide it by train.std(0)."""
    dice = torch.Generator().manual_seed(7)
    scale, shift = torch.tensor([1.0, 100.0, 0.01]), torch.tensor([0.0, 50.0, -1.0])
    train = torch.randn(500, 3, generator=dice) * scale + shift
    other = torch.randn(200, 3, generator=dice) * scale + shift + scale  # drifted
    given = answer(train, other)
    if not (isinstance(given, tuple) and len(given) == 2):
        return "It must return two tensors: train and other, both standardised."
    mean, std = train.mean(0), train.std(0)
    wanted = [(part - mean) / std for part in (train, other)]
    close = [torch.allclose(g, w, atol=0.01) for g, w in zip(given, wanted, strict=True)]
    if torch.allclose(given[1], (other - other.mean(0)) / other.std(0), atol=0.01):
        return "other was scaled by its own mean and deviation, so its drift is lost. Use train's."
    both = torch.cat([train, other])
    if torch.allclose(given[0], (train - both.mean(0)) / both.std(0), atol=0.01):
        return "That is the mean of both splits: test data must not influence the scale."
    if torch.allclose(given[0], (train - train.mean()) / train.std(), atol=0.01):
        return "That is one mean for all features: take one per feature, mean(0)."
    if not all(close):
        return LastHint("Subtract the mean of each feature, then divide by its deviation.")
    constant = torch.tensor([[1.0, 2.0], [1.0, 4.0]])
    if not all(torch.isfinite(part).all() for part in answer(constant, constant)):
        return "A feature that never varies has a deviation of 0: divide it by 1 instead."
    return None
