"""A GPT: it reads a text and, at each position, predicts the next token.

Shapes: B batch, T positions (at most the context), d width (`d_model`), V tokens in the vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kit.core.errors import BadValue, UnknownName
from kit.models.checks import check_sizes, describe
from kit.models.kv_cache import Cache, StaticCache
from kit.models.transformer import (
    EMBEDDING_STD,
    Block,
    check_heads,
    check_tokens,
    rotary_angles,
)

POSITIONS = ("learned", "rotary")


@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a GPT."""

    vocab_size: int = 103  # V: the characters of the documentation in Python 3.11
    context: int = 128  # the longest text that it can attend to
    d_model: int = 96  # wide and shallow: in equal time it learnt more than 64 × 4 layers
    n_layers: int = 2
    n_heads: int = 3
    # learned: an embedding of each position, as in GPT-2. rotary: queries and keys are turned by
    # their position, as in Llama; a short training then needs fewer steps.
    positions: str = "learned"

    def __post_init__(self) -> None:
        check_sizes(self)
        check_heads(self)
        if self.positions not in POSITIONS:
            raise UnknownName("positions", self.positions, POSITIONS)
        width = self.d_model // self.n_heads
        if self.positions == "rotary" and width % 2:
            raise BadValue(
                f"GPTConfig with positions='rotary' and heads {width} wide: their numbers are "
                f"turned in pairs. Choose an even d_model / n_heads."
            )


class GPT(nn.Module):
    """Causal blocks over tokens: (B, T) -> logits (B, T, V) of the token after each position.

    Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018. One
    forward pass predicts at all positions of a text, each from the tokens before it. That is why
    training on a text is much cheaper than generating one, token after token.

    >>> GPT()(torch.zeros(2, 10, dtype=torch.int64)).shape
    torch.Size([2, 10, 103])
    """

    def __init__(self, config: GPTConfig | None = None):
        super().__init__()
        self.config = config = config or GPTConfig()
        d = config.d_model
        self.token_embedding = nn.Embedding(config.vocab_size, d)
        nn.init.normal_(self.token_embedding.weight, std=EMBEDDING_STD)
        if config.positions == "learned":
            self.position_embedding = nn.Parameter(EMBEDDING_STD * torch.randn(config.context, d))
        self.blocks = nn.ModuleList(
            Block(d, config.n_heads, causal=True) for _ in range(config.n_layers)
        )
        self.norm = nn.LayerNorm(d)
        # The embedding's weights are not used again here ("tied", as in GPT-2): a safetensors
        # file holds each tensor once, and a small vocabulary saves little.
        self.head = nn.Linear(d, config.vocab_size, bias=False)

    def forward(
        self, tokens: Tensor, cache: Cache | StaticCache | None = None, last: int | None = None
    ) -> Tensor:
        """Logits (B, T, V): at each position, of the token that comes after it.

        Parameters
        ----------
        tokens
            (B, T) int64. With a cache, only the tokens that follow the cached ones.
        cache
            From `.cache()`: keys and values of the tokens so far, to which these are added.
        last
            Compute the logits of only this many positions at the end: (B, last, V). Generation
            needs one. With a large vocabulary, this saves most of the head's work.
        """
        check_tokens(
            tokens, self.config.context, f"tokens[:, -{self.config.context}:], the last ones"
        )
        new = tokens.shape[1]
        # Without a cache the text starts at position 0, with one where the cached text ends.
        positions = slice(new) if cache is None else cache.positions(new)
        caches = [None] * len(self.blocks) if cache is None else cache.for_layers(new)
        x = self.token_embedding(tokens)  # (B, T, d): what the token is
        angles = None
        if self.config.positions == "learned":
            x = x + self.position_embedding[positions]  # (B, T, d): and where it is
        else:
            angles = self._angles(positions)  # which tell each attention where it is
        for block, layer_cache in zip(self.blocks, caches, strict=True):
            x = block(x, layer_cache, angles)  # (B, T, d)
        if cache is not None:
            cache.advance(new)  # only now: all layers must agree on where the new positions are
        x = x if last is None else x[:, -last:]
        return self.head(self.norm(x))  # (B, T, V), or (B, last, V)

    def _angles(self, positions: slice | Tensor) -> Tensor:
        """Of rotary positions, for all heads: (2, T, d/A), or (2, B, 1, T, d/A)."""
        # Computed in each pass, once for all layers: no table that a conversion of the weights to
        # half precision would round.
        width = self.config.d_model // self.config.n_heads
        if isinstance(positions, Tensor):
            return rotary_angles(positions[:, None], width)
        device = self.token_embedding.weight.device
        return rotary_angles(torch.arange(self.config.context, device=device)[positions], width)

    def cache(
        self, batch_size: int = 1, capacity: int | None = None, left_padding: Tensor | None = None
    ) -> Cache:
        """An empty cache for `batch_size` texts of at most `capacity` positions each.

        A capacity of None is the context. Explained in lesson 10.

        >>> GPT().cache(batch_size=3, capacity=64)
        Cache: 0 of 64 positions of 3 texts, 2 layers
        """
        weights, config = self.token_embedding.weight, self.config
        capacity = config.context if capacity is None else capacity
        if not 1 <= capacity <= config.context:
            raise BadValue(
                f"capacity={capacity}: needs 1 to {config.context}, the context of the model."
            )
        width = config.d_model // config.n_heads
        shape = (config.n_layers, batch_size, config.n_heads, capacity, width)
        # In the dtype of the weights: half precision halves the cache, too.
        return Cache(*shape, left_padding, dtype=weights.dtype, device=weights.device)

    def __repr__(self) -> str:
        return describe(self, "d_model", "n_layers", "n_heads")
