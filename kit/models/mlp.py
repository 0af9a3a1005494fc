"""A multilayer perceptron: every output of a layer sees every input of it.

Shapes: B batch, F features of one example, H hidden units, C classes.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from kit.models.checks import describe, image_shape, positive


@dataclass(frozen=True)
class MLPConfig:
    """What an MLP is made of."""

    hidden: int = 128  # units per hidden layer; the work grows with its square
    layers: int = 2  # hidden layers
    channels: int = 1
    height: int = 8
    width: int = 8
    classes: int = 10

    def __post_init__(self) -> None:
        positive(self)


class MLP(nn.Module):
    """A multilayer perceptron for images: (B, channels, height, width) -> logits (B, C)."""

    def __init__(self, config: MLPConfig | None = None):
        super().__init__()
        self.config = config = config or MLPConfig()
        features = config.channels * config.height * config.width
        sizes = [features] + [config.hidden] * config.layers
        hidden: list[nn.Module] = []
        for before, after in pairwise(sizes):
            hidden += [nn.Linear(before, after), nn.ReLU()]
        self.hidden = nn.Sequential(*hidden)
        self.head = nn.Linear(sizes[-1], config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C), one per class."""
        image_shape(images, self.config)
        x = images.flatten(1)  # (B, F): an MLP does not know which pixels are neighbours
        x = self.hidden(x)  # (B, H)
        return self.head(x)  # (B, C)

    def __repr__(self) -> str:
        return describe(self, "hidden", "layers")
