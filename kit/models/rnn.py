"""A recurrent network: it reads a sequence step by step and keeps a memory of what it read.

Shapes: B batch, T time steps, F features of one step, H hidden units.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from kit.core.errors import ShapeMismatch
from kit.models.checks import check_sizes, describe


@dataclass(frozen=True)
class RNNConfig:
    """What an RNN is made of."""

    features: int = 8
    hidden: int = 64
    layers: int = 1
    outputs: int = 10  # classes, or numbers to forecast

    def __post_init__(self) -> None:
        check_sizes(self)


class RNN(nn.Module):
    """Gated recurrent units and a linear layer: (B, T, F) -> (B, outputs).

    Cho et al., "Learning Phrase Representations using RNN Encoder–Decoder for Statistical
    Machine Translation", 2014: gates decide what of the memory stays and what is written anew.
    """

    def __init__(self, config: RNNConfig | None = None):
        super().__init__()
        self.config = config = config or RNNConfig()
        self.memory = nn.GRU(config.features, config.hidden, config.layers)
        self.head = nn.Linear(config.hidden, config.outputs)

    def forward(self, sequences: Tensor) -> Tensor:
        """What is said after the last step: (B, outputs)."""
        if sequences.ndim != 3 or sequences.shape[2] != self.config.features:
            raise ShapeMismatch(
                f"given sequences of shape {tuple(sequences.shape)}; "
                f"needed (B, T, {self.config.features})."
            )
        in_time = sequences.transpose(0, 1).contiguous()  # (T, B, F): each step lies together
        memories, _ = self.memory(in_time)  # (T, B, H): one after each step
        return self.head(memories[-1])  # the last has seen everything

    def __repr__(self) -> str:
        return describe(self, "hidden", "layers")
