"""Clicks of people whose taste is known, so that the best possible recommendation is known too.

Shapes: U people, I items, N examples, H clicks that are seen of one person (padded by 0).
"""

import numpy as np
import torch
from torch import Tensor

from kit.core.errors import UnknownName
from kit.data.dataset import Dataset, Split

SEED = 0
PEOPLE, ITEMS = 2_000, 1_000
FACTORS = 8  # numbers that describe a taste; a model is not told how many
STRENGTH = 3.0  # of taste against popularity: with 0 everybody would click the same items
FEWEST, MOST = 10, 45  # clicks of one person
NOTHING = 0  # item numbers begin at 1: 0 fills the rows
FROM_LAST = {"validation": 2, "test": 1}  # which click is left out there, counted from the last


def load_clicks() -> Dataset:
    """54,406 clicks of 2,000 people on 1,000 items, each example with one click left out.

    Inputs are (N, 44) int64: the numbers, 1 to 1,000, of other items that the same person
    clicked; 0 fills the row. Targets are (N,) int64: the item left out. There is no row per
    person, so people whom the training never saw can be served too.

    Notes
    -----
    Generated. Person u and item i have tastes p and q of 8 normal numbers; the item at place r of
    a popularity list has log-odds

        3 · (p · q) / √8 − ln r

    (Zipf's law). A person clicks 10 to 45 items one after another, each with a probability
    proportional to the odds among the items not clicked yet. All clicks are drawn at once: the
    largest of log-odds plus Gumbel noise, in order, are such a draw without replacement (W. Kool,
    H. van Hoof, M. Welling, "Stochastic Beams and Where to Find Them", 2019).

    Each person's last click is the test's, the one before the validation's; of the clicks before
    these, training leaves out each in turn. So a training row never holds a click of the other
    splits, neither as input nor as target, while validation and test see all that was clicked
    before: recommenders learn from the past and are asked about the next click.

    Seen first in the experiment `train-versus-infer`; `oracle` is the best that anybody can do.
    """
    clicked = choices()
    past = _before(clicked, max(FROM_LAST.values()))
    return Dataset(
        name="clicks",
        splits={
            "train": _each_left_out(past),
            **{name: _last_left_out(clicked, back) for name, back in FROM_LAST.items()},
        },
        classes=("no item", *(f"item {number}" for number in range(1, ITEMS + 1))),
        origin="generated from known tastes and popularity",
        licence="MIT, as the kit",
    )


def preferences() -> Tensor:
    """(U, I + 1) float64 log-odds of each person's click on each item, by item number.

    Column 0 is no item: −inf.
    """
    dice = np.random.default_rng([SEED, 0])
    people, items = dice.normal(size=(PEOPLE, FACTORS)), dice.normal(size=(ITEMS, FACTORS))
    places = dice.permutation(np.arange(1, ITEMS + 1))  # 1: the most popular
    odds = STRENGTH * (people @ items.T) / np.sqrt(FACTORS) - np.log(places)
    return torch.from_numpy(np.pad(odds, ((0, 0), (1, 0)), constant_values=-np.inf))


def choices() -> Tensor:
    """(U, 45) int64: the items that each person clicked, in the order of the clicks, then 0."""
    dice = np.random.default_rng([SEED, 1])
    noisy = preferences().numpy() + dice.gumbel(size=(PEOPLE, ITEMS + 1))
    order = np.argsort(-noisy, axis=1)[:, :MOST]
    counts = dice.integers(FEWEST, MOST, endpoint=True, size=(PEOPLE, 1))
    return torch.from_numpy(np.where(np.arange(MOST) < counts, order, NOTHING))


def oracle(split: str = "test") -> Tensor:
    """(U, I + 1) float64 scores of one who knows each person's true taste; −inf where clicked.

    Its softmax is the true probability of each item to be clicked next. So the share of left-out
    clicks among its ten best is the most that anybody can reach, luck apart.

    Raises
    ------
    UnknownName
        The split is not one of those that leave out each person's next click.
    """
    if split not in FROM_LAST:
        raise UnknownName("split with one example per person", split, FROM_LAST)
    seen = _before(choices(), FROM_LAST[split])
    return preferences().scatter(1, seen, -torch.inf)


def _before(clicked: Tensor, back: int) -> Tensor:
    """(U, 45) the clicks without each person's last ones."""
    counts = (clicked != NOTHING).sum(1, keepdim=True)
    return clicked.where(torch.arange(MOST) < counts - back, NOTHING)


def _last_left_out(clicked: Tensor, back: int) -> Split:
    """One example per person: a click, counted from the last, and those before it."""
    places = (clicked != NOTHING).sum(1, keepdim=True) - back
    return Split(_before(clicked, back)[:, :-1], clicked.gather(1, places).squeeze(1))


def _each_left_out(clicked: Tensor) -> Split:
    """As many examples as clicks: each left out once, the others closed up."""
    people, places = (clicked != NOTHING).nonzero(as_tuple=True)
    rows, places = clicked[people], places.unsqueeze(1)
    others = torch.arange(MOST - 1) + (torch.arange(MOST - 1) >= places)  # all places but one
    return Split(rows.gather(1, others), rows.gather(1, places).squeeze(1))
