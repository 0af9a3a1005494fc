"""Recommendation: clicks whose truth is known, a model that keeps its promises, and its score.

Shapes: B batch, H items of a history, I items, d factors.
"""

import re
from collections import Counter

import pytest
import torch

from kit.core.errors import ShapeMismatch, UnknownName
from kit.costs.counting import count
from kit.data import Split, load_clicks
from kit.data.clicks import (
    ITEMS,
    MAX_CLICKS,
    MIN_CLICKS,
    PEOPLE,
    draw_clicks,
    true_log_odds,
    true_scores,
)
from kit.inference import evaluate, predict
from kit.models import TwoTower, TwoTowerConfig
from kit.training import train
from kit.workloads import recommendation
from kit.workloads.recommendation import is_in_top_ten

HELD_OUT = ["validation", "test"]


@pytest.fixture(scope="module")
def data():
    return load_clicks()


@pytest.fixture(scope="module")
def clicked():
    return draw_clicks()


def bags(items: torch.Tensor) -> list[frozenset[int]]:
    """The items of each row, without the padding."""
    return [frozenset(row) - {0} for row in items.tolist()]


# --- What was clicked ----------------------------------------------------------------------------


def test_everybody_clicks_some_items_and_none_twice(clicked):
    assert clicked.shape == (PEOPLE, MAX_CLICKS)
    counts = (clicked > 0).sum(1)
    assert (counts.min(), counts.max()) == (MIN_CLICKS, MAX_CLICKS)
    assert counts.sum() == 54_406
    assert [len(bag) for bag in bags(clicked)] == counts.tolist()
    assert clicked.max() == ITEMS
    assert ((clicked > 0).long().diff(dim=1) <= 0).all()  # padding comes last


def test_popularity_follows_zipfs_law_and_tastes_have_their_strength():
    odds = true_log_odds()[:, 1:]
    popularity = odds.mean(0).sort(descending=True).values
    law = -torch.arange(1, ITEMS + 1, dtype=torch.float64).log()
    torch.testing.assert_close(popularity, law, atol=0.4, rtol=0)  # tastes average out, nearly
    assert float(odds.std(0).square().mean().sqrt()) == pytest.approx(3.0, rel=0.05)


def in_first_ten(scores: torch.Tensor, items: torch.Tensor) -> tuple[float, float]:
    """Share of the items among the ten best, and what it should be if the scores are log-odds."""
    expected = scores.softmax(-1).topk(10).values.sum(-1).mean()
    return float(is_in_top_ten(scores, items).double().mean()), float(expected)


def test_the_first_click_follows_the_odds(clicked):
    share, expected = in_first_ten(true_log_odds(), clicked[:, 0])
    assert share == pytest.approx(expected, abs=4 * (0.25 / PEOPLE) ** 0.5)


@pytest.mark.parametrize("split", HELD_OUT)
def test_a_later_click_follows_the_odds_of_what_is_left(split, data):
    """So that the oracle's score is the best possible, but for luck."""
    share, expected = in_first_ten(true_scores(split), data[split].targets)
    assert share == pytest.approx(expected, abs=4 * (0.25 / PEOPLE) ** 0.5)


def test_the_oracle_never_offers_what_was_clicked(data):
    for split in HELD_OUT:
        scores, (inputs, targets) = true_scores(split), data[split]
        assert scores.gather(1, inputs).isneginf().all() and scores[:, 0].isneginf().all()
        assert scores.gather(1, targets.unsqueeze(1)).isfinite().all()


def test_an_oracle_of_other_splits_is_refused():
    with pytest.raises(UnknownName, match=r"'train'.*There are: validation, test"):
        true_scores("train")


# --- Who sees what -------------------------------------------------------------------------------


def test_training_leaves_out_each_click_once_and_knows_no_later_one(data, clicked):
    inputs, targets = data["train"]
    seen = Counter(
        (bag | {target}, target) for bag, target in zip(bags(inputs), targets.tolist(), strict=True)
    )
    past = [frozenset(row[row > 0][:-2].tolist()) for row in clicked]
    assert seen == Counter((bag, item) for bag in past for item in bag)


@pytest.mark.parametrize(("split", "back"), [("validation", 2), ("test", 1)])
def test_the_others_are_asked_for_the_click_after_all_that_they_see(split, back, data, clicked):
    inputs, targets = data[split]
    for row, seen, target in zip(clicked, inputs, targets, strict=True):
        whole = row[row > 0]
        assert target == whole[-back]
        assert torch.equal(seen[seen > 0], whole[:-back])


@pytest.mark.parametrize("split", ["train", *HELD_OUT])
def test_a_target_is_never_in_the_history(split, data):
    inputs, targets = data[split]
    assert not (inputs == targets.unsqueeze(1)).any()
    assert (targets > 0).all()


# --- What is hard to beat ------------------------------------------------------------------------


def counts_of(inputs: torch.Tensor) -> torch.Tensor:
    """(N, I + 1) whether each item is in a history."""
    return torch.zeros(len(inputs), ITEMS + 1).scatter(1, inputs, 1.0).index_fill(1, tensor(0), 0.0)


def tensor(*values):
    return torch.tensor(values)


def popular(data) -> torch.Tensor:
    """Scores: how often an item was clicked in training."""
    often = data["train"].targets.bincount(minlength=ITEMS + 1).double()
    return often.expand(PEOPLE, -1)


def nearest(data) -> torch.Tensor:
    """Scores: the cosines between an item and those clicked, by who clicked them in training."""
    past = counts_of(data["validation"].inputs)
    together = (past.T @ past).fill_diagonal_(0)
    often = past.sum(0).clamp(min=1)
    return counts_of(data["test"].inputs) @ (together / (often.unsqueeze(1) * often).sqrt())


def at_random(data) -> torch.Tensor:
    return torch.rand(PEOPLE, ITEMS + 1, generator=torch.Generator().manual_seed(0))


RIVALS = {
    r"random items (\d+)": at_random,
    r"most popular (\d+)": popular,
    r"with the history (\d+)": nearest,
    r"reaches (\d+)": lambda _: true_scores(),
}


def told(pattern: str) -> float:
    """The share that the workload's docstring tells."""
    return int(re.search(pattern, " ".join(recommendation.__doc__.split()))[1]) / 100


@pytest.mark.parametrize("pattern", RIVALS)
def test_the_workload_tells_what_its_rivals_score(pattern, data):
    inputs, targets = data["test"]
    scores = RIVALS[pattern](data).scatter(1, inputs, -torch.inf)
    scores = scores.index_fill(1, tensor(0), -torch.inf)
    share = float(is_in_top_ten(scores, targets).double().mean())
    assert share == pytest.approx(told(pattern), abs=0.01)


def test_the_target_lies_between_the_best_rival_and_the_truth():
    random, popular, nearest, best = map(told, RIVALS)
    assert random < popular < nearest + 0.03 < recommendation().target < best


# --- The model -----------------------------------------------------------------------------------


@pytest.fixture
def model() -> TwoTower:
    torch.manual_seed(0)
    return TwoTower(TwoTowerConfig(items=20, factors=4))


HISTORY = torch.tensor([[3, 7, 20, 0, 0]])


def test_a_score_is_the_dot_product_of_a_mean_and_an_items_vector(model):
    person = model.history.weight[[3, 7, 20]].mean(0)
    expected = model.items.weight @ person + model.items.bias
    expected[[0, 3, 7, 20]] = -torch.inf
    torch.testing.assert_close(model(HISTORY)[0], expected)


def test_no_item_is_never_offered_even_if_no_place_is_padding(model):
    assert model(HISTORY[:, :3])[0, 0].isneginf()


def test_order_and_padding_of_a_history_do_not_matter(model):
    for same in (HISTORY[:, :3], HISTORY[:, [2, 1, 0]], HISTORY[:, [4, 2, 3, 0, 1]]):
        torch.testing.assert_close(model(same), model(HISTORY))


def test_who_clicked_nothing_is_offered_what_is_popular(model):
    scores = model(torch.zeros(1, 5, dtype=torch.int64))
    assert torch.equal(scores[0, 1:], model.items.bias[1:])


def test_loss_and_gradients_are_finite_although_scores_are_not(model):
    work = recommendation()
    loss = work.loss(model(HISTORY), torch.tensor([5]))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert not model.history.weight.grad[0].any() and not model.history.weight[0].any()


def test_the_loss_of_equal_scores_is_the_logarithm_of_the_items_left(model):
    for p in model.parameters():
        p.data.zero_()
    loss = recommendation().loss(model(HISTORY), torch.tensor([5]))
    assert loss.item() == pytest.approx(torch.tensor(20.0 - 3).log().item())


@pytest.mark.parametrize(
    "wrong", [torch.zeros(5, dtype=torch.int64), torch.zeros(2, 5), torch.zeros(2, 3, 1).long()]
)
def test_what_is_no_history_is_refused(wrong, model):
    with pytest.raises(ShapeMismatch, match=r"given histories of shape .*needed item numbers"):
        model(wrong)


@pytest.mark.parametrize(("b", "items", "d"), [(1, 20, 4), (32, 1_000, 32)])
def test_it_costs_what_it_costs_by_hand(b, items, d):
    h = 6
    histories = torch.arange(1, 1 + h).expand(b, h)
    counted = count(TwoTower(TwoTowerConfig(items=items, factors=d)), histories)
    assert counted.params == (items + 1) * d + (items + 1) * d + (items + 1)
    assert counted.forward_flops == 2 * b * d * (items + 1)  # looking up and averaging is free
    assert counted.backward_flops == 2 * counted.forward_flops
    assert counted.uncounted == ()


# --- The score -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("place", "right"), [(1, True), (10, True), (11, False), (30, False)])
def test_the_first_ten_count(place, right):
    scores = -torch.arange(30.0).unsqueeze(0)
    assert is_in_top_ten(scores, torch.tensor([place - 1])).tolist() == [right]


def test_people_whom_the_training_never_saw_are_served_too(data):
    """Trained on the first half of the people; asked about the other half."""
    work, half = recommendation(), PEOPLE // 2
    people = torch.arange(PEOPLE).repeat_interleave((data["validation"].inputs > 0).sum(1))
    train_inputs, train_targets = data["train"]
    known = people < half
    work = work.with_split("train", Split(train_inputs[known], train_targets[known]))
    work = work.with_split("test", Split(*(part[half:] for part in data["test"])))
    torch.manual_seed(0)
    model = work.model()
    train(model, work, **work.recipe, live=False)
    assert evaluate(model, work).mean.value > 2 * 0.08  # what popularity gets
    inputs, _ = work.data["test"]
    assert predict(model, inputs).gather(1, inputs).isneginf().all()
