"""Two towers: one sums up a person, the other describes each item; where they agree is a match.

Shapes: B batch, H items in a history (0 is padding), I items, d factors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from kit.core.errors import ShapeMismatch
from kit.models.checks import check_sizes, describe


@dataclass(frozen=True)
class TwoTowerConfig:
    """What the towers are made of."""

    items: int = 1_000  # I: numbered from 1
    factors: int = 32  # d: more than the tastes behind the clicks have, so that it learns faster

    def __post_init__(self) -> None:
        check_sizes(self)


class TwoTower(nn.Module):
    """From the items that a person clicked to a score of every item: (B, H) -> (B, I + 1).

    The tower of people averages what it knows of the items clicked; the tower of items is a table,
    which production computes once and searches for each request (candidate generation:
    P. Covington, J. Adams, E. Sargin, "Deep Neural Networks for YouTube Recommendations", 2016).
    """

    def __init__(self, config: TwoTowerConfig | None = None):
        super().__init__()
        self.config = config = config or TwoTowerConfig()
        self.clicked = nn.Embedding(config.items + 1, config.factors, padding_idx=0)
        self.offered = nn.Linear(config.factors, config.items + 1)  # its bias: how popular
        # Small at first, so that all items begin about equal.
        nn.init.normal_(self.clicked.weight, std=config.factors**-0.5)
        nn.init.zeros_(self.clicked.weight[0])

    def forward(self, histories: Tensor) -> Tensor:
        """Scores (B, I + 1) by item number; −inf for what was clicked, and for 0, no item.

        Whoever clicked nothing yet is offered what is popular.
        """
        if histories.ndim != 2 or histories.dtype != torch.int64:
            kind = str(histories.dtype).removeprefix("torch.")
            raise ShapeMismatch(
                f"given histories of shape {tuple(histories.shape)}, {kind}; needed item numbers "
                f"(B, H), int64, filled up by 0."
            )
        counts = (histories > 0).sum(1, keepdim=True)  # (B, 1)
        person = self.clicked(histories).sum(1) / counts.clamp(min=1)  # (B, d); padding adds 0
        scores = self.offered(person)  # (B, I + 1): dot products with every item's vector
        never = pad(histories, (1, 0))  # (B, 1 + H): item 0 too, also where no row is padded
        return scores.scatter(1, never, -torch.inf)

    def __repr__(self) -> str:
        return describe(self, "items", "factors")
