"""Finding a machine's peaks: matmuls of many shapes, and long arrays."""

from __future__ import annotations

from datetime import date

import torch
from torch.backends import mkldnn
from torch.nn.functional import linear

from kit import devices
from kit.core.checks import check_budget
from kit.measurement.conditions import Observer
from kit.measurement.peaks_cache import keep, kept
from kit.measurement.roofline import FAR_BYTES, NEAR_BYTES, Peaks
from kit.measurement.stopwatch import Call, Stopwatch, rounds
from kit.measurement.timing import measure

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# (rows, inner, columns). The best one differs: caches hold so much, units are so wide.
CPU_SHAPES = [(n, n, n) for n in (256, 384, 512, 1024)] + [(1024, 256, 1024)]
# An accelerator needs more work to be busy.
LARGE_SHAPES = [(n, n, n) for n in (1024, 2048, 4096, 8192)] + [(8192, 1024, 8192)]
PROBE = (128, 128, 128)  # shows whether the processor has instructions for a dtype
PASSES = 3  # in one measurement, spaced: a slow moment of the machine does not last for all
SESSIONS = 5  # calm measurements, each in a process of its own, until the kept peaks are final
IN_A_ROW = 10  # calls on an accelerator: waiting for it must not count as its work
HOPELESS = 0.2  # of float32's rate: a dtype slower than this is emulated, not computed


def peaks(
    device: torch.device | str = "cpu", *, budget_s: float = 3.0, again: bool = False
) -> Peaks:
    """The best matmul FLOP/s per dtype and the memory's bytes/s of this machine.

    The best of many tries, not the median: a peak is what the machine can do when nothing
    disturbs it. A dtype that the processor lacks is probed with a small matmul and left. On CPUs
    two libraries multiply float32, since the one that PyTorch takes by itself may leave half of
    a processor idle. What was found while nothing disturbed is kept for this processor, number of
    threads and PyTorch. The first five processes that ask measure, and the best of all is kept;
    after that it is read.

    Parameters
    ----------
    device
        Whose peaks.
    budget_s
        Seconds for finding them; kept ones that were given less time are not taken.
    again
        Measure even if there are kept ones: the machine may have been busy then. It raises what
        is kept and never lowers it; what came out lower stands in the caption. To start afresh,
        for instance after a change of the machine, delete the folder `peaks` in the kit's cache.

    Explained in lesson 00.
    """
    check_budget(budget_s)
    watch = Stopwatch(device)
    name = devices.backend_of(watch.device).name
    before = kept(name, watch.device)
    if before and not again and before.budget_s >= budget_s and _final(before):
        return before
    found = _measured(watch, name, budget_s)
    if before:
        found = before.best_of(found)
    if not found.doubts:  # what a busy machine seemed able to do is not what it can do
        keep(found)
        _asked.add(_conditions(found))
    return found


_asked: set[tuple[str, ...]] = set()  # conditions under which this process has measured


def _conditions(peaks: Peaks) -> tuple[str, ...]:
    return (peaks.processor, peaks.device, str(peaks.threads), peaks.torch)


def _final(peaks: Peaks) -> bool:
    """Whether this process measured already, or enough others did."""
    return peaks.sessions >= SESSIONS or _conditions(peaks) in _asked


def _measured(watch: Stopwatch, name: str, budget_s: float) -> Peaks:
    """The best rates of a few passes over everything."""
    observer = Observer(watch)
    shapes = CPU_SHAPES if devices.backend_of(watch.device).is_cpu else LARGE_SHAPES
    each_s = budget_s / (PASSES * (len(shapes) * len(DTYPES) + 2))
    probes = {n: _matmul_rate(PROBE, dtype, watch, each_s / 10) for n, dtype in DTYPES.items()}
    native = {n: t for n, t in DTYPES.items() if probes[n] >= HOPELESS * probes["float32"]}
    best = dict.fromkeys(native, (0.0, PROBE))
    far_bytes = _far_bytes()
    memory = cache = 0.0
    for _ in range(PASSES):
        for label, dtype in native.items():
            rates = [(_matmul_rate(shape, dtype, watch, each_s), shape) for shape in shapes]
            best[label] = max(best[label], *rates)
        memory = max(memory, _bandwidth(far_bytes, watch, each_s))
        cache = max(cache, _bandwidth(NEAR_BYTES, watch, each_s))
    return Peaks(
        matmul_flops_per_s={label: rate for label, (rate, _) in best.items()},
        bandwidth_bytes_per_s=memory,
        cache_bytes_per_s=cache,
        emulated={label: rate for label, rate in probes.items() if label not in native},
        device=str(watch.device),
        threads=devices.threads_here(),
        processor=name,
        torch=torch.__version__,
        shapes={label: shape for label, (_, shape) in best.items()},
        measured=date.today().isoformat(),
        budget_s=budget_s,
        doubts=observer.conditions().doubts,
        far_bytes=far_bytes,
    )


def _far_bytes() -> int:
    """Bytes that no cache of this machine holds: three times its last one, at least 192 MB."""
    wanted = max(FAR_BYTES, 3 * (devices.last_cache_bytes() or 0))
    return max(FAR_BYTES, min(wanted, devices.memory_left() // 4))


def _matmul_rate(
    shape: tuple[int, int, int], dtype: torch.dtype, watch: Stopwatch, budget_s: float
) -> float:
    rows, inner, columns = shape
    # Not ones: a GPU draws less power for them, and multiplies them faster than numbers in use.
    a = torch.randn(rows, inner, device=watch.device).to(dtype)
    b = torch.randn(inner, columns, device=watch.device).to(dtype)
    out = torch.empty(rows, columns, dtype=dtype, device=watch.device)
    calls: list[Call] = [lambda: torch.mm(a, b, out=out)]
    on_cpu = devices.backend_of(watch.device).is_cpu
    if on_cpu and dtype == torch.float32 and mkldnn.is_available():
        # `mm` calls MKL, which on AMD's processors takes the narrow instructions. What lies in
        # oneDNN's layout goes to oneDNN, which takes the wide ones.
        x, weights = a.to_mkldnn(), b.T.contiguous().to_mkldnn()
        calls.append(lambda: linear(x, weights))
    fastest_s = min(_best_s(call, watch, budget_s / len(calls)) for call in calls)
    return 2 * rows * inner * columns / fastest_s


def _bandwidth(total_bytes: int, watch: Stopwatch, budget_s: float) -> float:
    """The better of McCalpin's triad and of reading alone.

    The triad, a = b + s·c, reads two arrays and writes one (STREAM, 1995). To write, many
    processors first read; work that only reads, as a layer does with its weights, can then move
    its bytes faster than the triad, and no share may come out over 100 %.
    """
    n = total_bytes // (6 * 4)  # both ways use the same bytes, so both find them in the same place
    block = torch.ones(6 * n, device=watch.device)
    a, b, c = block.view(3, 2 * n)
    triad_s = _best_s(lambda: torch.add(b, c, alpha=2.0, out=a), watch, budget_s / 2)
    x, y = block.view(2, 3 * n)
    reading_s = _best_s(lambda: torch.dot(x, y), watch, budget_s / 2)
    return 4 * block.numel() / min(triad_s, reading_s)


def _best_s(call: Call, watch: Stopwatch, budget_s: float) -> float:
    block = 1 if devices.backend_of(watch.device).is_cpu else IN_A_ROW
    watch.time(call)
    return min(watch.time(call, block) for _ in rounds(budget_s, watch)) / block


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
