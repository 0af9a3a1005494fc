"""What generating a text costs on paper: prefill (the prompt), then decode (token by token).

Shapes: B texts, P tokens of the prompt, N new tokens.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from math import comb
from typing import Any

from torch import nn

from kit.core.checks import check_whole
from kit.core.results import Result
from kit.core.units import words
from kit.costs.counting import PhaseCost
from kit.costs.operation_flops import FlopCounter
from kit.inference import one_pass
from kit.models.checks import check_context, check_generates
from kit.models.custom import short_name
from kit.plots import Table


@dataclass(frozen=True)
class GenerationCount(Result):
    """FLOPs and least bytes of a generation: prefill, decode, and decode without a cache."""

    model: str
    batch_size: int
    prompt_tokens: int
    new_tokens: int
    kv_bytes_per_token: int  # keys and values that a cache stores for one token of one text
    prefill: PhaseCost  # reading the prompt; it gives the first new token
    decode: tuple[PhaseCost, ...] = field(repr=False)  # each new token but the last is read
    # The same without a cache: for each of N tokens the whole text is read again.
    rereading: tuple[PhaseCost, ...] = field(repr=False)

    @property
    def kv_bytes(self) -> int:
        """Bytes in the cache at the end, for all texts."""
        positions = self.prompt_tokens + self.new_tokens - 1  # the last token is never read
        return self.batch_size * positions * self.kv_bytes_per_token

    @property
    def decode_step(self) -> PhaseCost:
        """Reading one new token, on average."""
        n = max(1, len(self.decode))
        flops = sum(cost.flops for cost in self.decode)
        moved = sum(cost.moved_bytes for cost in self.decode)
        return PhaseCost(flops // n, moved // n)

    def __repr__(self) -> str:
        step = self.decode_step
        return (
            f"{self.model}, {self.batch_size} × {self.new_tokens:,} tokens after "
            f"{self.prompt_tokens:,}: prefill {words(self.prefill.flops, 'FLOP')}, then "
            f"{words(step.flops, 'FLOP')} and {words(step.moved_bytes, 'B')} a token"
        )

    def table(self) -> Table:
        """The prompt, a token with a cache, a token without."""
        again = self.rereading[len(self.rereading) // 2]
        rows = [
            (name, words(cost.flops, "FLOP"), words(cost.moved_bytes, "B"), words(cost.intensity))
            for name, cost in (
                (f"prefill: {self.prompt_tokens:,} tokens at once", self.prefill),
                ("decode: one token, on average", self.decode_step),
                ("one token without a cache, halfway", again),
            )
        ]
        caption = (
            f"{self.model}; {self.batch_size} × {self.new_tokens:,} new tokens. A cache stores "
            f"{words(self.kv_bytes_per_token, 'B')} per token, {words(self.kv_bytes, 'B')} at the "
            f"end. Bytes: the least that must be moved; of embeddings, only the rows looked up."
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
            "rereading_flops": sum(cost.flops for cost in again),
            "rereading_moved_bytes": sum(cost.moved_bytes for cost in again),
        }


def count_generation(
    model: Any, prompt_tokens: int, new_tokens: int, *, batch_size: int = 1
) -> GenerationCount:
    """What generating N tokens after a prompt costs: FLOPs, least bytes moved, cache size.

    PyTorch's counter runs on a copy without data (the device "meta"), so a model of any size is
    counted at once. Attention counts what is computed: every query with every key, masked or not.

    Parameters
    ----------
    model
        A GPT of the kit, which has a cache.
    prompt_tokens, new_tokens
        P and N, in each text.
    batch_size
        B texts that are generated together.

    Raises
    ------
    BadValue
        If the model has no cache, or if the tokens do not fit into its context.

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

    def cost(tokens: int, before: int) -> PhaseCost:
        """Reading this many tokens of each text, after `before` tokens in the cache."""
        flops, call = FlopCounter(), one_pass(blank, tokens, before, batch_size)
        with flops.counter:
            call()
        return PhaseCost(flops.total, weights + batch_size * (before + tokens) * per_token)

    prefill = cost(prompt_tokens, 0)
    steps = new_tokens - 1
    decode = _extrapolated([cost(1, prompt_tokens + i) for i in range(min(2, steps))], steps)
    again = _extrapolated(
        [cost(prompt_tokens + i, 0) for i in range(min(3, new_tokens))], new_tokens
    )
    name = short_name(model)
    return GenerationCount(
        name, batch_size, prompt_tokens, new_tokens, per_token, prefill, decode, again
    )


def _extrapolated(first: list[PhaseCost], n: int) -> tuple[PhaseCost, ...]:
    """The costs of n tokens from the first two or three: a line, or a parabola.

    This is exact. With a cache, the cost of a token grows linearly with the length of the text.
    Without one it grows with the square, and nothing grows faster.
    """

    def series(values: list[int]) -> list[int]:  # Newton's forward differences
        steps = [values[0]] if values else []
        while len(values) > 1:
            values = [b - a for a, b in pairwise(values)]
            steps.append(values[0])
        return [sum(comb(i, k) * step for k, step in enumerate(steps)) for i in range(n)]

    flops = series([cost.flops for cost in first])
    moved = series([cost.moved_bytes for cost in first])
    return tuple(map(PhaseCost, flops, moved))


def _weight_bytes(model: nn.Module) -> int:
    """Bytes of the weights that are read completely. Of an embedding table, few rows are read."""
    tables = {part.weight for part in model.modules() if isinstance(part, nn.Embedding)}
    tables -= {part.weight for part in model.modules() if isinstance(part, nn.Linear)}  # tied
    tables |= {p for name, p in model.named_parameters() if name.endswith("position_embedding")}
    return sum(p.nbytes for p in model.parameters() if p not in tables)
