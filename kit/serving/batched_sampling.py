"""The next token of many texts at once, and whether rounding could have changed it.

A model rounds otherwise when it computes 16 texts together than when it computes one: the sums are
the same, their order is not. Logits differ in their last digits, so the likeliest token differs
only if two tokens are nearly tied. This file draws the tokens, and says which are certain.

Shapes: n texts, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from kit.inference.sampling import MINUS_INFINITY

SUM_ERROR = 16 * torch.finfo(torch.float32).eps  # of probabilities that were added one by one

NO_LIMIT = 2.0  # a probability that is never reached


@dataclass
class Sampling:
    """How the tokens of one text are drawn: the options of `kit.inference.sampling.Sampler`."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    generator: torch.Generator | None = field(default=None, repr=False)

    def fill(self, noise: Tensor) -> None:
        """Write the random numbers of the next token over noise (V,), as `Sampler` draws them."""
        if self.generator is None:
            self.generator = torch.Generator(noise.device).manual_seed(self.seed)
        noise.exponential_(generator=self.generator)


class Drawn(NamedTuple):
    """One token for each text."""

    tokens: list[int]
    certain: list[bool]  # False: rounding decides, or the logits are NaN


def draw(logits: Tensor, samplings: Sequence[Sampling], rounding: float = 0.0) -> Drawn:
    """The next tokens for logits (n, V), and which of them no rounding can change.

    Parameters
    ----------
    logits
        (n, V) of the last position of each text.
    samplings
        How each text is drawn. Each call takes one token's random numbers from each.
    rounding
        The largest difference of a logit between two ways to compute it, as a share of the
        text's largest logit. 0: every token that is a number is certain.
    """
    greedy = [i for i, s in enumerate(samplings) if not s.temperature]
    if not greedy or len(greedy) == len(samplings):
        return _draw(logits, samplings, rounding)
    # Apart: most of the work is for random tokens, and with a large vocabulary it takes long.
    random = [i for i, s in enumerate(samplings) if s.temperature]
    tokens, certain = [0] * len(samplings), [False] * len(samplings)
    for rows in (greedy, random):
        drawn = _draw(logits[rows], [samplings[i] for i in rows], rounding)
        for i, token, is_certain in zip(rows, *drawn, strict=True):
            tokens[i], certain[i] = token, is_certain
    return Drawn(tokens, certain)


def _draw(logits: Tensor, samplings: Sequence[Sampling], rounding: float) -> Drawn:
    """The tokens of texts that are all greedy, or all random."""
    scores = logits.float()  # as `Sampler`: a bfloat16 has too few digits
    error = rounding * scores.abs().amax(-1, keepdim=True)  # (n, 1)
    sure = None
    if samplings[0].temperature:
        by = torch.tensor([[s.temperature] for s in samplings], device=scores.device)
        scores, error = scores / by, error / by
        limits = _candidates(scores, samplings, error)
        noise = torch.empty_like(scores)
        for row, sampling in zip(noise, samplings, strict=True):
            sampling.fill(row)
        scores = scores - noise.log_()
        if limits is not None:
            possible, sure = limits
            scores = scores.masked_fill(~possible, MINUS_INFINITY)
    best = scores.topk(min(2, scores.shape[-1]), -1)
    first, token = best.values[:, 0], best.indices[:, 0]
    # Two logits can each be off by the error, in opposite directions.
    gap = first - best.values[:, -1] if scores.shape[-1] > 1 else first.new_ones(len(first))
    # A comparison with NaN is False, so NaN is never certain.
    certain = (gap > 2 * error[:, 0]) if rounding else first.isfinite()
    if sure is not None:
        certain = certain & sure.gather(1, token[:, None])[:, 0]
    tokens, is_certain = torch.stack([token, certain.long()]).tolist()  # waits once for a GPU
    return Drawn(tokens, [bool(each) for each in is_certain])


def _candidates(
    scores: Tensor, samplings: Sequence[Sampling], error: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Which tokens may be drawn, and which may be drawn whatever the rounding: (n, V) each.

    The same rules as in `Sampler`, as the smallest score that is let in: one sort for all texts, or
    without a top_p only the largest scores.
    None if no text has limits.
    """
    limited = [(s.top_k or s.top_p) is not None for s in samplings]
    if not any(limited):
        return None
    words, device = scores.shape[-1], scores.device
    pairs = list(zip(samplings, limited, strict=True))
    most = [min(s.top_k or words, words) if on else words for s, on in pairs]
    sure_count = k = torch.tensor(most, device=device)[:, None]  # (n, 1): tokens that are let in
    nucleus = any(on and s.top_p is not None for s, on in pairs)
    if nucleus:
        ordered = scores.sort(-1, descending=True).values
    else:  # with a large vocabulary, a sort takes longer than a small model
        ordered = scores.topk(max((n for n in most if n < words), default=1), -1).values
    # (n, 1): the score of the last of them
    least = ordered.gather(1, (k - 1).clamp(max=ordered.shape[-1] - 1))
    least = sure_least = least.masked_fill(k == words, MINUS_INFINITY)
    # Without a token near the limit, the limit is the same whatever the rounding.
    unsettled = torch.zeros_like(least, dtype=torch.bool)
    if nucleus:
        top_p = [[s.top_p if on and s.top_p is not None else NO_LIMIT] for s, on in pairs]
        limit = torch.tensor(top_p, device=device)
        shares = ordered.masked_fill(ordered < least, MINUS_INFINITY).softmax(-1)
        before = shares.cumsum(-1) - shares  # (n, V): the probability of all likelier tokens
        # A token more or less in the k likeliest changes all these probabilities.
        near = (ordered >= least - 2 * error).sum(-1) > (ordered >= least).sum(-1)
        unsettled = near[:, None] & (limit <= 1)

        def count_within(share: Tensor) -> Tensor:
            count = (before < share).sum(-1, keepdim=True).clamp(min=1)  # the likeliest stays
            return torch.minimum(count, k)

        # An error of e in each logit changes the odds by a factor of at most exp(2e), and sums of
        # many small probabilities have an error of their own.
        slack = 2 * error * limit * (1 - limit).abs() + SUM_ERROR
        sure_count = count_within(limit - slack)
        sure_least = ordered.gather(1, sure_count - 1)
        least = ordered.gather(1, count_within(limit + slack) - 1)
    inside = scores >= sure_least
    # If the next token is far below the limit, all above it are certain. A token with the same
    # score as the last one is a next token, too.
    settled = (scores >= sure_least - 2 * error).sum(-1, keepdim=True) == sure_count
    sure = ((scores > sure_least + 2 * error) | (inside & settled)) & ~unsettled
    return scores >= least - 2 * error, sure
