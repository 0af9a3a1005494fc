"""What makers of accelerators publish: limits to compute with, where there is none to measure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kit.core.errors import UnknownName
from kit.core.units import words
from kit.plots import Table

COMPUTED = "computed, not measured"


@dataclass(frozen=True)
class Accelerator:
    """The published limits of an accelerator: no work exceeds them, most stays far below.

    >>> str(published()["NVIDIA T4"])
    'NVIDIA T4 (computed, not measured)'
    """

    name: str
    flops_per_s: dict[str, float]  # dense, per dtype; tf32 is float32 with 10 bits of fraction
    bandwidth_bytes_per_s: float
    source: str
    host_bytes_per_s: float | None = None  # one direction; None: it shares the computer's memory

    def __str__(self) -> str:
        """The label of what is computed from these limits."""
        return f"{self.name} ({COMPUTED})"

    def computed_s(
        self, flops: float, moved_bytes: float, dtype: str = "float32", *, host_bytes: float = 0.0
    ) -> float:
        """The least seconds by the roofline: computed, not measured.

        Parameters
        ----------
        flops, moved_bytes
            What the work computes, and what it reads and writes in the accelerator's memory.
        dtype
            The precision of the FLOPs. PyTorch computes float32 as float32, not as tf32, unless
            you change its setting.
        host_bytes
            Copied from or to the computer's memory, before or after. Starting an operation takes
            time, too, which no datasheet gives: little work takes many times as long as this.

        Examples
        --------
        >>> t4 = published()["NVIDIA T4"]
        >>> t4.computed_s(flops=8.1e9, moved_bytes=1e6), t4.computed_s(8.1e9, 1e6, host_bytes=16e6)
        (0.001, 0.002)

        Explained in lesson 05.
        """
        if dtype not in self.flops_per_s:
            raise UnknownName(f"published rate of the {self.name}", dtype, self.flops_per_s)
        copying_s = host_bytes / self.host_bytes_per_s if self.host_bytes_per_s else 0.0
        computing_s = flops / self.flops_per_s[dtype]
        return copying_s + max(computing_s, moved_bytes / self.bandwidth_bytes_per_s)


@cache
def published() -> dict[str, Accelerator]:
    """Accelerators by name, with their published limits: the file `published_limits.toml`."""
    import tomllib  # 8 ms, which only lesson 05 needs

    text = Path(__file__).with_suffix(".toml").read_text(encoding="utf-8")
    return {name: Accelerator(name, **limits) for name, limits in tomllib.loads(text).items()}


def published_times(
    flops: float, moved_bytes: float, dtype: str = "float32", *, host_bytes: float = 0.0
) -> Table:
    """A table of the published limits, with the least time of some work: see `computed_s`."""
    rows = [
        (
            each.name,
            words(each.flops_per_s[dtype], "FLOP/s"),
            words(each.bandwidth_bytes_per_s, "B/s"),
            words(each.host_bytes_per_s, "B/s"),
            words(each.computed_s(flops, moved_bytes, dtype, host_bytes=host_bytes), "s"),
            each.source,
        )
        for each in published().values()
        if dtype in each.flops_per_s
    ]
    header = ("", f"{dtype}, dense", "memory", "host link", "least time", "source")
    return Table(header, rows, f"Least time: {COMPUTED}. Real work takes longer.")
