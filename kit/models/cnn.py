"""A convolutional network: it applies the same small filters at every position of an image.

Shapes: B batch, H height, W width, D filters of the first layer, C classes, h hidden units.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import max_pool2d, relu

from kit.core.errors import BadValue
from kit.models.checks import check_images, check_sizes, describe


@dataclass(frozen=True)
class CNNConfig:
    """The sizes of a CNN."""

    filters: int = 16  # D: of the first layer; the second has twice as many
    hidden: int = 48  # h: units between the last image and the logits
    channels: int = 1
    height: int = 8
    width: int = 8
    classes: int = 10

    def __post_init__(self) -> None:
        check_sizes(self)
        if self.height < 2 or self.width < 2:
            raise BadValue(
                f"CNNConfig for images of {self.height}×{self.width}: pooling halves an image, so "
                f"it needs at least 2×2. Use larger images."
            )


class CNN(nn.Module):
    """Two convolutions and two linear layers: (B, channels, H, W) -> logits (B, C).

    LeCun et al., "Gradient-Based Learning Applied to Document Recognition", 1998.

    >>> import torch
    >>> CNN()(torch.rand(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, config: CNNConfig | None = None):
        super().__init__()
        self.config = config = config or CNNConfig()
        d = config.filters
        # padding=1 keeps the image's size with a 3×3 filter.
        self.conv1 = nn.Conv2d(config.channels, d, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(d, 2 * d, kernel_size=3, padding=1)
        # Most weights are here; most of the work is in the convolutions, which reuse theirs.
        self.hidden = nn.Linear(2 * d * (config.height // 2) * (config.width // 2), config.hidden)
        self.head = nn.Linear(config.hidden, config.classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, C), one per class."""
        check_images(images, self.config)
        x = relu(self.conv1(images))  # (B, D, H, W): edges
        x = relu(self.conv2(x))  # (B, 2D, H, W): corners and strokes
        x = max_pool2d(x, 2)  # (B, 2D, H/2, W/2): what is there matters more than exactly where
        x = relu(self.hidden(x.flatten(1)))  # (B, h)
        return self.head(x)  # (B, C)

    def __repr__(self) -> str:
        return describe(self, "filters", "hidden")
