"""A GPT: it reads a text and says, at each place, what may come next.

Shapes: B batch, T places (at most the context), d width, V tokens in the vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue, ShapeMismatch
from kit.models.checks import check_sizes, describe
from kit.models.kv_cache import Cache, FixedCache
from kit.models.transformer import SMALL, Block, check_heads, check_positions


@dataclass(frozen=True)
class GPTConfig:
    """What a GPT is made of."""

    vocab_size: int = 103  # V: the characters of the documentation in Python 3.11
    context: int = 128  # the longest text that it can look back on
    d_model: int = 96  # wide and shallow: in equal time it learnt more than 64 × 4 layers
    n_layers: int = 2
    n_heads: int = 3

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self)


class GPT(nn.Module):
    """Causal blocks over tokens: (B, T) -> logits (B, T, V) of the token after each.

    Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018. One pass
    over a text answers at all its places, each from what stands before: that is why training on
    a text is so much cheaper than writing one, token after token.
    """

    def __init__(self, config: GPTConfig | None = None):
        super().__init__()
        self.config = config = config or GPTConfig()
        d = config.d_model
        self.token_embedding = nn.Embedding(config.vocab_size, d)
        nn.init.normal_(self.token_embedding.weight, std=SMALL)
        self.position_embedding = nn.Parameter(SMALL * torch.randn(config.context, d))
        self.blocks = nn.ModuleList(
            Block(d, config.n_heads, causal=True) for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(d)
        # Not the embedding's weights once more ("tied"): those would be saved as one tensor.
        self.head = nn.Linear(d, config.vocab_size, bias=False)

    def forward(
        self, tokens: Tensor, cache: Cache | FixedCache | None = None, last: int | None = None
    ) -> Tensor:
        """Logits (B, T, V): at each place, of the token that comes after it.

        Parameters
        ----------
        tokens
            (B, T) int64. With a cache, those that follow what it keeps.
        cache
            From `.cache()`: what was read before, and what these tokens are added to.
        last
            Logits of so many places at the end alone, (B, last, V). Who writes needs one.
        """
        self._check(tokens)
        new = tokens.shape[1]
        places = slice(new) if cache is None else cache.places(new)
        pasts = [None] * len(self.blocks) if cache is None else cache.pasts(new)
        x = self.token_embedding(tokens)  # (B, T, d): what it is
        x = x + self.position_embedding[places]  # and where
        for block, past in zip(self.blocks, pasts, strict=True):
            x = block(x, past)  # (B, T, d)
        if cache is not None:
            cache.advance(new)
        x = x if last is None else x[:, -last:]
        return self.head(self.norm(x))  # (B, T, V)

    def cache(
        self, batch_size: int = 1, room: int | None = None, padding: Tensor | None = None
    ) -> Cache:
        """An empty cache for so many texts of at most `room` places (None: the context).

        Explained in lesson 10.
        """
        weights, config = self.token_embedding.weight, self.config
        room = config.context if room is None else room
        if not 1 <= room <= config.context:
            raise BadValue(f"room={room}: needs 1 to {config.context}, the context of the model.")
        shape = (
            config.n_layers,
            batch_size,
            config.n_heads,
            room,
            config.d_model // config.n_heads,
        )
        return Cache(*shape, padding, dtype=weights.dtype, device=weights.device)

    def _check(self, tokens: Tensor) -> None:
        """Refuse what is no batch of texts; a token that is not in the vocabulary, PyTorch does."""
        if tokens.dtype != torch.int64:
            raise BadValue(f"given tokens of {tokens.dtype}; needed torch.int64, places in a list.")
        if tokens.ndim != 2:
            hint = " Use tokens.unsqueeze(0) for a single text." if tokens.ndim == 1 else ""
            raise ShapeMismatch(
                f"given tokens of shape {tuple(tokens.shape)}; needed (B, T).{hint}"
            )
        check_positions(tokens.shape[1], self.config.context, f"tokens[:, -{self.config.context}:]")

    def __repr__(self) -> str:
        return describe(self, "d_model", "n_layers", "n_heads")
