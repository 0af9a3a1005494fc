"""Exercises of lesson 06: names for clusters, a budget of labels, the next label to ask for."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kit.course.exercises.lesson_00 import near

LOSS = 0.05  # of right answers: what the budget allows


def named_clusters(
    share: Any, codes: Tensor, centres: Tensor, groups: Tensor, digits: Tensor
) -> str | None:
    """One label per cluster: distances.argmin(0) is the image nearest to each middle."""
    if not isinstance(share, float):
        return f"Give a share from 0 to 1, as a float; the answer is {share!r}."
    nearest = torch.cdist(codes, centres.cpu()).argmin(0)
    if near(share, _right(digits[nearest][groups], digits), within=0.002):
        return None
    commonest = torch.stack([digits[groups == g].mode().values for g in range(len(centres))])
    if near(share, _right(commonest[groups], digits), within=0.002):
        return "That is with each cluster's commonest digit, for which one needs all the labels."
    if near(share, _right(groups, digits), within=0.002):
        return "A cluster's number is no digit. Look up the label of the image nearest its middle."
    if share > 1:
        return "As a share from 0 to 1, not as a percentage or a count."
    return "names = digits[nearest] has one digit per cluster; names[groups] has one per image."


def _right(called: Tensor, digits: Tensor) -> float:
    return float((called == digits).double().mean())


def label_budget(number: Any, labels: list[int], shares: list[float]) -> str | None:
    """The curve ends with all labels. Which of its points is the first less than 0.05 below?"""
    if isinstance(number, bool) or not isinstance(number, int):
        return f"Give a number of labels, one of {labels}; the answer is {number!r}."
    if number not in labels:
        return f"The curve was not measured at {number}; it was at {', '.join(map(str, labels))}."
    enough = [n for n, share in zip(labels, shares, strict=True) if share > shares[-1] - LOSS]
    if number == min(enough):
        return None
    lost = shares[-1] - shares[labels.index(number)]
    if number not in enough:
        return f"With {number} labels {lost:.1%} are lost, which is more than five points."
    return f"With {number} labels {lost:.1%} are lost, but fewer labels are enough, too."


def ask_next(answer: Callable[[Tensor], Any]) -> str | None:
    """Probabilities first: logits.softmax(-1). Then the two largest of each row: topk(2)."""
    if not callable(answer):
        return "Give the function itself, without calling it."
    generator = torch.Generator().manual_seed(6)
    logits = torch.randn(200, 10, generator=generator) * 3
    told = answer(logits)
    if told is None:
        return "It returned nothing: end it with `return`."
    top = logits.softmax(-1).topk(2).values
    margins = top[:, 0] - top[:, 1]
    if int(told) == int(margins.argmin()):
        return None
    if int(told) == int(margins.argmax()):
        return "That is the one that it is surest about: take the smallest difference."
    if int(told) == int(logits.topk(2).values.diff().abs().argmin()):
        return "Differences of logits are not differences of probabilities: softmax first."
    if int(told) == int(top[:, 0].argmin()):
        return "That is where the largest probability is smallest. Compare the two largest."
    return f"It chose image {int(told)}, whose two largest differ by {margins[int(told)]:.3f}."


EXERCISES: dict[str, Callable[..., str | None]] = {
    "06-named-clusters": named_clusters,
    "06-label-budget": label_budget,
    "06-ask-next": ask_next,
}
