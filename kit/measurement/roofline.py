"""The roofline: what a machine can do at best, and how close a piece of work comes to it.

A piece of work has FLOPs and bytes that must move. It cannot take less time than its FLOPs at the
processor's peak, nor less than its bytes at the memory's peak. Its FLOPs per byte (the arithmetic
intensity) decide which of the two limits it (Williams, Waterman & Patterson, "Roofline: an
insightful visual performance model", Communications of the ACM 52, 2009).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kit import devices
from kit.core.errors import BadValue, UnknownName
from kit.core.results import Result
from kit.core.units import plural, words
from kit.plots import Picture, Table, roofline, with_doubts

NEAR_BYTES = 16_000_000  # that cores' own caches may hold, where the system does not say
# Work may be this much faster than the peak that was measured beside it. In six measurements on a
# busy machine, the best bytes/s differed by 30 % and the best FLOP/s by 3 %; the mistakes that a
# share reveals, such as a second thread or a wrong count, double a rate or more.
TOLERANCE = 1.25
LOWER = 0.9  # of the best rate: the caption names a rate below that
MEMORY, CACHE = "memory", "last cache"  # names of limits; the others are dtypes
FAR_BYTES = 192_000_000  # more come from memory, unless the last cache is very large


@dataclass(frozen=True)
class Peaks(Result):
    """The best rates measured on this machine: matmul per dtype, and memory.

    A peak is an estimate, from a short measurement that may have met a slow moment. If work turns
    out to be faster, the peak is renewed for all that this process computes from it (`newest`).

    >>> peaks = Peaks({"float32": 1e11}, 1e10, {}, device="cpu", threads=1)
    >>> peaks.ridge(), peaks.bound_s(flops=1e9, moved_bytes=1e9)  # 1 FLOP/byte: memory limits
    (10.0, 0.1)
    """

    matmul_flops_per_s: dict[str, float]
    bandwidth_bytes_per_s: float
    emulated: dict[str, float]  # dtypes without instructions of their own -> FLOP/s of a probe
    device: str
    threads: int
    cache_bytes_per_s: float | None = None  # for data that stay in the last cache
    processor: str = ""
    torch: str = ""
    shapes: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # of the best matmuls
    measured: str = ""  # the day
    budget_s: float = 0.0
    doubts: tuple[str, ...] = ()  # about the conditions of the measurement
    near_bytes: int = NEAR_BYTES  # that may move in the cores' own caches, at an unknown rate
    far_bytes: int = FAR_BYTES  # work on more than this finds nothing in the last cache
    sessions: int = 1  # undisturbed measurements in different processes, of which this is the best
    lower: str = ""  # rates of the newest measurement that were lower than the best

    @property
    def conditions(self) -> tuple[str, str, int, str]:
        """What the rates depend on."""
        return (self.processor, self.device, self.threads, self.torch)

    @property
    def newest(self) -> Peaks:
        """These peaks, with all rates that work in this process has renewed."""
        newer = RENEWED.get(self.conditions)
        return self.best_of(newer) if newer else self

    def best_of(self, newer: Peaks) -> Peaks:
        """The best rates of both: what the machine did once, it can do."""
        flops, shapes = dict(self.matmul_flops_per_s), dict(self.shapes)
        for dtype, rate in newer.matmul_flops_per_s.items():
            # Per dtype: the best float32 and the best bfloat16 may come from different sessions.
            if rate > flops.get(dtype, 0.0):
                flops[dtype], shapes[dtype] = rate, newer.shapes[dtype]
        return replace(
            newer,
            matmul_flops_per_s=flops,
            bandwidth_bytes_per_s=max(self.bandwidth_bytes_per_s, newer.bandwidth_bytes_per_s),
            cache_bytes_per_s=max(self.cache_bytes_per_s or 0, newer.cache_bytes_per_s or 0)
            or None,
            emulated={n: rate for n, rate in newer.emulated.items() if n not in flops},
            shapes=shapes,
            budget_s=max(self.budget_s, newer.budget_s),
            doubts=(),  # a disturbance lowers a rate and never raises it, so the best stands
            sessions=self.sessions + (not newer.doubts),
            lower=self._lower_in(newer),
        )

    def _lower_in(self, newer: Peaks) -> str:
        """The rates that were clearly lower in the newer measurement, as text."""
        # Each rate beside the newer one, so that one loop can compare them.
        pairs = {
            name: (rate, newer.matmul_flops_per_s.get(name), "FLOP/s")
            for name, rate in self.matmul_flops_per_s.items()
        }
        pairs[MEMORY] = (self.bandwidth_bytes_per_s, newer.bandwidth_bytes_per_s, "B/s")
        return ", ".join(
            f"{name} {words(found, unit)}"
            for name, (best, found, unit) in pairs.items()
            if found is not None and found < LOWER * best
        )

    # The ridge is where the slanting roof meets the flat one. A matmul of two 1024² matrices
    # does 170 FLOPs per byte, an addition of two vectors 1/12.
    def ridge(self, dtype: str = "float32") -> float:
        """The FLOPs per byte above which the processor, not the memory, is the limit."""
        return self._peak(dtype) / self.bandwidth_bytes_per_s

    def limit(self, flops: float, moved_bytes: float, dtype: str = "float32") -> float:
        """The most FLOP/s that work with these FLOPs and bytes from memory can reach."""
        # Two parts: bandwidth × intensity left of the ridge, the processor's peak right of it.
        return min(self._peak(dtype), self.bandwidth_bytes_per_s * flops / moved_bytes)

    def share(self, flops: float, seconds: float, dtype: str = "float32") -> float:
        """The share of the processor's peak that was used; with the needed FLOPs it is the MFU.

        Raises
        ------
        BadValue
            It is over 100 %, also after the peak was measured again: more threads computed than
            the peak had, the count is wrong, or the timing missed a part of the work.
        """
        # MFU: model FLOPs utilisation (Chowdhery et al., "PaLM", 2022, appendix B).
        return self._share(dtype, flops, seconds)

    def memory_share(self, moved_bytes: float, seconds: float) -> float | None:
        """The share of the memory's bandwidth that was used; with the needed bytes it is the MBU.

        None if the bytes are few enough to stay in the cores' own caches, whose bandwidth is not
        measured.

        Raises
        ------
        BadValue
            As for `share`. Bytes that stayed in a cache did not move.
        """
        # An unknown limit has no share.
        if math.isinf(self.bandwidth_for(moved_bytes)):
            return None
        if moved_bytes < self.far_bytes:
            return self._share(CACHE, moved_bytes - self.near_bytes, seconds)
        return self._share(MEMORY, moved_bytes, seconds)

    def limit_share(
        self, flops: float, moved_bytes: float, seconds: float, dtype: str = "float32"
    ) -> float:
        """The least time that the peaks allow ÷ the time taken: the larger of both shares."""
        used = self.share(flops, seconds, dtype)
        return max(used, self.memory_share(moved_bytes, seconds) or 0.0)

    def _share(self, limit: str, work: float, seconds: float) -> float:
        """The share of a limit. This is the one place that decides whether it is possible."""
        rate, newest = work / seconds, self.newest
        if rate > newest._rate(limit):
            from kit.measurement.peaks import measured_again

            own = measured_again(self)  # None: they are not the peaks of this machine and thread
            newest = self.newest
            # Compared with the kit's own rate: small steps must not add up to an impossible one.
            if rate > (TOLERANCE * own._rate(limit) if own else newest._rate(limit)):
                unit = _unit(limit).removesuffix("/s")
                raise impossible(
                    f"{words(work, unit)} in {words(seconds, 's')} would be "
                    f"{words(rate / newest._rate(limit), '%')} of this machine's peak"
                    f"{', also after it was measured again' if own else ''}",
                    self.threads,
                    "FLOPs" if unit == "FLOP" else "bytes",
                )
            if rate > newest._rate(limit):
                newest = RENEWED[self.conditions] = newest._raised(limit, rate)
        return rate / newest._rate(limit)

    def _raised(self, limit: str, rate: float) -> Peaks:
        if limit == MEMORY:
            return replace(self, bandwidth_bytes_per_s=rate)
        if limit == CACHE:
            return replace(self, cache_bytes_per_s=rate)
        return replace(self, matmul_flops_per_s={**self.matmul_flops_per_s, limit: rate})

    @property
    def renewals(self) -> str:
        """A sentence about the rates that work has renewed in this process; "" if there are none.

        It begins with a space, to be added to a caption.
        """
        known = [*self.matmul_flops_per_s, MEMORY, *[CACHE] * bool(self.cache_bytes_per_s)]
        pairs = {limit: (self._rate(limit), self.newest._rate(limit)) for limit in known}
        risen = "; ".join(
            f"{limit} from {words(old, _unit(limit))} to {words(new, _unit(limit))}"
            for limit, (old, new) in pairs.items()
            if new > old
        )
        return f" Peaks renewed, because work was faster: {risen}." if risen else ""

    def bandwidth_for(self, moved_bytes: float) -> float:
        """The most bytes/s at which this many bytes can move in a loop.

        A loop finds data in a cache if they fit. `near_bytes` of them may move in the cores' own
        caches (unknown rate: they count as no time), fewer than `far_bytes` in the last cache.

        For bytes between the size of the last cache and `far_bytes`, this limit is loose: some of
        them must come from memory. How long that takes at least is not known, because cores read
        from memory and from the cache at the same time, so the two times cannot be added.
        """
        if moved_bytes >= self.far_bytes:
            return self.bandwidth_bytes_per_s
        if moved_bytes <= self.near_bytes:
            return math.inf
        return self._rate(CACHE) * moved_bytes / (moved_bytes - self.near_bytes)

    def bound_s(self, flops: float, moved_bytes: float, dtype: str = "float32") -> float:
        """The least seconds that this machine needs for the work, repeated in a loop."""
        # Both limits hold at once, so the later one decides; perfect overlap is assumed.
        return max(self._least_s(flops, moved_bytes, dtype))

    def _lowest(self, flops: float, moved_bytes: float, dtype: str) -> str:
        """Which limit decides `bound_s`."""
        computing_s, moving_s = self._least_s(flops, moved_bytes, dtype)
        if computing_s >= moving_s:
            return "processor"
        return MEMORY if moved_bytes >= self.far_bytes else CACHE

    def _least_s(self, flops: float, moved_bytes: float, dtype: str) -> tuple[float, float]:
        """The least seconds for computing, and for moving the bytes."""
        peaks = self.newest
        return flops / peaks._peak(dtype), moved_bytes / peaks.bandwidth_for(moved_bytes)

    def _rate(self, limit: str) -> float:
        if limit not in (MEMORY, CACHE):
            return self._peak(limit)
        memory, cache = self.bandwidth_bytes_per_s, self.cache_bytes_per_s
        if limit == MEMORY:
            return memory
        # If the cache measured slower than memory it was disturbed; then memory is the limit.
        return max(cache, memory) if cache else math.inf  # None: it was not measured

    def _peak(self, dtype: str) -> float:
        if dtype not in self.matmul_flops_per_s:
            raise UnknownName("measured dtype", dtype, self.matmul_flops_per_s)
        return self.matmul_flops_per_s[dtype]

    def __repr__(self) -> str:
        best = ", ".join(f"{d} {words(r, 'FLOP/s')}" for d, r in self.matmul_flops_per_s.items())
        return f"{best}; memory {words(self.bandwidth_bytes_per_s, 'B/s')} ({self.device})"

    def table(self) -> Table:
        """The rates, and the ridge of each dtype."""
        rows = [
            (f"matmul, {dtype}", words(rate, "FLOP/s"), f"{words(self.ridge(dtype))} FLOP/byte")
            for dtype, rate in self.matmul_flops_per_s.items()
        ]
        rows += [
            (f"matmul, {dtype}: avoid it here", words(rate, "FLOP/s"), "—")
            for dtype, rate in self.emulated.items()
        ]
        if self.cache_bytes_per_s:
            rows.append(("last cache", words(self.cache_bytes_per_s, "B/s"), ""))
        rows.append(("memory", words(self.bandwidth_bytes_per_s, "B/s"), ""))
        caption = (
            f"The best of many tries on {self.device} with "
            f"{plural(self.threads, 'thread')}{self.measured and f', {self.measured}'}. Ridge: "
            "above this work per byte, the processor is the limit; below it, the memory."
        )
        if self.sessions > 1:
            caption += f" The best of {self.sessions} sessions."
        if self.lower:
            caption += (
                f" The newest measurement was lower for {self.lower}; the best rates are kept."
            )
        caption += self.renewals
        return Table(("at best", "rate", "ridge"), rows, *with_doubts(caption, self.doubts))

    def to_dict(self) -> dict[str, Any]:
        """The raw rates."""
        return asdict(self)

    def plot(
        self,
        points: Mapping[str, tuple[float, float, float]] | None = None,
        dtype: str = "float32",
    ) -> Picture:
        """The roofline, with points on it.

        Data that stay in the last cache move faster than data from memory: they have a roof of
        their own, drawn dashed. For data that may stay in the cores' own caches no slanting roof
        is known: such a point is hollow, and only the flat roof limits it. The caption names the
        limit that is the lowest for each point.

        Parameters
        ----------
        points
            Name -> (FLOPs, bytes moved, seconds).
        dtype
            The precision in which they computed.

        Raises
        ------
        BadValue
            A point lies above a roof, which no work can.
        """
        given = points or {}
        shares = {name: self.limit_share(*point, dtype) for name, point in given.items()}
        # x is the intensity (FLOPs per byte), y the rate (FLOP/s).
        placed = {name: (flops / moved, flops / s) for name, (flops, moved, s) in given.items()}
        near = {name for name, (_, moved, _) in given.items() if moved <= self.near_bytes}
        reached = "; ".join(
            f"{name} reaches {words(shares[name], '%')} of what the "
            f"{self._lowest(*given[name][:2], dtype)} allows"
            for name in placed
        )
        caption = f"Roofline of {self.device}. {reached}." if placed else f"Roofline of {self!r}."
        if near:
            caption += (
                f" Hollow: at most {words(self.near_bytes, 'B')}, which may move in the cores' own "
                f"caches: no sloping line limits them."
            )
        caption += self.renewals
        positions = [
            f"{name} at {words(x)} FLOP/byte does {words(y, 'FLOP/s')}"
            for name, (x, y) in placed.items()
        ]
        if any(self.near_bytes < moved < self.far_bytes for _, moved, _ in given.values()):
            near_by = words(self.near_bytes, "B")
            positions.append(
                f"up to {near_by} may lie in the cores' own caches and count as no time"
            )
        newest = self.newest
        return roofline(
            newest.matmul_flops_per_s,
            newest.bandwidth_bytes_per_s,
            placed,
            cache=newest.cache_bytes_per_s,
            hollow=near,
            caption=caption,
            details=f"{self!r}. {'; '.join(positions)}".removesuffix(". ") + ".",
        )


RENEWED: dict[tuple[str, str, int, str], Peaks] = {}  # by conditions, in this process


def impossible(fact: str, threads: int, counted: str) -> BadValue:
    """The error for work that was faster than the machine allows, with its likely causes."""
    many = plural(threads, "thread")
    if (now := devices.threads_here()) != threads:
        many += f", and this thread uses {now}"
    return BadValue(
        f"{fact}. No work is faster than its limit: check that no more threads computed than "
        f"the limit's ({many}), that the {counted} are counted right, and that the clock was "
        f"read after the work had ended."
    )


def _unit(limit: str) -> str:
    return "B/s" if limit in (MEMORY, CACHE) else "FLOP/s"
