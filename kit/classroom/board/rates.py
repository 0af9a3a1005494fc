"""How often a student or an address may ask: a bucket that fills again with time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

# Tokens per second, and the most at once.
OF_A_STUDENT = (3, 30)  # messages
WRONG_OF_AN_ADDRESS = (0.5, 30)  # wrong codes and secrets
WRONG_OF_ALL = (5, 200)  # of all addresses together
MOST_KEYS = 2_000  # of addresses that are remembered; more share one bucket


class Rates:
    """For each key a bucket of `burst` tokens, which fills by `per_s` a second.

    >>> rates = Rates(per_s=1, burst=2, clock=iter([0, 0, 0, 1]).__next__)
    >>> [rates.take("ada") for _ in range(4)]
    [True, True, False, True]
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float] = time.monotonic):
        self.per_s, self.burst, self.clock = per_s, burst, clock
        self._forgot_s = -math.inf
        self._buckets: dict[object, tuple[float, float]] = {}  # key -> tokens, when they were

    def take(self, key: object) -> bool:
        """Whether the key may ask once more, now; then it has a token less."""
        now = self.clock()
        if key not in self._buckets and len(self._buckets) >= MOST_KEYS:
            if now - self._forgot_s > self.burst / self.per_s:
                self._forget(now)
            key = key if len(self._buckets) < MOST_KEYS else "all others"
        tokens, since = self._buckets.get(key, (float(self.burst), now))
        tokens = min(self.burst, tokens + (now - since) * self.per_s)
        self._buckets[key] = (tokens - (tokens >= 1), now)
        return tokens >= 1

    def _forget(self, now: float) -> None:
        """Forget those whose bucket is full again."""
        self._forgot_s, full_s = now, self.burst / self.per_s
        self._buckets = {k: b for k, b in self._buckets.items() if now - b[1] < full_s}
