"""What a run of traffic recorded: when each request was scheduled, sent, answered; what follows."""

from __future__ import annotations

from dataclasses import dataclass, field

from kit.core.results import Result
from kit.core.statistics import Estimate
from kit.measurement import Conditions
from kit.plots import Picture


@dataclass(frozen=True, kw_only=True)
class TrafficResult(Result):
    """One run of traffic: seconds from its start, requests in order of their scheduled arrival."""

    url: str
    model: str | None
    loop: str  # "open", "closed", "closed with a schedule"
    arrivals: str  # "poisson", "constant", "bursts", "trace"; "users" in a closed loop
    rate: float | None  # scheduled requests per second
    users: int | None
    think_s: float
    duration_s: float  # of the arrivals
    target_s: float | None
    ttft_target_s: float | None
    tpot_target_s: float | None
    percentile: float
    timeout_s: float
    retries: int
    seed: int
    scheduled_s: tuple[float, ...] = field(repr=False)
    sent_s: tuple[float, ...] = field(repr=False)  # the first attempt; infinite: never sent
    ended_s: tuple[float, ...] = field(repr=False)  # the answer's last byte; infinite: none
    statuses: tuple[int, ...] = field(repr=False)  # HTTP's, or a negative number (`FAILURES`)
    attempts: tuple[int, ...] = field(repr=False)
    first_tokens_s: tuple[float, ...] = field(repr=False, default=())  # streams only
    tokens: tuple[int, ...] = field(repr=False, default=())  # streams only
    client_limit: float  # requests per second that the client could send at most
    client_busy_share: float
    capacity: float | None = None
    conditions: Conditions

    # Latency: n, answered, latencies_s (from the schedule; infinite without an answer),
    # corrected_s, uncorrected_s, latency_at(p), latency_estimate(p), answered_latency(p)
    # Targets: good, goodput (Estimate), offered, throughput, late_share, verdict, valid
    # Failures: status_counts -> {"200": 950, "503": 40, "timed out": 10}, refused, retried
    # Streams: ttft_s, tpot_s
    # over_time(interval_s=None) -> OverTime(start_s, offered, goodput, refused, latency_s)

    @property
    def goodput(self) -> Estimate:
        """Requests per second that met all targets."""
        raise NotImplementedError

    def plot(self) -> Picture:
        """Latency over the scheduled arrival."""
        raise NotImplementedError

    def plot_over_time(self, interval_s: float | None = None) -> Picture:
        """Offered requests and goodput over time."""
        raise NotImplementedError
