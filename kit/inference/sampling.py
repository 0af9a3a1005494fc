"""From logits to the next token: the likeliest, or one drawn by chance.

Shapes: B texts, n places in a row, V tokens of the vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kit.core.checks import check_whole, is_number
from kit.core.errors import BadValue

NEVER = float("-inf")


class Sampler:
    """Draws the token of each place; what it draws depends on the logits, the seed and the place.

    A token is drawn by adding noise to the logits and taking the largest: with Gumbel's noise,
    that happens with just the probabilities of their softmax. The noise of a place is the same
    however one comes there. So who reads with a cache, or has several places confirmed at once,
    writes the same text.

    Parameters
    ----------
    temperature
        By which logits are divided: 0 takes the likeliest, 1 draws as the model says; less is
        duller, more is wilder.
    top_k
        Draw from so many likeliest tokens alone.
    top_p
        Draw from the fewest likeliest that have this probability together ("nucleus": Holtzman et
        al., "The Curious Case of Neural Text Degeneration", 2020).
    seed
        Of what is drawn.

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
            raise BadValue(f"temperature={temperature!r}: needs 0 (the likeliest) or more.")
        if top_k is not None:
            check_whole("top_k", top_k)
        if top_p is not None and (not is_number(top_p) or not 0 < top_p <= 1):
            raise BadValue(f"top_p={top_p!r}: needs a probability above 0, at most 1.")
        check_whole("seed", seed, 0, 2**64 - 1)
        self.temperature, self.top_k, self.top_p, self.seed = temperature, top_k, top_p, seed
        self._generator: torch.Generator | None = None
        self._noise: list[Tensor] = []  # (B, V) of the places from `_first` on
        self._first = 0

    def __call__(self, logits: Tensor, place: int) -> Tensor:
        """(B, n) tokens for logits (B, n, V) of the places from `place` on."""
        if self.temperature == 0:
            return logits.argmax(-1)
        likely = self._kept(logits.float() / self.temperature)
        return (likely + self._noise_at(place, likely)).argmax(-1)

    def _kept(self, logits: Tensor) -> Tensor:
        """The logits, with −inf for what is never to be drawn."""
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            least = logits.topk(self.top_k).values[..., -1:]
            logits = logits.masked_fill(logits < least, NEVER)
        if self.top_p is not None:
            ordered, places = logits.sort(-1, descending=True)
            shares = ordered.softmax(-1)
            over = shares.cumsum(-1) - shares >= self.top_p  # enough without it
            logits = logits.masked_fill(over.scatter(-1, places, over), NEVER)
        return logits

    def _noise_at(self, place: int, like: Tensor) -> Tensor:
        """(B, n, V), drawn place by place in their order."""
        texts, n, words = like.shape
        if self._generator is None:
            self._generator = torch.Generator(like.device).manual_seed(int(self.seed))
        self._noise, self._first = self._noise[place - self._first :], place
        while len(self._noise) < n:
            fresh = torch.empty(texts, words, device=like.device)
            self._noise.append(-fresh.exponential_(generator=self._generator).log())
        return torch.stack(self._noise[:n], 1)
