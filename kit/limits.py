"""What this machine could do at best: the roofline that every number is held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from kit.errors import BadValue, UnknownName
from kit.figures import Picture, Table, roofline
from kit.measurement import Call, Stopwatch, check_budget, measure, rounds
from kit.results import Result
from kit.units import words

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SIZES = (256, 512, 1024)  # of square matmuls on a CPU
LARGE_SIZES = (1024, 4096, 8192)  # an accelerator needs more work to be busy
PROBE = 128  # the size at which a dtype shows whether the processor has instructions for it
TRIAD_BYTES = 64_000_000  # per array: well beyond any cache that one core can use
HOPELESS = 0.2  # of float32's rate: a dtype slower than this is emulated, not computed


@dataclass(frozen=True)
class Peaks(Result):
    """The best rates seen on this machine: matmul per dtype, and memory."""

    matmul_flops_per_s: dict[str, float]
    bandwidth_bytes_per_s: float
    emulated: dict[str, float]  # dtypes without instructions here, with the FLOP/s of a probe
    device: str
    threads: int

    def ridge(self, dtype: str = "float32") -> float:
        """FLOPs per byte from which the processor, not the memory, is the limit."""
        return self._peak(dtype) / self.bandwidth_bytes_per_s

    def limit(self, flops: float, moved_bytes: float, dtype: str = "float32") -> float:
        """The most FLOP/s that work with this many FLOPs and bytes can reach from memory."""
        return min(self._peak(dtype), self.bandwidth_bytes_per_s * flops / moved_bytes)

    def share(self, flops: float, seconds: float, dtype: str = "float32") -> float:
        """The share of the processor's peak that was used (MFU for needed FLOPs).

        Raises
        ------
        BadValue
            It is over 100 %: something was counted twice, or not timed whole.
        """
        share = flops / seconds / self._peak(dtype)
        if share > 1:
            raise BadValue(
                f"{words(flops, 'FLOP')} in {words(seconds, 's')} would be {words(share, '%')} of "
                f"this machine's peak: check the count, the timing, or measure kit.peaks() again."
            )
        return share

    def _peak(self, dtype: str) -> float:
        if dtype not in self.matmul_flops_per_s:
            raise UnknownName("measured dtype", dtype, self.matmul_flops_per_s)
        return self.matmul_flops_per_s[dtype]

    def __repr__(self) -> str:
        best = ", ".join(f"{d} {words(r, 'FLOP/s')}" for d, r in self.matmul_flops_per_s.items())
        return f"{best}; memory {words(self.bandwidth_bytes_per_s, 'B/s')} ({self.device})"

    def table(self) -> Table:
        """What people see."""
        rows = [
            (f"matmul, {dtype}", words(rate, "FLOP/s"), f"{words(self.ridge(dtype))} FLOP/byte")
            for dtype, rate in self.matmul_flops_per_s.items()
        ]
        rows += [
            (f"matmul, {dtype}: avoid it here", words(rate, "FLOP/s"), "—")
            for dtype, rate in self.emulated.items()
        ]
        rows.append(("memory (triad)", words(self.bandwidth_bytes_per_s, "B/s"), ""))
        caption = (
            f"The best of many tries on {self.device} with {self.threads} "
            f"thread{'s' * (self.threads > 1)}. Ridge: the work per byte from which the "
            "processor, not the memory, is the limit."
        )
        return Table(("at best", "rate", "ridge"), rows, caption)

    def to_dict(self) -> dict[str, Any]:
        """The raw rates."""
        return asdict(self)

    def plot(self, points: Mapping[str, tuple[float, float, float]] | None = None) -> Picture:
        """The roofline, with points on it.

        Parameters
        ----------
        points
            Name -> (FLOPs, bytes moved, seconds).
        """
        placed = {n: (flops / moved, flops / s) for n, (flops, moved, s) in (points or {}).items()}
        told = "; ".join(
            f"{name} at {words(x)} FLOP/byte does {words(y, 'FLOP/s')}"
            for name, (x, y) in placed.items()
        )
        caption = f"Roofline of {self.device}: {self!r}. {told}".strip().rstrip(".") + "."
        return roofline(
            self.matmul_flops_per_s, self.bandwidth_bytes_per_s, placed, caption=caption
        )


def peaks(device: torch.device | str = "cpu", *, budget_s: float = 3.0) -> Peaks:
    """The best matmul FLOP/s per dtype and the memory's bytes/s, measured here and now.

    The best of many tries, not the median: a peak is what the machine can do when nothing
    disturbs it. A dtype that the processor lacks is probed with a small matmul and left.

    Explained in lesson 00.
    """
    check_budget(budget_s)
    watch = Stopwatch(device)
    each_s = budget_s / 10
    matmul: dict[str, float] = {}
    emulated: dict[str, float] = {}
    sizes = SIZES if watch.device.type == "cpu" else LARGE_SIZES
    probes = {n: _matmul_rate(PROBE, dtype, watch, each_s / 10) for n, dtype in DTYPES.items()}
    for name, dtype in DTYPES.items():
        if probes[name] < HOPELESS * probes["float32"]:
            emulated[name] = probes[name]
        else:
            matmul[name] = max(_matmul_rate(size, dtype, watch, each_s) for size in sizes)
    return Peaks(
        matmul_flops_per_s=matmul,
        bandwidth_bytes_per_s=_bandwidth(watch, each_s),
        emulated=emulated,
        device=str(watch.device),
        threads=torch.get_num_threads(),
    )


def _matmul_rate(size: int, dtype: torch.dtype, watch: Stopwatch, budget_s: float) -> float:
    a, b = (torch.ones(size, size, dtype=dtype, device=watch.device) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * size**3 / _best_s(lambda: torch.mm(a, b, out=out), watch, budget_s)


def _bandwidth(watch: Stopwatch, budget_s: float) -> float:
    """McCalpin's triad, a = b + s·c: two arrays are read and one is written."""
    n = TRIAD_BYTES // 4
    b, c = (torch.ones(n, device=watch.device) for _ in range(2))
    a = torch.empty_like(b)
    return 3 * 4 * n / _best_s(lambda: torch.add(b, c, alpha=2.0, out=a), watch, budget_s)


def _best_s(call: Call, watch: Stopwatch, budget_s: float) -> float:
    watch.time(call)
    return min(watch.time(call) for _ in rounds(budget_s, watch))


def layer_point(
    width: int, batch: int, device: torch.device | str = "cpu", *, budget_s: float = 0.1
) -> tuple[float, float, float]:
    """A square linear layer on the roofline: (FLOPs, least bytes moved, median seconds).

    Parameters
    ----------
    width
        Inputs and outputs of the layer, which has width² weights in float32.
    batch
        Examples that go through it at once.
    budget_s
        Seconds for the timing.

    Explained in lesson 00.
    """
    weights = torch.rand(width, width, device=device)
    inputs = torch.rand(batch, width, device=device)
    outputs = torch.empty_like(inputs)
    taken = measure(
        lambda: torch.mm(inputs, weights, out=outputs), budget_s=budget_s, device=device
    )
    moved = 4 * (weights.numel() + inputs.numel() + outputs.numel())
    return 2 * batch * width**2, moved, taken.median_s
