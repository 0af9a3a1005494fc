"""Traffic for a real server over HTTP: requests that arrive at random, or from users who wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kit.loadgen.traffic_result import TrafficResult


def traffic(
    url: str,
    inputs: Any = None,
    *,
    rate: float | None = None,
    users: int | None = None,
    think_s: float = 0.0,
    arrivals: str | Sequence[float] | np.ndarray = "poisson",
    duration_s: float = 2.0,
    target_s: float | None = None,
    ttft_target_s: float | None = None,
    tpot_target_s: float | None = None,
    percentile: float = 99,
    timeout_s: float = 10.0,
    deadline_s: float | None = None,
    retries: int = 0,
    model: str | None = None,
    batch_size: int = 1,
    stream: bool | None = None,
    max_tokens: int = 16,
    connections: int = 1_000,
    headers: Mapping[str, str] | None = None,
    token: str | None = None,
    seed: int = 0,
) -> TrafficResult:
    """Send requests to a server and record when each was scheduled, sent and answered.

    `rate` alone is an open loop. `users` alone is a closed loop: each user waits for the answer,
    thinks for `think_s` on average, and asks again. Both together are a closed loop with a
    schedule: `users` connections share the arrivals, and a late answer delays the next request
    (as wrk2 does). Only there `corrected_s` and `uncorrected_s` latencies differ.
    """
    raise NotImplementedError
