"""A policy: from what is the case to what to do about it.

Shapes: B batch, F numbers of a state, H hidden units, A actions.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from kit.core.errors import ShapeMismatch
from kit.models.checks import check_sizes, describe


@dataclass(frozen=True)
class PolicyConfig:
    """What a policy is made of."""

    features: int = 4  # F: what is sensed
    hidden: int = 16  # few, so that it fits the smallest computer that could drive
    actions: int = 2

    def __post_init__(self) -> None:
        check_sizes(self)


class Policy(nn.Module):
    """One hidden layer between a state and a choice: (B, F) -> logits (B, A).

    It has no memory: the same state always gets the same answer, whatever came before.
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
                f"given states of shape {tuple(states.shape)}; needed (B, {self.config.features})."
            )
        # tanh is bounded: a state far from all that it was shown cannot make it shout
        return self.head(self.hidden(states).tanh())  # (B, A)

    def __repr__(self) -> str:
        return describe(self, "hidden")
