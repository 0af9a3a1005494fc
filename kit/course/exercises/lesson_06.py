"""Exercises of lesson 06: naming clusters, a budget of labels, and the next label to ask for."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kit.core.units import words
from kit.course.exercises.registry import exercise, hint_for_number

LOSS = 0.05  # how much of the accuracy the budget may cost


@exercise("06-named-clusters", needs="share")
def named_clusters(
    share: float, codes: Tensor, centres: Tensor, groups: Tensor, digits: Tensor
) -> str | None:
    """One label per cluster: distances.argmin(0) is the image nearest to each centre."""
    if share > 1:
        return "Give a share from 0 to 1, not a percentage or a count."
    nearest = torch.cdist(codes, centres.cpu()).argmin(0)
    commonest = torch.stack([digits[groups == g].mode().values for g in range(len(centres))])
    mistakes = {
        _accuracy(commonest[groups], digits): (
            "That uses each cluster's commonest digit, and to know it you need all the labels."
        ),
        _accuracy(groups, digits): (
            "A cluster's number is not a digit. Look up the label of the image nearest its centre."
        ),
    }
    hint = "names = digits[nearest] has one digit per cluster; names[groups] has one per image."
    return hint_for_number(share, _accuracy(digits[nearest][groups], digits), mistakes, hint, 0.002)


def _accuracy(named: Tensor, digits: Tensor) -> float:
    return float((named == digits).double().mean())


@exercise("06-label-budget", needs="whole number")
def label_budget(number: int, labels: list[int], shares: list[float]) -> str | None:
    """The curve ends with all labels. Which is its first point less than 0.05 below the end?"""
    if number not in labels:
        return f"The curve was not measured at {number}, only at {', '.join(map(str, labels))}."
    enough = [n for n, share in zip(labels, shares, strict=True) if share > shares[-1] - LOSS]
    if number == min(enough):
        return None
    cost = words(shares[-1] - shares[labels.index(number)], "%")
    if number not in enough:
        return f"{number} labels cost {cost} of the answers, which is more than five points."
    return f"{number} labels cost {cost} of the answers, but fewer labels are also enough."


@exercise("06-ask-next", needs="function")
def ask_next(answer: Callable[[Tensor], Any]) -> str | None:
    """Probabilities first: logits.softmax(-1). Then the two largest of each row: topk(2)."""
    generator = torch.Generator().manual_seed(6)
    logits = torch.randn(200, 10, generator=generator) * 3
    given = answer(logits)
    if given is None:
        return "It returned nothing: end it with `return`."
    chosen = int(given)
    top = logits.softmax(-1).topk(2).values
    margins = top[:, 0] - top[:, 1]
    if chosen == int(margins.argmin()):
        return None
    if chosen == int(margins.argmax()):
        return "That is the image that the model is surest about: take the smallest difference."
    if chosen == int(logits.topk(2).values.diff().abs().argmin()):
        return "Differences of logits are not differences of probabilities: softmax first."
    if chosen == int(top[:, 0].argmin()):
        return "That is where the largest probability is smallest. Compare the two largest."
    return f"It chose image {chosen}, whose two largest differ by {margins[chosen]:.3f}."
