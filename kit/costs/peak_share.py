"""What of this machine's best rate a piece of work reaches."""

from __future__ import annotations

from kit.measurement import Peaks

DTYPES = {
    "fp32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
}  # precision -> what its matmuls compute in


def peak_share(peaks: Peaks | None, flops: float, seconds: float, precision: str) -> float | None:
    """The share of the best matmul rate in that precision; None: the rate is not known."""
    dtype = DTYPES.get(precision, "")
    if peaks is None or dtype not in peaks.matmul_flops_per_s:
        return None
    return peaks.share(flops, seconds, dtype)
