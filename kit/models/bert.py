"""BERT: an encoder that reads a text in both directions and returns one vector for it.

Attention    each position reads from all positions that are not padding
Block        attention, then an MLP; the norm comes after each ("post-norm")
BERT         embeddings, blocks, the mean over positions, and length 1

Shapes: B batch, T positions, d width (`d_model`), A heads of attention, each d/A wide.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention

from kit.models.checks import check_sizes, describe
from kit.models.transformer import EMBEDDING_STD, check_heads, check_tokens

PADDING = 0  # the token that fills up a short text in a batch of longer ones
EPSILON = 1e-12  # of all norms: BERT's own, so that published weights give their own outputs


@dataclass(frozen=True)
class BERTConfig:
    """The sizes of a BERT encoder."""

    vocab_size: int = 1000
    context: int = 64  # the longest text
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 2

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self)


class Attention(nn.Module):
    """Each position attends to all that are not padding: (B, T, d) -> (B, T, d)."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)  # three projections in one matrix
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """What each position read; the mask (B, 1, 1, T) is False where a position is padding."""
        parts = self.qkv(x).unflatten(-1, (3, self.n_heads, -1))  # (B, T, 3, A, d/A)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)  # (B, A, T, d/A) each
        # Not causal: a text that is complete may be read from both sides. A GPT may not do this,
        # because it would see the token that it shall predict.
        heads = scaled_dot_product_attention(queries, keys, values, mask)  # (B, A, T, d/A)
        return self.out(heads.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention between positions, then an MLP at each position: (B, T, d) -> (B, T, d)."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.attention = Attention(d_model, n_heads)
        self.attention_norm = nn.LayerNorm(d_model, EPSILON)
        self.up = nn.Linear(d_model, 4 * d_model)
        self.down = nn.Linear(4 * d_model, d_model)
        self.mlp_norm = nn.LayerNorm(d_model, EPSILON)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """The sequence after both parts of the block."""
        # The norm comes after the sum, as in 2017's transformer; our GPT has it before.
        x = self.attention_norm(x + self.attention(x, mask))  # (B, T, d)
        return self.mlp_norm(x + self.down(gelu(self.up(x))))  # (B, T, d)


def mean_direction(x: Tensor, real: Tensor) -> Tensor:
    """The mean of x (B, T, d) over the positions that are real (B, T), at length 1: (B, d)."""
    weights = real.unsqueeze(-1).to(x.dtype)  # (B, T, 1)
    return normalize((x * weights).sum(1) / weights.sum(1), dim=-1)


class BERT(nn.Module):
    """Tokens (B, T) -> vectors (B, d) of length 1; similar texts should have similar vectors.

    Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language
    Understanding", 2019. The mean over positions and the length of 1 are those of Reimers and
    Gurevych, "Sentence-BERT", 2019: the product of two vectors is then their cosine similarity.
    `kit.models.load_minilm()` returns one whose weights have been trained on a billion pairs of
    texts. There is no dropout: fine-tuning here is short.

    >>> BERT()(torch.ones(2, 10, dtype=torch.int64)).shape
    torch.Size([2, 64])
    """

    def __init__(self, config: BERTConfig | None = None):
        super().__init__()
        self.config = config = config or BERTConfig()
        d = config.d_model
        self.token_embedding = nn.Embedding(config.vocab_size, d)
        nn.init.normal_(self.token_embedding.weight, std=EMBEDDING_STD)
        self.position_embedding = nn.Parameter(EMBEDDING_STD * torch.randn(config.context, d))
        self.norm = nn.LayerNorm(d, EPSILON)
        self.blocks = nn.ModuleList(Block(d, config.n_heads) for _ in range(config.n_layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """One vector of length 1 for each text: (B, d). Token 0 is padding, but not as the first.

        Fill short texts up at their end. Padding changes no vector, and costs time.
        """
        x, real = self.embed(tokens)  # (B, T, d), (B, T)
        for block in self.blocks:
            x = block(x, real[:, None, None, :])  # (B, T, d)
        return mean_direction(x, real)  # (B, d)

    def embed(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What the first block reads (B, T, d), and which positions are not padding (B, T)."""
        check_tokens(
            tokens, self.config.context, f"tokens[:, :{self.config.context}], the first ones"
        )
        # A text of padding alone would have no position to attend to, and a vector of NaN.
        real = (tokens != PADDING).index_fill(1, tokens.new_zeros(1), True)
        x = self.token_embedding(tokens)  # (B, T, d): what the token is
        return self.norm(x + self.position_embedding[: tokens.shape[1]]), real  # and where it is

    def __repr__(self) -> str:
        return describe(self, "d_model", "n_layers", "n_heads")
