"""What a run of traffic recorded: when each request was due, sent and answered; what follows."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from kit.core.statistics import Estimate, average, proportion
from kit.core.units import words
from kit.loadgen.http_answers import FAILURES, NOT_SENT
from kit.loadgen.latency_result import InTime, Latencies
from kit.loadgen.latency_statistics import mean_estimate, queue_inflation, value_inflation
from kit.measurement import Conditions

LAG_SHARE = 0.1  # of the median latency: more of it by the client is worth a doubt
PARTS = 40  # of a run: enough to show if slow moments come together
HIGHEST_LOAD = 0.98  # nearer to 1, theory asks for more requests than any run has


@dataclass(frozen=True, kw_only=True)
class TrafficTimes(InTime):
    """One run of traffic: seconds from its start, requests in the order in which they were due."""

    url: str
    model: str | None
    loop: str  # "open", "closed", or "closed with a schedule"
    arrivals: str  # "poisson", "constant", "bursts", "trace"; "users" where they set the pace
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
    batch_size: int  # rows in each request
    seed: int
    scheduled_s: Sequence[float] = field(repr=False)
    sent_s: Sequence[float] = field(repr=False)  # the first attempt
    ended_s: Sequence[float] = field(repr=False)  # an answer's last byte; infinite: no answer
    statuses: Sequence[int] = field(repr=False)  # HTTP's, or a negative number of `FAILURES`
    attempts: Sequence[int] = field(repr=False)  # 1, and more if it was retried
    first_tokens_s: Sequence[float] = field(repr=False, default=())  # streams only
    tokens: Sequence[int] = field(repr=False, default=())  # of completions
    client_limit: float  # requests per second that this client can send at most
    client_busy_share: float  # of the run's time, by its processor time
    capacity: Estimate | None = None  # requests per second of the server, if it is known
    conditions: Conditions
    scenario = "traffic"
    counted = "requests"
    longer = "duration_s"

    # --- Latency ---------------------------------------------------------------------------------

    @property
    def answered(self) -> int:
        """Requests with a good answer: a status from 200 to 299, whole, before the time-out."""
        return int(self._ok.sum())

    @cached_property
    def latencies_s(self) -> Sequence[float]:
        """From the scheduled arrival to the last byte; infinite without a good answer.

        In a closed loop without a schedule a request is due when its user is ready to send it.
        """
        return self._since(self.scheduled_s)

    @property
    def corrected(self) -> Latencies | None:
        """The run by a clock that starts when a request was due; None without a schedule."""
        return None if self.loop == "closed" else self

    @cached_property
    def uncorrected(self) -> Latencies:
        """The same run by a clock that starts when a request was sent.

        In a closed loop with a schedule, a slow answer keeps its user from sending the next
        request, and this clock does not see that: "coordinated omission" (Tene, 2013).
        """
        return SinceSending(self._since(self.sent_s))

    @property
    def answered_latencies_s(self) -> tuple[float, ...]:
        """The latencies of the requests with a good answer alone."""
        return tuple(np.array(self.latencies_s)[self._ok].tolist())

    def _since(self, begins_s: Sequence[float]) -> Sequence[float]:
        ends = np.where(self._ok, self.ended_s, math.inf)
        return array("d", (ends - np.array(begins_s)).tobytes())

    @cached_property
    def _ok(self) -> np.ndarray:
        statuses = np.array(self.statuses)
        return np.asarray((statuses >= 200) & (statuses < 300))

    @cached_property
    def inflation(self) -> float:
        """As for any scenario, and at least what theory says of a queue at this load."""
        found = super().inflation
        if self.load is None:
            return found
        return max(found, queue_inflation(min(self.load.high, HIGHEST_LOAD)))

    @property
    def load(self) -> Estimate | None:
        """The scheduled rate ÷ the capacity; None if one of them is unknown."""
        if self.capacity is None or self.rate is None:
            return None
        return (self.rate / self.capacity).with_unit("%")

    @property
    def arrivals_duration_s(self) -> float:
        """How long requests arrived."""
        return self.duration_s

    # --- Targets ---------------------------------------------------------------------------------

    def met_from(self, moment_s: float) -> Estimate:
        """The share of the requests due from a moment on that met every target."""
        met = self.met[np.array(self.scheduled_s) >= moment_s]
        worth = value_inflation(met.astype(float))
        return proportion(float(met.sum()) / worth, len(met) / worth)

    @cached_property
    def met(self) -> np.ndarray:
        """(n,) whether each request met every target that was given."""
        met = self._ok.copy()
        for values, target in (
            (self.latencies_s, self.target_s),
            (self.ttft_s, self.ttft_target_s),
            (self.tpot_s, self.tpot_target_s),
        ):
            if target is not None:
                met &= np.array(values, dtype=float) <= target
        return met

    @property
    def goodput(self) -> Estimate:
        """Requests per second that met all targets; 95 % interval for requests that depend.

        In an open loop the schedule decides how many requests come, so only the share that met
        the targets is uncertain. In a closed loop the answers decide: their rate in each part of
        the run counts.
        """
        if self.loop == "closed":
            return self._good_per_part
        share, worth = mean_estimate(self.met, value_inflation(self.met)), self.offered
        low, high = max(0.0, share.low), min(1.0, share.high)
        return Estimate(share.value * worth, low * worth, high * worth, "requests/s")

    @property
    def _good_per_part(self) -> Estimate:
        """The mean over equal parts of the run: good answers per second."""
        good = np.array(self.ended_s)[self.met]
        counts, _ = np.histogram(good, PARTS, (0, self.duration_s))
        rates = counts * PARTS / self.duration_s
        return mean_estimate(rates, value_inflation(rates)).with_unit("requests/s")

    @property
    def offered(self) -> float:
        """Requests per second that were due."""
        return self.n / self.duration_s

    @property
    def throughput(self) -> float:
        """Good answers per second, of those that came while requests still arrived."""
        within = self._ok & (np.array(self.ended_s) <= self.duration_s)
        return int(within.sum()) / self.duration_s

    @property
    def throughput_estimate(self) -> Estimate:
        """`throughput` with the 95 % interval of ten parts of the run; the first begins empty.

        With users who do not think, and enough of them to keep the server busy, it is the
        server's capacity.
        """
        ended = np.array(self.ended_s)[self._ok]
        rates = np.histogram(ended, 10, (0, self.duration_s))[0][1:] * 10 / self.duration_s
        spread = average(float(rates.sum()), float(rates @ rates), len(rates))
        seen = self.throughput
        low, high = max(0.5 * seen, spread.low), max(spread.high, seen)
        return Estimate(seen, min(low, seen), high, "requests/s")

    # --- Streams ---------------------------------------------------------------------------------

    @property
    def streamed(self) -> bool:
        """Whether the answers were streams of tokens."""
        return bool(self.first_tokens_s)

    @property
    def ttft_s(self) -> tuple[float, ...]:
        """Time to first token, from the scheduled arrival; infinite without one. Streams only."""
        if not self.streamed:
            return ()
        first = np.where(self._ok, self.first_tokens_s, math.inf)
        return tuple((first - np.array(self.scheduled_s)).tolist())

    @property
    def tpot_s(self) -> tuple[float, ...]:
        """Time per output token after the first: (latency − TTFT) ÷ (tokens − 1).

        Infinite without a good answer, 0 where there is one token.
        """
        if not self.streamed:
            return ()
        rest = np.where(self._ok, self.ended_s, math.inf)
        rest[self._ok] -= np.array(self.first_tokens_s)[self._ok]
        gaps = np.array(self.tokens) - 1
        several = self._ok & (gaps > 0)
        rest[self._ok & ~several] = 0.0
        rest[several] /= gaps[several]
        return tuple(rest.tolist())

    @property
    def tokens_per_s(self) -> float:
        """Tokens of good answers per second."""
        until = max([self.duration_s, *np.array(self.ended_s)[self._ok].tolist()])
        return int(np.array(self.tokens or (0,))[self._ok].sum() if self.tokens else 0) / until

    # --- What went wrong -------------------------------------------------------------------------

    @property
    def status_counts(self) -> dict[str, int]:
        """Status, or what happened instead of an answer -> requests, the most frequent first."""
        counts = Counter(FAILURES.get(status, str(status)) for status in self.statuses)
        return dict(counts.most_common())

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return self.n - self.answered

    @property
    def refused(self) -> int:
        """Requests that the server refused because it was full: 503 or 429."""
        return sum(status in (429, 503) for status in self.statuses)

    @property
    def retried(self) -> int:
        """Attempts beyond the first of each request: traffic that the arrivals do not show."""
        return sum(self.attempts) - sum(attempts > 0 for attempts in self.attempts)

    @property
    def lag_s(self) -> Sequence[float]:
        """How late the client sent each request of an open loop."""
        return array("d", np.subtract(self.sent_s, self.scheduled_s).tobytes())

    @property
    def doubts(self) -> tuple[str, ...]:
        """What a reader should know before believing the numbers."""
        targeted = self.target_s is not None and self.rate is not None
        found = list(super().doubts) if targeted else list(self.conditions.doubts)
        lag, latency = (float(np.median(x)) for x in (self.lag_s, self.latencies_s))
        if self.loop == "open" and lag > LAG_SHARE * latency:
            found.insert(0, f"the client sent half of the requests {words(lag, 's')} late or more")
        if unsent := sum(status == NOT_SENT for status in self.statuses):
            found.insert(0, f"{unsent:,} requests were not sent: all connections were in use")
        return tuple(found)


class SinceSending(Latencies):
    """The latencies of the same requests by a clock that starts when each was sent."""

    counted, longer, scenario = "requests", "duration_s", "traffic"

    def __init__(self, times_s: Sequence[float]):
        self._times_s = times_s

    @property
    def latencies_s(self) -> Sequence[float]:
        """From sending to the last byte; infinite without a good answer."""
        return self._times_s
