"""A convolutional network over time: the same short filter listens at every moment.

Shapes: B batch, T time steps, F features of one step, D channels of the first layer, C classes.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import max_pool1d, relu

from kit.core.errors import ShapeMismatch
from kit.models.checks import check_sizes, describe

POOLED = 4  # steps that become one, of which the strongest answer stays


@dataclass(frozen=True)
class CNN1dConfig:
    """What a CNN over time is made of."""

    features: int = 32
    filters: int = 48  # D: of the first layer; the second has twice as many
    hidden: int = 64  # units between what was heard and the logits
    classes: int = 10

    def __post_init__(self) -> None:
        check_sizes(self)


class CNN1d(nn.Module):
    """Two convolutions, the strongest answer over time, two linear layers: (B, T, F) -> (B, C)."""

    def __init__(self, config: CNN1dConfig | None = None):
        super().__init__()
        self.config = config = config or CNN1dConfig()
        d = config.filters
        self.near = nn.Conv1d(config.features, d, kernel_size=5, padding=2)
        self.wide = nn.Conv1d(d, 2 * d, kernel_size=5, padding=2)
        self.hidden = nn.Linear(2 * d, config.hidden)
        self.head = nn.Linear(config.hidden, config.classes)

    def forward(self, sequences: Tensor) -> Tensor:
        """Logits (B, C), one per class; T is free, from 4 on."""
        features = self.config.features
        if sequences.ndim != 3 or sequences.shape[1] < POOLED or sequences.shape[2] != features:
            raise ShapeMismatch(
                f"given sequences of shape {tuple(sequences.shape)}; "
                f"needed (B, T, {features}), T of at least {POOLED}."
            )
        x = sequences.transpose(1, 2)  # (B, F, T): Conv1d moves along the last dimension
        x = relu(self.near(x))  # (B, D, T): sounds
        x = max_pool1d(x, POOLED)  # (B, D, T/4): the second layer hears four times as long
        x = relu(self.wide(x))  # (B, 2D, T/4): one sound after another
        x = x.amax(2)  # (B, 2D): whether it was heard, not when
        x = relu(self.hidden(x))  # (B, hidden)
        return self.head(x)  # (B, C)

    def __repr__(self) -> str:
        return describe(self, "filters", "hidden")
