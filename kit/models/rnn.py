"""A recurrent network: it reads a sequence step by step and keeps a state of what it has read.

Shapes: B batch, T time steps, F features of one step, h hidden units.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from kit.core.errors import ShapeMismatch
from kit.models.checks import OTHER_DATA, check_sizes, describe


@dataclass(frozen=True)
class RNNConfig:
    """The sizes of an RNN."""

    features: int = 8
    hidden: int = 64  # h: numbers in the state
    layers: int = 1
    outputs: int = 10  # classes, or numbers to forecast

    def __post_init__(self) -> None:
        check_sizes(self)


class RNN(nn.Module):
    """Gated recurrent units and a linear layer: (B, T, F) -> (B, outputs).

    Cho et al., "Learning Phrase Representations using RNN Encoder–Decoder for Statistical
    Machine Translation", 2014. Gates decide which part of the state stays and which is replaced.

    >>> import torch
    >>> RNN()(torch.rand(5, 12, 8)).shape
    torch.Size([5, 10])
    """

    def __init__(self, config: RNNConfig | None = None):
        super().__init__()
        self.config = config = config or RNNConfig()
        self.gru = nn.GRU(config.features, config.hidden, config.layers)
        self.head = nn.Linear(config.hidden, config.outputs)

    def forward(self, sequences: Tensor) -> Tensor:
        """The outputs after the last step: (B, outputs)."""
        if sequences.ndim != 3 or sequences.shape[2] != self.config.features:
            raise ShapeMismatch(
                f"given sequences of shape {tuple(sequences.shape)}; "
                f"needed (B, T, {self.config.features}). {OTHER_DATA}"
            )
        # Time first, and a copy: then the numbers of one step are contiguous in memory.
        in_time = sequences.transpose(0, 1).contiguous()  # (T, B, F)
        # T steps, one after another: unlike attention, none can start before the one before it
        # has ended, in training as in prediction.
        states, _ = self.gru(in_time)  # (T, B, h): the state after each step
        return self.head(states[-1])  # (B, outputs): the last state has seen the whole sequence

    def __repr__(self) -> str:
        return describe(self, "hidden", "layers")
