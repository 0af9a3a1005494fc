"""A policy: it maps the state of a system to the next action.

Shapes: B batch, F numbers of a state, h hidden units, A actions.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from kit.core.errors import ShapeMismatch
from kit.models.checks import OTHER_DATA, check_sizes, describe


@dataclass(frozen=True)
class PolicyConfig:
    """The sizes of a policy."""

    features: int = 4  # F: what is measured
    hidden: int = 16  # h: few, so that it fits the smallest computer that could steer
    actions: int = 2  # A

    def __post_init__(self) -> None:
        check_sizes(self)


class Policy(nn.Module):
    """One hidden layer between state and action: (B, F) -> logits (B, A).

    It has no memory: the same state always gets the same answer, whatever came before.

    >>> import torch
    >>> Policy()(torch.rand(5, 4)).shape
    torch.Size([5, 2])
    """

    def __init__(self, config: PolicyConfig | None = None):
        super().__init__()
        self.config = config = config or PolicyConfig()
        self.hidden = nn.Linear(config.features, config.hidden)
        self.head = nn.Linear(config.hidden, config.actions)

    def forward(self, states: Tensor) -> Tensor:
        """Logits (B, A), one per action."""
        if states.ndim != 2 or states.shape[1] != self.config.features:
            raise ShapeMismatch(
                f"given states of shape {tuple(states.shape)}; "
                f"needed (B, {self.config.features}). {OTHER_DATA}"
            )
        # tanh is bounded: a state far from all training states cannot give extreme logits.
        x = self.hidden(states).tanh()  # (B, h)
        return self.head(x)  # (B, A)

    def __repr__(self) -> str:
        return describe(self, "hidden")
