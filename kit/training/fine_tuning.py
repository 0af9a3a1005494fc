"""Fine-tuning the last blocks of a pre-trained encoder on a few labelled texts.

Shapes: N texts, B batch, T positions, d width, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kit.core.checks import check_positive, check_whole
from kit.core.errors import ShapeMismatch
from kit.models.bert import BERT
from kit.models.fine_tuned import LastBlocks
from kit.training.optimizers import adamw
from kit.training.steps import step


def fine_tune(
    encoder: BERT,
    states: Tensor,
    labels: Tensor,
    *,
    head: tuple[Tensor, Tensor],
    blocks: int = 1,
    steps: int = 30,
    batch_size: int = 16,
    lr: float = 3e-5,
    seed: int = 0,
) -> LastBlocks:
    """Copies of the encoder's last blocks and a head, trained together; the encoder stays as it is.

    Parameters
    ----------
    states
        (N, T, d) from `kit.models.fine_tuned.lower_states` with the same number of blocks.
    labels
        (N,) int64, the classes.
    head
        Weight (C, d) and bias (C,) of a linear head that was trained on the frozen encoder.
    blocks
        How many of the last blocks to train.
    steps, batch_size
        Updates, and texts in each. A text may be drawn several times.
    lr
        Small: the blocks are already good, and large steps would undo what they know.

    Raises
    ------
    BadValue, ShapeMismatch
        A number is out of range, or states, labels and head do not fit together.

    Explained in lesson 15.
    """
    steps, batch_size = check_whole("steps", steps), check_whole("batch_size", batch_size)
    if states.ndim != 3 or len(states) != len(labels) or not len(labels):
        raise ShapeMismatch(
            f"given states {tuple(states.shape)} and labels {tuple(labels.shape)}; needed "
            f"(N, T, d) from lower_states(…) and (N,)."
        )
    model = LastBlocks(encoder, blocks, *head).to(states.device).train()
    optimizer = adamw(model.named_parameters(), lr=check_positive("lr", lr))
    random = torch.Generator().manual_seed(seed)
    lengths = states.any(-1).sum(1)  # (N,)
    for _ in range(steps):
        rows = torch.randint(len(labels), (batch_size,), generator=random)
        batch = states[rows, : int(lengths[rows].max())]  # (B, T, d), without needless padding
        step(model, optimizer, batch, labels[rows], cross_entropy)
    return model.eval()
