"""A transformer: each position of a sequence reads from the other positions what it needs.

Attention    queries, keys, values; project -> attend -> merge the heads
rotated      queries and keys that carry their position, without a table of embeddings
Block        attention between positions, then an MLP at each position
Transformer  blocks without a mask, and the mean over positions

Shapes: B batch, T positions, S positions to attend to (S = T without a cache), F features of one
position, d width (`d_model`), A heads of attention, each d/A wide.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from kit.core.errors import BadValue, ShapeMismatch
from kit.models.checks import check_sizes, describe
from kit.models.kv_cache import LayerCache

# Standard deviation of fresh embeddings, as in GPT-2. With PyTorch's default of 1, training would
# spend its first steps on shrinking them.
EMBEDDING_STD = 0.02


@dataclass(frozen=True)
class TransformerConfig:
    """The sizes of a transformer for sequences."""

    features: int = 8
    context: int = 128  # the longest sequence: each position has an embedding of its own
    d_model: int = 32
    n_layers: int = 2
    n_heads: int = 2
    outputs: int = 10  # classes, or numbers to forecast

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self)


def check_heads(config: Any) -> None:
    """Refuse a width that cannot be divided by the number of heads."""
    if config.d_model % config.n_heads:
        sizes = f"d_model={config.d_model} and n_heads={config.n_heads}"
        raise BadValue(
            f"{type(config).__name__} with {sizes}: the heads share the width equally. "
            f"Choose a d_model that n_heads divides."
        )


class Attention(nn.Module):
    """Each position attends to all (causal: to none after it): (B, T, d) -> (B, T, d).

    Vaswani et al., "Attention Is All You Need", 2017, section 3.2.
    """

    def __init__(self, d_model: int, n_heads: int, causal: bool):
        super().__init__()
        self.n_heads, self.causal = n_heads, causal
        # Three projections in one matrix: one large matmul is faster than three small ones.
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Tensor, cache: LayerCache | None = None, angles: Tensor | None = None
    ) -> Tensor:
        """What each position read from the others, and from cached positions: (B, T, d).

        With `angles`, from `rotary_angles`, queries and keys are turned by their positions.
        """
        parts = self.project(x)  # (3, B, A, T, d/A)
        if angles is not None:
            # The cache gets turned keys: a position in the text never changes.
            parts = torch.cat([rotated(parts[:2], angles), parts[2:]])
        queries, keys, values = parts.unbind()  # (B, A, T, d/A) each
        if cache is None:
            return self.merge_heads(self.attend(queries, keys, values))
        # With a cache, only the new positions have queries; keys and values are those of all.
        keys, values = cache.append(parts[1:])  # (B, A, S, d/A) each
        return self.merge_heads(self.attend(queries, keys, values, cache.mask))

    def project(self, x: Tensor) -> Tensor:
        """(B, T, d) -> queries, keys, values: what I look for, offer and say (3, B, A, T, d/A)."""
        parts = self.qkv(x).unflatten(-1, (3, self.n_heads, -1))  # (B, T, 3, A, d/A)
        return parts.permute(2, 0, 3, 1, 4)  # a view, not a copy

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """softmax(query · key / √(d/A)) · value for each query: (B, A, T, d/A).

        The mask (T, S) is True where a query may attend to a key. Without a mask there are two
        cases. As many queries as keys are the same positions: causal if this attention is. A
        single query after cached positions attends to all of them.
        """
        # Watch out: with fewer queries than keys, PyTorch's `is_causal` aligns the first query
        # with the first key. The cached past would be hidden, and no error would say so.
        causal = self.causal and mask is None and queries.shape[2] == keys.shape[2]
        if queries.requires_grad and queries.is_cpu and queries.dtype == torch.bfloat16:
            # PyTorch 2.13 on CPUs: the backward pass of this one function in bfloat16 takes
            # longer than all the rest of the model, so compute it in float32.
            with torch.autocast("cpu", enabled=False):
                in_float32 = (queries.float(), keys.float(), values.float())
                return scaled_dot_product_attention(*in_float32, mask, is_causal=causal).bfloat16()
        # One fused kernel: the scores (B, A, T, S) need not be stored. Dao et al.,
        # "FlashAttention", 2022.
        return scaled_dot_product_attention(queries, keys, values, mask, is_causal=causal)

    def merge_heads(self, heads: Tensor) -> Tensor:
        """The heads side by side, mixed by one linear layer: (B, A, T, d/A) -> (B, T, d)."""
        return self.out(heads.transpose(1, 2).flatten(2))


def rotary_angles(positions: Tensor, width: int) -> Tensor:
    """Cosines and sines of the angles by which each position is turned: (2, …, T, width).

    Parameters
    ----------
    positions
        (…, T) int64.
    width
        d/A, of one head. Its numbers are turned in pairs: the first by one radian per position,
        each further one by less, the last one of a wide head by about 1/10,000.
    """
    pairs = torch.arange(0, width, 2, device=positions.device) / width  # (width/2,)
    angles = positions[..., None] * 10_000.0**-pairs  # (…, T, width/2), in float32
    sines = angles.sin()
    return torch.stack(
        [torch.cat([angles.cos()] * 2, -1), torch.cat([-sines, sines], -1)]
    )  # (2, …, T, width)


def rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Queries and keys (2, B, A, T, d/A), each pair of numbers turned by its position's angle.

    The product of a turned query and a turned key depends on the distance of their positions, not
    on the positions themselves. Su et al., "RoFormer: Enhanced Transformer with Rotary Position
    Embedding", 2021. A number and the one half a width further on make a pair.
    """
    cosines, sines = angles.to(x.dtype)
    return x * cosines + x.roll(x.shape[-1] // 2, -1) * sines


class Block(nn.Module):
    """Attention between positions, then an MLP at each position: (B, T, d) -> (B, T, d).

    Both read the normalised sequence and add to the sequence as it was ("pre-norm": Xiong et al.,
    "On Layer Normalization in the Transformer Architecture", 2020). This trains without a
    learning-rate warm-up.
    """

    def __init__(self, d_model: int, n_heads: int, causal: bool = False):
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, n_heads, causal)
        self.mlp_norm = nn.LayerNorm(d_model)
        # Two thirds of a block's weights are in these two matrices.
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(
        self, x: Tensor, cache: LayerCache | None = None, angles: Tensor | None = None
    ) -> Tensor:
        """The sequence after both parts of the block; with `angles`, see `Attention`."""
        # The plain "x +" gives gradients a path past every layer, which makes depth trainable.
        x = x + self.attention(self.attention_norm(x), cache, angles)  # (B, T, d)
        return x + self.feed_forward(self.mlp_norm(x))  # (B, T, d)

    def feed_forward(self, x: Tensor) -> Tensor:
        """The MLP, on each position by itself: (B, T, d) -> (B, T, 4d) -> (B, T, d)."""
        return self.down(gelu(self.up(x)))


class Transformer(nn.Module):
    """Blocks without a mask, and the mean over positions: (B, T, F) -> (B, outputs).

    Every position attends to every other, at any distance, in one layer. Attention itself does
    not know the order of positions, so a learnt embedding of each position is added.

    >>> Transformer()(torch.rand(3, 20, 8)).shape
    torch.Size([3, 10])
    """

    def __init__(self, config: TransformerConfig | None = None):
        super().__init__()
        self.config = config = config or TransformerConfig()
        d = config.d_model
        self.embedding = nn.Linear(config.features, d)
        self.position_embedding = nn.Parameter(EMBEDDING_STD * torch.randn(config.context, d))
        self.blocks = nn.ModuleList(Block(d, config.n_heads) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(d)  # pre-norm leaves the last sum without a norm: this is it
        self.head = nn.Linear(d, config.outputs)

    def forward(self, sequences: Tensor) -> Tensor:
        """One answer for the whole sequence: (B, outputs)."""
        features, context = self.config.features, self.config.context
        if sequences.ndim != 3 or sequences.shape[2] != features:
            raise ShapeMismatch(
                f"given sequences of shape {tuple(sequences.shape)}; needed (B, T, {features}): "
                f"batch, positions, features. sequences[None] adds a missing batch axis."
            )
        check_positions(sequences.shape[1], context, f"sequences[:, -{context}:], the last ones")
        x = self.embedding(sequences)  # (B, T, d): what is there
        x = x + self.position_embedding[: x.shape[1]]  # (B, T, d): and where it is
        for block in self.blocks:
            x = block(x)  # (B, T, d)
        return self.head(self.norm(x).mean(1))  # (B, d) -> (B, outputs)

    def __repr__(self) -> str:
        return describe(self, "d_model", "n_layers", "n_heads")


def check_tokens(tokens: Tensor, context: int, part: str) -> None:
    """Refuse what is not a batch of texts. PyTorch itself refuses tokens of V and above."""
    if tokens.dtype != torch.int64:
        raise BadValue(f"given tokens of {tokens.dtype}; needed torch.int64, indices from 0.")
    if tokens.ndim != 2:
        hint = " Use tokens.unsqueeze(0) for a single text." if tokens.ndim == 1 else ""
        raise ShapeMismatch(f"given tokens of shape {tuple(tokens.shape)}; needed (B, T).{hint}")
    check_positions(tokens.shape[1], context, part)


def check_positions(length: int, context: int, part: str) -> None:
    """Refuse an empty sequence, and one that is longer than the table of position embeddings."""
    if not 1 <= length <= context:
        hint = f", {length - context} too many: use {part}" if length else ""
        raise ShapeMismatch(f"given {length} positions; needed 1 to {context}{hint}.")
