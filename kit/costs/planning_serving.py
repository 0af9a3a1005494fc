"""How fast machines write text: the roofline of a language model that serves B texts at once.

A replica reads all weights once for a new token of each text, and the cache of keys and values of
every text; it computes 2 FLOPs per parameter for each of these tokens. Bytes and FLOPs overlap, so
the slower of them decides. Then come the prompts, which are computed at once and bound by FLOPs.

Symbols: B texts at once, P tokens of the prompt, N new tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from kit.costs.published import Published

ANSWER_FLOPS = 2  # per parameter and token of a forward pass
HALF = 2  # bytes of a weight in 16 bits
SERVING_ROOM = 0.9  # of the memory for weights and cache; the rest for what is computed
LARGEST_BATCH = 4096


@dataclass(frozen=True)
class TokenTime:
    """Least seconds for one new token of each of B texts, by what takes them."""

    weights_s: float
    cache_s: float
    flops_s: float
    prompts_s: float  # of the prompts, spread over the new tokens

    @property
    def seconds(self) -> float:
        """Until each text has its next token: reading and computing overlap, prompts are added."""
        return max(self.weights_s + self.cache_s, self.flops_s) + self.prompts_s

    @property
    def shares(self) -> dict[str, float]:
        """What takes the time, each with its share (0 to 1), the largest first."""
        reading = self.weights_s + self.cache_s >= self.flops_s
        parts = {
            "memory's rate: reading the weights": self.weights_s if reading else 0.0,
            "memory's rate: reading the cache": self.cache_s if reading else 0.0,
            "FLOPs: new tokens": 0.0 if reading else self.flops_s,
            "FLOPs: prompts": self.prompts_s,
        }
        ranked = sorted(parts, key=lambda name: -parts[name])
        return {name: parts[name] / self.seconds for name in ranked if parts[name]}


@dataclass(frozen=True)
class Replica:
    """A language model on some machines of one kind, and the texts that it serves."""

    params: float
    computing: float  # parameters that compute a token: in a mixture of experts, fewer
    cache_per_token: float | None  # bytes of keys and values; None: unknown, and not counted
    prompt: float
    new: float
    machines: int
    memory: float  # bytes, of one machine; the rates below as well
    bandwidth: float
    peak: float

    @property
    def weight_bytes(self) -> float:
        """All weights, in 16 bits."""
        return HALF * self.params

    def cache_bytes(self, batch: int) -> float:
        """The cache of B texts when they are complete; 0 where its size is unknown."""
        return batch * (self.prompt + self.new) * (self.cache_per_token or 0.0)

    def token(self, batch: int) -> TokenTime:
        """The least seconds of a new token for B texts."""
        # Experts: B tokens need at most B times those of one token, and never more than all.
        read = HALF * min(self.params, batch * self.computing)
        halfway = batch * (self.prompt + self.new / 2) * (self.cache_per_token or 0.0)
        rate, peak = self.bandwidth * self.machines, self.peak * self.machines
        each_s = ANSWER_FLOPS * self.computing / peak
        prompts_s = batch * each_s * self.prompt / self.new
        return TokenTime(read / rate, halfway / rate, batch * each_s, prompts_s)

    def fits(self, batch: int) -> bool:
        """Whether the weights and the cache of B texts fit into the memory."""
        room = SERVING_ROOM * self.memory * self.machines
        return self.weight_bytes + self.cache_bytes(batch) <= room

    def best_batch(self, most_s: float) -> tuple[int, str]:
        """The most texts at once that fit and get a token each `most_s`, and what stops more.

        0: not even one text fits, or gets its tokens in time.
        """
        by_memory = largest(self.fits)
        by_pace = largest(lambda batch: self.token(batch).seconds <= most_s)
        if by_memory < by_pace:
            return by_memory, "memory: the cache"
        stops = "the pace that was asked for" if by_pace < LARGEST_BATCH else "our limit of a batch"
        return by_pace, stops


def replica_of(
    params: float,
    computing: float,
    cache_per_token: float | None,
    prompt: float,
    new: float,
    machines: int,
    card: Published,
) -> Replica:
    """A replica on accelerators with published limits."""
    limits = (card.value(name) for name in ("memory", "bandwidth", "peak"))
    return Replica(params, computing, cache_per_token, prompt, new, machines, *limits)


def largest(holds: Callable[[int], bool]) -> int:
    """The largest batch for which it holds; it then holds for each smaller one, too."""
    low, high = 0, LARGEST_BATCH
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def seconds_for(pace: float, share: float) -> float:
    """The most seconds of the bound that leave a text its tokens per second."""
    return share / pace if pace else inf
