"""From logits to the next token: the likeliest one, or one drawn at random.

Shapes: B texts, n positions in a row, V tokens of the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kit.core.checks import check_whole, is_number
from kit.core.errors import BadValue

MINUS_INFINITY = float("-inf")  # a logit whose token has the probability 0


class Sampler:
    """Draws the token of each position from its logits; the same seed gives the same text.

    A token is drawn by adding noise to the logits and taking the largest: with noise of Gumbel's
    distribution, each token wins with exactly its softmax probability. Each position has its own
    noise, whatever was computed before. So decoding with a cache, or with drafted tokens, writes
    the same text as without.

    Parameters
    ----------
    temperature
        Divides the logits: 0 takes the likeliest token, 1 draws from the model's probabilities.
        Lower values give more predictable texts, higher values more surprising ones.
    top_k
        Draw from the k likeliest tokens only.
    top_p
        Draw from the smallest set of likeliest tokens that together have this probability
        ("nucleus sampling": Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020).
    seed
        Decides the noise.

    Notes
    -----
    Gumbel, *Statistical Theory of Extreme Values* (1954); Maddison, Tarlow & Minka, "A* Sampling",
    2014, section 2.
    """

    def __init__(
        self,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
    ):
        if not is_number(temperature) or not 0 <= temperature < float("inf"):
            raise BadValue(
                f"temperature={temperature!r}: needs a number of at least 0. 0 takes the likeliest."
            )
        if top_p is not None and (not is_number(top_p) or not 0 < top_p <= 1):
            raise BadValue(f"top_p={top_p!r}: needs a probability above 0 and at most 1.")
        self.top_k = None if top_k is None else check_whole("top_k", top_k)
        self.seed = check_whole("seed", seed, 0, 2**64 - 1)
        self.temperature, self.top_p = temperature, top_p
        self._generator: torch.Generator | None = None
        self._noise: list[Tensor] = []  # (B, V) for each position from `_first` on
        self._first = 0  # the position that `_noise` begins with

    def __call__(self, logits: Tensor, position: int) -> Tensor:
        """Tokens (B, n) for logits (B, n, V) of the positions from `position` on."""
        # A case of its own: a division by 0 would give infinite logits.
        if self.temperature == 0:
            return logits.argmax(-1)  # greedy: no random number is drawn
        # In float32: a bfloat16 has too few digits for the differences between likely tokens.
        likely = self._limited(logits.float() / self.temperature)
        return (likely + self._noise_at(position, likely)).argmax(-1)

    def _limited(self, logits: Tensor) -> Tensor:
        """The logits, with −∞ for tokens that top_k or top_p rules out."""
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            # (B, n, 1), the k-th largest. Tokens with the same logit stay in: there may be more
            # than k.
            least = logits.topk(self.top_k).values[..., -1:]
            logits = logits.masked_fill(logits < least, MINUS_INFINITY)
        if self.top_p is not None:
            ordered, tokens = logits.sort(-1, descending=True)
            shares = ordered.softmax(-1)
            # A token is ruled out if those before it reach top_p. So the likeliest always stays.
            ruled_out = shares.cumsum(-1) - shares >= self.top_p
            # `scatter` brings the marks back from sorted order to the order of the vocabulary.
            logits = logits.masked_fill(ruled_out.scatter(-1, tokens, ruled_out), MINUS_INFINITY)
        return logits

    def _noise_at(self, position: int, like: Tensor) -> Tensor:
        """Gumbel noise (B, n, V), drawn position by position in their order."""
        texts, n, vocabulary = like.shape
        if self._generator is None:
            # On the device of the logits, so that nothing is copied. The same seed gives other
            # numbers on another type of device.
            self._generator = torch.Generator(like.device).manual_seed(self.seed)
        # Rejected drafts come again: their positions must find the noise that they had.
        self._noise, self._first = self._noise[position - self._first :], position
        while len(self._noise) < n:
            # One position at a time, however many are asked for: so one pass for several tokens and
            # several passes for one token use the same numbers.
            fresh = torch.empty(texts, vocabulary, device=like.device)
            # Minus the logarithm of an exponential random number is Gumbel-distributed.
            self._noise.append(-fresh.exponential_(generator=self._generator).log())
        return torch.stack(self._noise[:n], 1)  # (B, n, V)
