"""Clicks of people whose preferences are known, so the best possible recommender is known, too.

Shapes: U people, I items, N examples, H clicks in a row (padded with 0).
"""

import numpy as np
import torch
from torch import Tensor

from kit.core.errors import UnknownName
from kit.data.dataset import Dataset, Split

SEED = 0
PEOPLE, ITEMS = 2_000, 1_000
FACTORS = 8  # numbers that describe a preference; a model does not know how many
PREFERENCE_WEIGHT = 3.0  # against popularity; with 0, everybody would click the same items
MIN_CLICKS, MAX_CLICKS = 10, 45  # clicks of one person
PADDING = 0  # fills the rows; item numbers begin at 1
FROM_LAST = {"validation": 2, "test": 1}  # the click that is left out there, counted from the end


def load_clicks() -> Dataset:
    """54,406 clicks of 2,000 people on 1,000 items, each example with one click left out.

    Inputs are (N, 44) int64: the numbers, 1 to 1,000, of other items that the same person
    clicked, padded with 0. Targets are (N,) int64: the item left out. The person is not an input,
    so a model can serve people who were not in the training data.

    Notes
    -----
    Generated. Person u and item i have preferences p and q of 8 normal numbers. The item of rank
    r in popularity has the log-odds

        3 · (p · q) / √8 − ln r

    (Zipf's law). A person clicks 10 to 45 items one after another, each with a probability
    proportional to the odds of the items not clicked yet. All clicks are drawn at once: the
    largest values of log-odds plus Gumbel noise, in order, are such a draw without replacement
    (W. Kool, H. van Hoof, M. Welling, "Stochastic Beams and Where to Find Them", 2019).

    The last click of each person is in the test split, the one before in validation. Of the
    earlier clicks, training leaves out each in turn. So a training row never has a click of the
    other splits, neither as input nor as target. Validation and test see all earlier clicks:
    recommenders learn from the past and predict the next click.

    Seen first in the experiment `train-versus-infer`. No recommender can beat `true_scores`.
    """
    clicked = draw_clicks()
    past = _without_last(clicked, max(FROM_LAST.values()))
    return Dataset(
        name="clicks",
        splits={
            "train": _each_left_out(past),
            **{name: _last_left_out(clicked, back) for name, back in FROM_LAST.items()},
        },
        classes=("no item", *(f"item {number}" for number in range(1, ITEMS + 1))),
        origin="generated from known preferences and popularity",
        licence="MIT, as the kit",
    )


def true_log_odds() -> Tensor:
    """(U, I + 1) float64 log-odds of each person's click on each item, by item number.

    Column 0 is −inf: items are numbered from 1.
    """
    generator = np.random.default_rng([SEED, 0])
    people = generator.normal(size=(PEOPLE, FACTORS))
    items = generator.normal(size=(ITEMS, FACTORS))
    ranks = generator.permutation(np.arange(1, ITEMS + 1))  # 1: the most popular
    odds = PREFERENCE_WEIGHT * (people @ items.T) / np.sqrt(FACTORS) - np.log(ranks)
    return torch.from_numpy(np.pad(odds, ((0, 0), (1, 0)), constant_values=-np.inf))


def draw_clicks() -> Tensor:
    """(U, 45) int64: the items that each person clicked, in the order of the clicks, then 0."""
    generator = np.random.default_rng([SEED, 1])
    noisy = true_log_odds().numpy() + generator.gumbel(size=(PEOPLE, ITEMS + 1))
    order = np.argsort(-noisy, axis=1)[:, :MAX_CLICKS]
    counts = generator.integers(MIN_CLICKS, MAX_CLICKS, endpoint=True, size=(PEOPLE, 1))
    return torch.from_numpy(np.where(np.arange(MAX_CLICKS) < counts, order, PADDING))


def true_scores(split: str = "test") -> Tensor:
    """(U, I + 1) float64 scores from each person's true preferences; −inf for clicked items.

    The softmax of a row is the true probability that each item is clicked next. So no recommender
    can have a larger share of left-out clicks among its ten best, except by luck.

    Raises
    ------
    UnknownName
        The split is not one of those that leave out each person's next click.
    """
    if split not in FROM_LAST:
        raise UnknownName("split with one example per person", split, FROM_LAST)
    seen = _without_last(draw_clicks(), FROM_LAST[split])
    return true_log_odds().scatter(1, seen, -torch.inf)


def _without_last(clicked: Tensor, back: int) -> Tensor:
    """(U, 45) the clicks of each person without the last `back` ones."""
    counts = (clicked != PADDING).sum(1, keepdim=True)
    return clicked.where(torch.arange(MAX_CLICKS) < counts - back, PADDING)


def _last_left_out(clicked: Tensor, back: int) -> Split:
    """One example per person: the click at `back` from the end, and those before it."""
    index = (clicked != PADDING).sum(1, keepdim=True) - back
    return Split(_without_last(clicked, back)[:, :-1], clicked.gather(1, index).squeeze(1))


def _each_left_out(clicked: Tensor) -> Split:
    """One example per click: that click as the target, the person's other clicks as inputs."""
    people, left_out = (clicked != PADDING).nonzero(as_tuple=True)
    rows, left_out = clicked[people], left_out.unsqueeze(1)
    columns = torch.arange(MAX_CLICKS - 1)
    others = columns + (columns >= left_out)  # every column but the one left out
    return Split(rows.gather(1, others), rows.gather(1, left_out).squeeze(1))
