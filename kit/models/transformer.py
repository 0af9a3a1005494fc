"""A transformer: each place of a sequence looks at the others for what it needs to know.

Shapes: B batch, T places of a sequence, F features of one place, d width (`d_model`), A heads of
attention, each d/A wide.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from kit.core.errors import BadValue, ShapeMismatch
from kit.models.checks import check_sizes, describe
from kit.models.kv_cache import Past

SMALL = 0.02  # spread of fresh embeddings: what a thing is has to be learnt, not unlearnt first


@dataclass(frozen=True)
class TransformerConfig:
    """What a transformer for sequences is made of."""

    features: int = 8
    context: int = 128  # the longest sequence: each place has a vector of its own
    d_model: int = 32
    n_layers: int = 2
    n_heads: int = 2
    outputs: int = 10  # classes, or numbers to forecast

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self)


def check_heads(config: Any) -> None:
    """Refuse a width that the heads cannot share."""
    if config.d_model % config.n_heads:
        told = f"d_model={config.d_model} and n_heads={config.n_heads}"
        raise BadValue(f"{type(config).__name__} of {told}: needs a width that the heads divide.")


class Attention(nn.Module):
    """Each place looks at all (if causal: at none after it): (B, T, d) -> (B, T, d).

    Vaswani et al., "Attention Is All You Need", 2017, section 3.2.
    """

    def __init__(self, d_model: int, n_heads: int, causal: bool):
        super().__init__()
        self.n_heads, self.causal = n_heads, causal
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """What each place found at the others, and at those of the past: (B, T, d)."""
        queries, keys, values = self.ask(x)
        if past is None:
            return self.gather(self.look(queries, keys, values))
        keys, values = past.followed_by(keys, values)  # (B, A, S, d/A): of all places so far
        return self.gather(self.look(queries, keys, values, past.mask))

    def ask(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (what I look for), keys (what I offer), values (what I tell): (B, A, T, d/A)."""
        parts = self.qkv(x).unflatten(-1, (3, self.n_heads, -1))  # (B, T, 3, A, d/A)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        return queries, keys, values

    def look(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """The mean of the values, weighed by how well their keys fit each query: (B, A, T, d/A).

        The mask (T, S) says who may look at whom. Without one, as many queries as keys are the
        same places, and causal if this attention is; a single query behind its past sees all.
        """
        # `is_causal` would lay the first query beside the first key, also where there is a past.
        causal = self.causal and mask is None and queries.shape[2] == keys.shape[2]
        if queries.is_cpu and queries.dtype == torch.bfloat16 and queries.requires_grad:
            # On CPUs, PyTorch 2.13 goes back through this in bfloat16 slower than through all else.
            with torch.autocast("cpu", enabled=False):
                wide = (queries.float(), keys.float(), values.float())
                return scaled_dot_product_attention(*wide, mask, is_causal=causal).bfloat16()
        return scaled_dot_product_attention(queries, keys, values, mask, is_causal=causal)

    def gather(self, found: Tensor) -> Tensor:
        """What the heads found, side by side and mixed: (B, T, d)."""
        return self.out(found.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention between places, then an MLP within each: (B, T, d) -> (B, T, d).

    Both see the sequence normalised and add to it as it was ("pre-norm": Xiong et al., "On Layer
    Normalization in the Transformer Architecture", 2020), which trains without a warm-up.
    """

    def __init__(self, d_model: int, n_heads: int, causal: bool = False):
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, n_heads, causal)
        self.mlp_norm = nn.LayerNorm(d_model)
        self.wide = nn.Linear(d_model, 4 * d_model, bias=False)
        self.narrow = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """The sequence, with what its places found at each other and made of it."""
        x = x + self.attention(self.attention_norm(x), past)  # (B, T, d)
        return x + self.think(self.mlp_norm(x))  # (B, T, d)

    def think(self, x: Tensor) -> Tensor:
        """What each place makes of itself, alone: (B, T, d) by way of (B, T, 4d)."""
        return self.narrow(gelu(self.wide(x)))


class Transformer(nn.Module):
    """Blocks without a mask, and the mean over the places: (B, T, F) -> (B, outputs).

    Every place sees every other, at any distance, in one layer; where it stands is learnt, since
    attention itself does not see an order.
    """

    def __init__(self, config: TransformerConfig | None = None):
        super().__init__()
        self.config = config = config or TransformerConfig()
        d = config.d_model
        self.embedding = nn.Linear(config.features, d)
        self.position_embedding = nn.Parameter(SMALL * torch.randn(config.context, d))
        self.blocks = nn.ModuleList(Block(d, config.n_heads) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, config.outputs)

    def forward(self, sequences: Tensor) -> Tensor:
        """What is said of the whole sequence: (B, outputs)."""
        features, context = self.config.features, self.config.context
        if sequences.ndim != 3 or sequences.shape[2] != features:
            raise ShapeMismatch(
                f"given sequences of shape {tuple(sequences.shape)}; needed (B, T, {features})."
            )
        check_positions(sequences.shape[1], context, f"sequences[:, -{context}:]")
        x = self.embedding(sequences)  # (B, T, d)
        x = x + self.position_embedding[: x.shape[1]]
        for block in self.blocks:
            x = block(x)  # (B, T, d)
        return self.head(self.norm(x).mean(1))  # (B, d) -> (B, outputs)

    def __repr__(self) -> str:
        return describe(self, "d_model", "n_layers", "n_heads")


def check_positions(length: int, context: int, last: str) -> None:
    """Refuse a sequence with more places than there are vectors for places, or with none."""
    if not 1 <= length <= context:
        told = f", {length - context} too many: use {last}, the last ones" if length else ""
        raise ShapeMismatch(f"given {length} places; needed are 1 to {context}{told}.")
