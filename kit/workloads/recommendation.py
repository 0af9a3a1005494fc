"""Work on what people click.

Shapes: N examples, I items.
"""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kit.data import Dataset, load_clicks
from kit.models import TwoTower, TwoTowerConfig
from kit.workloads.workload import Workload

FIRST = 10  # how many items a page shows


def recommendation() -> Workload:
    """Guess what a person clicks next: stands for recommendation, as in streaming and shops.

    Of a hundred left-out clicks, ten items at random hold 1, the ten most popular 8, the ten most
    often clicked together with those of the history 26; one who knows the true tastes holds 40.
    """
    return Workload(
        name="recommendation",
        stands_for="recommendation in streaming and e-commerce",
        differs="a thousand items, two thousand people, clicks generated from eight numbers per "
        "taste; a shop has millions of both, tastes that change, words and pictures of each item, "
        "and a second model that orders what the first has found",
        load=load_clicks,
        models={"two_tower": _two_tower},
        loss=cross_entropy,  # over all items; those clicked have −inf and so no share in it
        score=is_among_first,
        measure="of the left-out clicks among the first ten",
        target=0.31,
        recipe={"epochs": 5, "batch_size": 512, "lr": 1e-2},
    )


def is_among_first(scores: Tensor, targets: Tensor) -> Tensor:
    """(N,) whether the target (N,) is one of the ten largest scores (N, I + 1)."""
    return (scores.topk(FIRST).indices == targets.unsqueeze(1)).any(1)


def _two_tower(data: Dataset) -> nn.Module:
    return TwoTower(TwoTowerConfig(items=len(data.classes) - 1))
