"""A convolutional network over time: it applies the same short filters at every time step.

Shapes: B batch, T time steps, F features of one step, D filters of the first layer, C classes,
h hidden units.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import max_pool1d, relu

from kit.core.errors import ShapeMismatch
from kit.models.checks import OTHER_DATA, check_sizes, describe

POOLED = 4  # time steps that pooling turns into one, by their maximum


@dataclass(frozen=True)
class CNN1dConfig:
    """The sizes of a CNN over time."""

    features: int = 32
    filters: int = 48  # D: of the first layer; the second has twice as many
    hidden: int = 64  # h: units between the pooled sequence and the logits
    classes: int = 10

    def __post_init__(self) -> None:
        check_sizes(self)


class CNN1d(nn.Module):
    """Two convolutions, the maximum over time, two linear layers: (B, T, F) -> logits (B, C).

    >>> import torch
    >>> CNN1d()(torch.rand(5, 64, 32)).shape
    torch.Size([5, 10])
    """

    def __init__(self, config: CNN1dConfig | None = None):
        super().__init__()
        self.config = config = config or CNN1dConfig()
        d = config.filters
        self.conv1 = nn.Conv1d(config.features, d, kernel_size=5, padding=2)
        self.conv2 = nn.Conv1d(d, 2 * d, kernel_size=5, padding=2)
        self.hidden = nn.Linear(2 * d, config.hidden)
        self.head = nn.Linear(config.hidden, config.classes)

    def forward(self, sequences: Tensor) -> Tensor:
        """Logits (B, C), one per class; T may be any number from 4 up."""
        features = self.config.features
        if sequences.ndim != 3 or sequences.shape[1] < POOLED or sequences.shape[2] != features:
            raise ShapeMismatch(
                f"given sequences of shape {tuple(sequences.shape)}; "
                f"needed (B, T, {features}), T of at least {POOLED}. {OTHER_DATA}"
            )
        x = sequences.transpose(1, 2)  # (B, F, T): Conv1d moves along the last dimension
        x = relu(self.conv1(x))  # (B, D, T): single sounds
        x = max_pool1d(x, POOLED)  # (B, D, T/4): a filter of the second layer spans 4 × as long
        x = relu(self.conv2(x))  # (B, 2D, T/4): one sound after another
        # The maximum over time asks whether something was heard, not when. It also makes the
        # number of weights independent of T.
        x = x.amax(2)  # (B, 2D)
        x = relu(self.hidden(x))  # (B, h)
        return self.head(x)  # (B, C)

    def __repr__(self) -> str:
        return describe(self, "filters", "hidden")
