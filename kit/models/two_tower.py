"""Two towers: one describes a person, the other each item; their dot product is the score.

Shapes: B batch, T items in a history (0 is padding), I items, d factors.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from kit.core.errors import ShapeMismatch
from kit.models.checks import check_sizes, describe


@dataclass(frozen=True)
class TwoTowerConfig:
    """The sizes of the towers."""

    items: int = 1_000  # I: numbered from 1
    factors: int = 32  # d: more than the 8 factors behind the clicks, so that it learns faster

    def __post_init__(self) -> None:
        check_sizes(self)


class TwoTower(nn.Module):
    """From the items that a person clicked to a score of every item: (B, T) -> (B, I + 1).

    The tower for people averages the embeddings of the clicked items. The tower for items is a
    table, which production computes once and searches for each request (candidate generation:
    P. Covington, J. Adams, E. Sargin, "Deep Neural Networks for YouTube Recommendations", 2016).

    >>> TwoTower()(torch.tensor([[3, 7, 0]])).shape
    torch.Size([1, 1001])
    """

    def __init__(self, config: TwoTowerConfig | None = None):
        super().__init__()
        self.config = config = config or TwoTowerConfig()
        # padding_idx: item 0 has an embedding of zeros, which never gets a gradient.
        self.history = nn.Embedding(config.items + 1, config.factors, padding_idx=0)
        self.items = nn.Linear(config.factors, config.items + 1)  # the bias learns popularity
        # Small at first, so that all items begin with about equal scores.
        nn.init.normal_(self.history.weight, std=config.factors**-0.5)
        nn.init.zeros_(self.history.weight[0])

    def forward(self, histories: Tensor) -> Tensor:
        """Scores (B, I + 1) by item number; −inf for clicked items, and for 0, no item.

        A person without clicks gets the popular items: the bias alone.
        """
        if histories.ndim != 2 or histories.dtype != torch.int64:
            kind = str(histories.dtype).removeprefix("torch.")
            raise ShapeMismatch(
                f"given histories of shape {tuple(histories.shape)}, {kind}; needed item numbers "
                f"(B, T), int64, padded with 0. histories[None] makes a batch of one history, "
                f"histories.long() makes int64."
            )
        counts = (histories > 0).sum(1, keepdim=True)  # (B, 1)
        # The mean over the real items: padding adds 0, so it must not be counted either.
        person = self.history(histories).sum(1) / counts.clamp(min=1)  # (B, d)
        scores = self.items(person)  # (B, I + 1): dot products with every item's vector
        # −inf: a clicked item is never recommended again, and has no share in the loss.
        clicked = pad(histories, (1, 0))  # (B, 1 + T): item 0 too, also where no row is padded
        return scores.scatter(1, clicked, -torch.inf)

    def __repr__(self) -> str:
        return describe(self, "items", "factors")
