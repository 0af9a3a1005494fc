"""An autoencoder: it reconstructs an image from a few numbers, and needs no labels.

Shapes: B batch, H height, W width, K numbers of the code.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import relu

from kit.models.checks import check_sizes, describe
from kit.models.cnn import CNN, CNNConfig


@dataclass(frozen=True)
class AutoencoderConfig:
    """The sizes of an autoencoder."""

    code: int = 32  # K: too few to copy all pixels, enough to tell the images apart
    filters: int = 16
    hidden: int = 48
    channels: int = 1
    height: int = 8
    width: int = 8

    def __post_init__(self) -> None:
        check_sizes(self)
        self.encoder()  # which refuses images that are too small

    def encoder(self) -> CNNConfig:
        """The CNN that computes the code: a classifier whose K outputs are not classes."""
        return CNNConfig(
            self.filters, self.hidden, self.channels, self.height, self.width, classes=self.code
        )


class Autoencoder(nn.Module):
    """A CNN that encodes, and a small network that decodes: images -> images of the same shape.

    Hinton & Salakhutdinov, "Reducing the Dimensionality of Data with Neural Networks", 2006.

    >>> import torch
    >>> Autoencoder().encode(torch.rand(5, 1, 8, 8)).shape
    torch.Size([5, 32])
    """

    def __init__(self, config: AutoencoderConfig | None = None):
        super().__init__()
        self.config = config = config or AutoencoderConfig()
        self.encoder = CNN(config.encoder())
        self.decoder = nn.Linear(config.code, 2 * config.hidden)
        self.head = nn.Linear(2 * config.hidden, config.channels * config.height * config.width)

    def encode(self, images: Tensor) -> Tensor:
        """The code of each image: (B, channels, H, W) -> (B, K)."""
        return self.encoder(images)

    def decode(self, code: Tensor) -> Tensor:
        """The image that each code stands for: (B, K) -> (B, channels, H, W), 0 to 1."""
        c = self.config
        x = relu(self.decoder(code))  # (B, 2h)
        # The sigmoid keeps every pixel between 0 (paper) and 1 (ink), as in the data.
        pixels = self.head(x).sigmoid()  # (B, channels·H·W)
        return pixels.unflatten(1, (c.channels, c.height, c.width))

    def forward(self, images: Tensor) -> Tensor:
        """The images, reconstructed from their codes."""
        # The target is the input. It is not trivial because all information has to pass
        # through K numbers: the bottleneck.
        return self.decode(self.encode(images))

    def __repr__(self) -> str:
        return describe(self, "code", "hidden")
