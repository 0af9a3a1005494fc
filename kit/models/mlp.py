"""A multilayer perceptron (MLP): each output of a layer depends on every input of that layer.

Shapes: B batch, F features of one example, h hidden units, C classes.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from kit.core.errors import ShapeMismatch
from kit.models.checks import OTHER_DATA, check_sizes, describe


@dataclass(frozen=True)
class MLPConfig:
    """The sizes of an MLP."""

    hidden: int = 128  # h: units per hidden layer; the work grows with its square
    layers: int = 2  # hidden layers
    features: int = 64  # F: numbers in one example, whatever its shape
    classes: int = 10

    def __post_init__(self) -> None:
        check_sizes(self)


class MLP(nn.Module):
    """A multilayer perceptron for examples of any shape: (B, …) -> logits (B, C).

    >>> import torch
    >>> MLP()(torch.rand(5, 1, 8, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, config: MLPConfig | None = None):
        super().__init__()
        self.config = config = config or MLPConfig()
        sizes = [config.features] + [config.hidden] * config.layers
        hidden: list[nn.Module] = []
        for before, after in pairwise(sizes):
            # Without the ReLU between them, two linear layers would compute no more than one.
            hidden += [nn.Linear(before, after), nn.ReLU()]
        self.hidden = nn.Sequential(*hidden)
        self.head = nn.Linear(sizes[-1], config.classes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits (B, C), one per class."""
        numbers = inputs.shape[1:].numel() if inputs.ndim > 1 else 1  # in one example
        if inputs.ndim < 2 or numbers != self.config.features:
            single = inputs.ndim == 1
            hint = "Use inputs.unsqueeze(0) for a single example." if single else OTHER_DATA
            raise ShapeMismatch(
                f"given inputs of shape {tuple(inputs.shape)}, {numbers:,} numbers per "
                f"example; needed {self.config.features:,}. {hint}"
            )
        x = inputs.flatten(1)  # (B, F): an MLP does not know which pixels are neighbours
        x = self.hidden(x)  # (B, h)
        # No softmax: `cross_entropy` takes logits and is more accurate when it does both.
        return self.head(x)  # (B, C)

    def __repr__(self) -> str:
        return describe(self, "hidden", "layers")
