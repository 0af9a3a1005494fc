"""A convolutional network: the same small filter looks at every place of an image.

Shapes: B batch, H height, W width, D channels of the first layer, C classes.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from kit.core.errors import BadValue
from kit.models.checks import check_images, check_sizes, describe


@dataclass(frozen=True)
class CNNConfig:
    """What a CNN is made of."""

    filters: int = 16  # D: of the first layer; the second has twice as many
    hidden: int = 48  # units between the last image and the logits
    channels: int = 1
    height: int = 8
    width: int = 8
    classes: int = 10

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.height < 2 or self.width < 2:
            size = f"{self.height}×{self.width}"
            raise BadValue(f"CNNConfig of {size} images: needs at least 2×2, which pooling halves.")


class CNN(nn.Module):
    """Two convolutions and two linear layers: (B, channels, H, W) -> logits (B, C)."""

    def __init__(self, config: CNNConfig | None = None):
        super().__init__()
        self.config = config = config or CNNConfig()
        d = config.filters
        self.near = nn.Conv2d(config.channels, d, kernel_size=3, padding=1)
        self.wide = nn.Conv2d(d, 2 * d, kernel_size=3, padding=1)
        self.hidden = nn.Linear(2 * d * (config.height // 2) * (config.width // 2), config.hidden)
        self.head = nn.Linear(config.hidden, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C), one per class."""
        check_images(images, self.config)
        x = relu(self.near(images))  # (B, D, H, W): edges
        x = relu(self.wide(x))  # (B, 2D, H, W): corners and strokes
        x = max_pool2d(x, 2)  # (B, 2D, H/2, W/2): what is there matters more than exactly where
        x = relu(self.hidden(x.flatten(1)))  # (B, hidden)
        return self.head(x)  # (B, C)

    def __repr__(self) -> str:
        return describe(self, "filters", "hidden")
