"""Exercises of lesson 07: pixels without neighbours, labels that are wrong, and a common scale."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kit.course.exercises.lesson_00 import near

REPLACED, CLASSES = 0.4, 10


def shuffle_pixels(answer: Callable[[Tensor], Any]) -> str | None:
    """One order for all images: order = torch.randperm(64, generator=...), then flat[:, order]."""
    if not callable(answer):
        return "Give the function itself, without calling it."
    images = torch.arange(3 * 64.0).reshape(3, 1, 8, 8)
    shuffled = answer(images)
    if not isinstance(shuffled, Tensor) or shuffled.shape != images.shape:
        return f"It is to return images of the shape it was given, {tuple(images.shape)}."
    if not torch.equal(answer(images), shuffled):
        return "A second call gave another order: train and test would not go together. Seed it."
    flat = shuffled.flatten(1)
    if not torch.equal(flat.sort(1).values, images.flatten(1)):
        return "Some pixels are lost or came from another image: only their places may change."
    if torch.equal(flat, images.flatten(1)):
        return "Nothing was shuffled."
    orders = flat - images.flatten(1)[:, :1]
    if not torch.equal(orders[0], orders[1]):
        return "Each image got an order of its own. Then nothing can be learnt: take one for all."
    return None


def really_wrong(answer: Any) -> str | None:
    """A label that is replaced at random may be replaced by itself: how often?"""
    if not isinstance(answer, float):
        return f"Give a share from 0 to 1, as a float; the answer is {answer!r}."
    if near(answer, REPLACED * (1 - 1 / CLASSES), within=0.005):
        return None
    if near(answer, REPLACED, within=0.005):
        return "That many are replaced. One in ten of them gets the digit that it had."
    if near(answer, REPLACED / CLASSES, within=0.005):
        return "That many are replaced by the digit that they had. The others are wrong."
    return "Of the labels 40 % are replaced; each new one is any of ten digits, equally likely."


def standardise(answer: Callable[[Tensor, Tensor], Any]) -> str | None:
    """Of each feature subtract train.mean(0) and divide by train.std(0): in both splits alike."""
    if not callable(answer):
        return "Give the function itself, without calling it."
    dice = torch.Generator().manual_seed(7)
    scale, shift = torch.tensor([1.0, 100.0, 0.01]), torch.tensor([0.0, 50.0, -1.0])
    train = torch.randn(500, 3, generator=dice) * scale + shift
    other = torch.randn(200, 3, generator=dice) * scale + shift + scale  # it has drifted
    told = answer(train, other)
    if not (isinstance(told, tuple) and len(told) == 2):
        return "It is to return two tensors: train and other, both standardised."
    mean, std = train.mean(0), train.std(0)
    wanted = [(part - mean) / std for part in (train, other)]
    close = [torch.allclose(t, w, atol=0.01) for t, w in zip(told, wanted, strict=True)]
    if torch.allclose(told[1], (other - other.mean(0)) / other.std(0), atol=0.01):
        return "other was put on its own scale: what it means to be large there is then forgotten."
    whole = torch.cat([train, other])
    if torch.allclose(told[0], (train - whole.mean(0)) / whole.std(0), atol=0.01):
        return "The mean of both was taken: what is to be tested must not have been seen."
    if torch.allclose(told[0], (train - train.mean()) / train.std(), atol=0.01):
        return "One mean for all features: take one per feature, mean(0)."
    if not all(close):
        return "Subtract the mean of each feature, then divide by its standard deviation."
    constant = torch.tensor([[1.0, 2.0], [1.0, 4.0]])
    if not all(torch.isfinite(part).all() for part in answer(constant, constant)):
        return "A feature that never varies has a deviation of 0: divide it by 1 instead."
    return None


EXERCISES: dict[str, Callable[..., str | None]] = {
    "07-shuffle-pixels": shuffle_pixels,
    "07-really-wrong": really_wrong,
    "07-standardise": standardise,
}
