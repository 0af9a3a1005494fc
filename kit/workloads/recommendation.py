"""The workload `recommendation`: predict the next click.

Shapes: N examples, I items.
"""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kit.data import Dataset, load_clicks
from kit.models import TwoTower, TwoTowerConfig
from kit.workloads.workload import Workload

SHOWN = 10  # items on one page


def recommendation() -> Workload:
    """Predict what a person clicks next: stands for recommendation, as in streaming and shops.

    Baselines, as the share of left-out clicks among ten items: random items 1 %, the most popular
    8 %, those most often clicked together with the history 26 %. The best possible recommender,
    which knows the true preferences (`kit.data.clicks.true_scores`), reaches 40 %.
    """
    return Workload(
        name="recommendation",
        stands_for="recommendation in streaming and e-commerce",
        differs="a thousand items, two thousand people, and preferences of eight numbers each; a "
        "shop has millions of both, preferences that change, words and pictures of each item, and "
        "a second model that ranks what the first has found",
        load=load_clicks,
        models={"two_tower": _two_tower},
        loss=cross_entropy,  # over all items; clicked ones have −inf, so they do not count
        score=is_in_top_ten,
        measure="of the left-out clicks among the first ten",
        target=0.31,
        recipe={"epochs": 5, "batch_size": 512, "lr": 1e-2},
    )


def is_in_top_ten(scores: Tensor, targets: Tensor) -> Tensor:
    """(N,) whether the target (N,) is one of the ten largest scores (N, I + 1)."""
    return (scores.topk(SHOWN).indices == targets.unsqueeze(1)).any(1)


def _two_tower(data: Dataset) -> nn.Module:
    return TwoTower(TwoTowerConfig(items=len(data.classes) - 1))
