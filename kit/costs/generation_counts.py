"""What it costs on paper to write a text: reading the prompt, then one token after another.

Shapes: B texts, P tokens of the prompt, N new tokens.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from math import comb
from typing import Any

import torch
from torch import nn

from kit.core.checks import check_whole
from kit.core.results import Result
from kit.core.units import words
from kit.costs.counting import Work
from kit.costs.operation_flops import Flops
from kit.models.checks import check_context, check_generates
from kit.models.custom import short_name
from kit.plots import Table


@dataclass(frozen=True)
class GenerationCount(Result):
    """FLOPs and least bytes of a generation: the prompt, each token after it, and all anew."""

    model: str
    batch_size: int
    prompt_tokens: int
    new_tokens: int
    kv_bytes_per_token: int  # keys and values that a cache keeps of one token of one text
    prefill: Work  # reading the prompt, from which the first new token comes
    decode: tuple[Work, ...] = field(repr=False)  # reading each new token but the last
    rereading: tuple[Work, ...] = field(repr=False)  # the same without a cache: all of it, N times

    @property
    def kv_bytes(self) -> int:
        """What the cache holds at the end, for all texts."""
        places = self.prompt_tokens + self.new_tokens - 1  # nobody reads the last one
        return self.batch_size * places * self.kv_bytes_per_token

    @property
    def decode_step(self) -> Work:
        """Reading one new token, on average."""
        n = max(1, len(self.decode))
        flops, moved = (
            sum(getattr(work, of) for work in self.decode) for of in Work.__match_args__
        )
        return Work(flops // n, moved // n)

    def __repr__(self) -> str:
        step = self.decode_step
        return (
            f"{self.model}, {self.batch_size} × {self.new_tokens:,} tokens after "
            f"{self.prompt_tokens:,}: prefill {words(self.prefill.flops, 'FLOP')}, then "
            f"{words(step.flops, 'FLOP')} and {words(step.moved_bytes, 'B')} a token"
        )

    def table(self) -> Table:
        """What people see: the prompt, a token with a cache, a token without."""
        again = self.rereading[len(self.rereading) // 2]
        rows = [
            (name, words(work.flops, "FLOP"), words(work.moved_bytes, "B"), words(work.intensity))
            for name, work in (
                (f"prefill: {self.prompt_tokens:,} tokens at once", self.prefill),
                ("decode: one token, on average", self.decode_step),
                ("one token without a cache, halfway", again),
            )
        ]
        caption = (
            f"{self.model}; {self.batch_size} × {self.new_tokens:,} new tokens. A cache keeps "
            f"{words(self.kv_bytes_per_token, 'B')} of each token, in the end "
            f"{words(self.kv_bytes, 'B')}. Bytes: the least that must be moved; of embeddings, "
            f"the rows that are looked up."
        )
        return Table(("", "work", "bytes moved", "FLOP/byte"), rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw counts."""
        step, again = self.decode_step, self.rereading
        return {
            "model": self.model,
            "batch_size": self.batch_size,
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "kv_bytes_per_token": self.kv_bytes_per_token,
            "kv_bytes": self.kv_bytes,
            "prefill_flops": self.prefill.flops,
            "prefill_moved_bytes": self.prefill.moved_bytes,
            "decode_step_flops": step.flops,
            "decode_step_moved_bytes": step.moved_bytes,
            "rereading_flops": sum(work.flops for work in again),
            "rereading_moved_bytes": sum(work.moved_bytes for work in again),
        }


def count_generation(
    model: Any, prompt_tokens: int, new_tokens: int, *, batch_size: int = 1
) -> GenerationCount:
    """What writing so many tokens after a prompt costs: FLOPs, least bytes moved, cache.

    Counted by PyTorch's counter on a copy without numbers (the device "meta"), so a model of any
    size is counted in a moment. Attention counts what is computed: every query with every key
    that there is, masked or not.

    Parameters
    ----------
    model
        A GPT of the kit: it offers a cache.
    prompt_tokens, new_tokens
        P and N, in each text.
    batch_size
        B texts that are written together.

    Raises
    ------
    BadValue
        A model without a cache, or more tokens than its context.

    Examples
    --------
    >>> from kit.models import GPT
    >>> count_generation(GPT(), 28, 100).kv_bytes_per_token
    1536

    By hand: 2 layers × (96 keys and 96 values) × 4 bytes. Explained in lesson 10.
    """
    check_generates(model)
    for name, value in (("prompt_tokens", prompt_tokens), ("new_tokens", new_tokens)):
        check_whole(name, value)
    check_context(prompt_tokens, new_tokens, model.config.context)
    blank: Any = deepcopy(model).to("meta").eval()
    per_token = blank.cache(1, 1).bytes
    weights = _weight_bytes(blank)

    def work(tokens: int, before: int) -> Work:
        """Reading so many tokens of each text, after others that a cache holds."""
        cache = blank.cache(batch_size, before + tokens)
        cache.length = before
        flops = Flops()
        asked = torch.zeros(batch_size, tokens, dtype=torch.long, device="meta")
        with torch.no_grad(), flops.counter:
            blank(asked, cache, last=1)
        return Work(flops.total, weights + batch_size * (before + tokens) * per_token)

    prefill = work(prompt_tokens, 0)
    steps = new_tokens - 1
    decode = _continued([work(1, prompt_tokens + i) for i in range(min(2, steps))], steps)
    again = _continued([work(prompt_tokens + i, 0) for i in range(min(3, new_tokens))], new_tokens)
    name = short_name(model)
    return GenerationCount(
        name, batch_size, prompt_tokens, new_tokens, per_token, prefill, decode, again
    )


def _continued(first: list[Work], n: int) -> tuple[Work, ...]:
    """As many works, of which the first are known: a line through two, a parabola through three.

    Attention with a cache grows with the length of the text, all anew with its square, and
    nothing grows faster: so this is exact.
    """

    def series(values: list[int]) -> list[int]:  # Newton's forward differences
        steps = [values[0]] if values else []
        while len(values) > 1:
            values = [b - a for a, b in pairwise(values)]
            steps.append(values[0])
        return [sum(comb(i, k) * step for k, step in enumerate(steps)) for i in range(n)]

    flops, moved = (series([getattr(work, of) for work in first]) for of in Work.__match_args__)
    return tuple(map(Work, flops, moved))


def _weight_bytes(model: nn.Module) -> int:
    """Of the weights that are read whole; of a table of embeddings, one reads few rows."""
    tables = {part.weight for part in model.modules() if isinstance(part, nn.Embedding)}
    tables -= {part.weight for part in model.modules() if isinstance(part, nn.Linear)}  # tied
    tables |= {p for name, p in model.named_parameters() if name.endswith("position_embedding")}
    return sum(p.nbytes for p in model.parameters() if p not in tables)
