"""Fine-tuning the last blocks of an encoder: what is below them is computed once for each text.

A text passes through the lower blocks in the same way at each step, because they do not change. So
their outputs are kept, and a training step computes the last blocks only.

Shapes: N texts, B batch, T positions, d width, C classes.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from kit.core.checks import check_whole
from kit.core.errors import ShapeMismatch
from kit.models.bert import BERT, mean_direction


class LastBlocks(nn.Module):
    """Copies of an encoder's last blocks and a new linear head: states (B, T, d) -> logits (B, C).

    The states come from `lower_states`. They are zero where a position is padding.

    Parameters
    ----------
    encoder
        It stays as it is: what is trained here are copies.
    blocks
        How many of its blocks to train, from the last one; 0 trains the head alone.
    weight, bias
        Of a head (C, d) and (C,) that was trained on the vectors of the frozen encoder. From a
        random head, the first steps would spoil the blocks below it (Kumar et al., "Fine-Tuning can
        Distort Pretrained Features and Underperform Out-of-Distribution", 2022).
    """

    def __init__(self, encoder: BERT, blocks: int, weight: Tensor, bias: Tensor):
        super().__init__()
        n = check_whole("blocks", blocks, 0, len(encoder.blocks))
        if weight.shape != (len(bias), encoder.config.d_model):
            raise ShapeMismatch(
                f"given a head of shape {tuple(weight.shape)} and {len(bias)} biases; needed "
                f"(C, {encoder.config.d_model}) and C: a weight for each number of a vector."
            )
        self.blocks = nn.ModuleList(deepcopy(b) for b in encoder.blocks[len(encoder.blocks) - n :])
        self.head = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            self.head.weight.copy_(weight)
            self.head.bias.copy_(bias)

    def forward(self, states: Tensor) -> Tensor:
        """Logits (B, C) of the classes."""
        real = states.any(-1)  # (B, T): a norm's outputs are not all zero
        x = states
        for block in self.blocks:
            x = block(x, real[:, None, None, :])  # (B, T, d)
        return self.head(mean_direction(x, real))  # (B, C)


@torch.no_grad()
def lower_states(encoder: BERT, tokens: Tensor, blocks: int, batch_size: int = 32) -> Tensor:
    """What all but the last `blocks` blocks make of tokens (N, T): (N, T, d), zero at padding.

    Texts are computed with others of the same length, so that little time goes into padding.
    """
    states = torch.zeros(*tokens.shape, encoder.config.d_model, device=tokens.device)
    for rows in (tokens != 0).sum(1).argsort().split(batch_size):
        length = int((tokens[rows] != 0).sum(1).max())
        x, real = encoder.embed(tokens[rows, :length])
        for block in encoder.blocks[: len(encoder.blocks) - blocks]:
            x = block(x, real[:, None, None, :])
        states[rows, :length] = x * real.unsqueeze(-1)
    return states
