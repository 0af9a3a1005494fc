"""Measure a machine's peaks with matmuls of many shapes and with long arrays, and save them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import date
from pathlib import Path

import torch
from torch import Tensor
from torch.backends import mkldnn
from torch.nn.functional import linear

from kit import devices
from kit.core.checks import check_budget
from kit.core.errors import DeviceUnavailable
from kit.core.files import atomic_write, cache_folder, read_file
from kit.measurement.conditions import Observer
from kit.measurement.roofline import FAR_BYTES, NEAR_BYTES, RENEWED, Peaks
from kit.measurement.stopwatch import Call, Stopwatch, rounds
from kit.measurement.timing import measure

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# (rows, inner, columns). Which shape is best depends on the sizes of caches and vector units, so
# several are tried.
CPU_SHAPES = [(n, n, n) for n in (256, 384, 512, 1024)] + [(1024, 256, 1024)]
# An accelerator needs more work to keep all its cores busy.
LARGE_SHAPES = [(n, n, n) for n in (1024, 2048, 4096, 8192)] + [(8192, 1024, 8192)]
PROBE = (128, 128, 128)  # a small matmul shows whether a dtype has instructions of its own
PASSES = 3  # over everything: a slow moment of the machine does not last for all three
SESSIONS = 5  # undisturbed measurements, each in its own process, until the peaks are final
IN_A_ROW = 10  # calls per timing on an accelerator, so that waiting for it hardly counts
EMULATED = 0.2  # of float32's rate: a slower dtype is emulated with other instructions
PAGE = 4096
METHOD = 4  # of measuring: saved peaks of another method are not read


def peaks(
    device: torch.device | str = "cpu", *, budget_s: float = 3.0, again: bool = False
) -> Peaks:
    """The best matmul FLOP/s per dtype and the memory's bytes/s of this machine.

    They are the best of many tries, not the median: a peak is what the machine can do when
    nothing disturbs it. A dtype that the processor emulates gets a small probe only. On CPUs two
    libraries multiply float32, because PyTorch's own choice may leave half of a processor idle.

    Undisturbed measurements are saved for this processor, number of threads and PyTorch. The
    first five processes measure, and the best of all is saved; later ones read it.

    Parameters
    ----------
    device
        The device to measure.
    budget_s
        Seconds for the measurement. Saved peaks that had less time are not used.
    again
        Measure although there are saved peaks, for example because the machine was busy then.
        This can raise the saved rates but never lowers them; the caption names lower ones. To
        start over after a change of the machine, delete the folder `peaks` in the kit's cache.

    Explained in lesson 05.
    """
    check_budget(budget_s)
    watch = Stopwatch(device)
    name = devices.backend_of(watch.device).name
    # Measuring takes seconds, so every process after the fifth only reads a file.
    before = saved_peaks(name, watch.device)
    if before and not again and before.budget_s >= budget_s and _final(before):
        return before
    found = _measured(watch, name, budget_s)
    # A later measurement may only raise a peak: see `Peaks.best_of`.
    if before:
        found = before.best_of(found)
    if not found.doubts:  # a busy machine shows lower rates than it can do: do not save them
        save_peaks(found)
        _asked.add(found.conditions)
    return found


_asked: set[tuple[str, str, int, str]] = set()  # conditions under which this process has measured


_again: dict[tuple[str, str, int, str], Peaks] = {}  # found when work was faster than the peaks


def measured_again(known: Peaks) -> Peaks | None:
    """A new measurement, which renews these peaks; None if they are not those of this thread.

    A process makes one under the same conditions: an impossible share may be asked for often.
    """
    try:
        name = devices.backend_of(devices.check_present(known.device)).name
    except DeviceUnavailable:
        return None
    here = (name, known.device, devices.threads_here(), torch.__version__)
    if here != known.conditions:
        return None
    if here not in _again:
        _again[here] = RENEWED[here] = peaks(known.device, budget_s=known.budget_s, again=True)
    return _again[here]


def _final(peaks: Peaks) -> bool:
    """Whether this process has measured already, or enough others have."""
    return peaks.sessions >= SESSIONS or peaks.conditions in _asked


def _measured(watch: Stopwatch, name: str, budget_s: float) -> Peaks:
    """The best rates of a few passes over all dtypes, shapes and arrays."""
    observer = Observer(watch)
    shapes = CPU_SHAPES if devices.backend_of(watch.device).is_cpu else LARGE_SHAPES
    # An equal share for each shape and dtype, and two for the arrays.
    each_s = budget_s / (PASSES * (len(shapes) * len(DTYPES) + 2))
    # A dtype without instructions of its own can take seconds for a large matmul.
    probes = {n: _matmul_rate(PROBE, dtype, watch, each_s / 10) for n, dtype in DTYPES.items()}
    native = {n: t for n, t in DTYPES.items() if probes[n] >= EMULATED * probes["float32"]}
    rates: dict[tuple[str, tuple[int, int, int]], float] = {}  # the best FLOP/s
    near_bytes, cache_array, far_bytes = _array_bytes(watch.device)
    memory = cache = 0.0
    # Allocated once: touching a large array for the first time takes longer than adding to it.
    far, middle = (_two_arrays(total, watch.device) for total in (far_bytes, cache_array))
    # Dtypes and memory take turns, so that a slow moment does not hit all tries of one.
    for _ in range(PASSES):
        for label, dtype in list(native.items()):
            for shape in shapes:
                rate = _matmul_rate(shape, dtype, watch, each_s)
                rates[label, shape] = max(rate, rates.get((label, shape), 0.0))
                # A probe on a busy machine can be wrong, and float32 is the first dtype.
                if rates[label, shape] < EMULATED * rates["float32", shape]:
                    del native[label]
                    break
        memory = max(memory, _bandwidth(*far, watch, each_s))
        cache = max(cache, _bandwidth(*middle, watch, each_s))
    best = {
        each: max((r, shape) for (n, shape), r in rates.items() if n == each) for each in native
    }
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
        near_bytes=near_bytes,
        far_bytes=far_bytes,
    )


def _array_bytes(device: torch.device) -> tuple[int, int, int]:
    """Bytes that may move in cores' own caches; of an array in the last cache; of one in memory.

    Cores' caches hold a number once, but work may read it and write it there: its bytes count
    twice. An array in memory has three times the bytes of all caches, at least 192 MB, and at
    most a quarter of the free memory: a machine that starts swapping measures its disk.
    """
    held = None
    if devices.backend_of(device).is_cpu:
        held = devices.cache_bytes(devices.threads_here())
    own, caches = held or (NEAR_BYTES // 2, FAR_BYTES // 3)
    far_bytes = max(FAR_BYTES, min(3 * caches, devices.memory_left() // 4))
    return 2 * own, int((own * caches) ** 0.5), far_bytes


def _matmul_rate(
    shape: tuple[int, int, int], dtype: torch.dtype, watch: Stopwatch, budget_s: float
) -> float:
    rows, inner, columns = shape
    # Random numbers, not ones: a GPU draws less power for ones and multiplies them faster.
    a = torch.randn(rows, inner, device=watch.device).to(dtype)
    b = torch.randn(inner, columns, device=watch.device).to(dtype)
    # A result that exists: allocating it would be part of the time.
    out = torch.empty(rows, columns, dtype=dtype, device=watch.device)
    calls: list[Call] = [lambda: torch.mm(a, b, out=out)]
    on_cpu = devices.backend_of(watch.device).is_cpu
    if on_cpu and dtype == torch.float32 and mkldnn.is_available():
        # `mm` calls MKL, which takes narrow instructions on AMD's processors. Tensors in oneDNN's
        # layout go to oneDNN, which takes the wide ones.
        x, weights = a.to_mkldnn(), b.T.contiguous().to_mkldnn()
        calls.append(lambda: linear(x, weights))
    fastest_s = min(_best_s(call, watch, budget_s / len(calls)) for call in calls)
    return 2 * rows * inner * columns / fastest_s  # a multiplication and an addition each


def _two_arrays(total_bytes: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Two arrays of ones with about that many bytes together."""
    # Whole pages: where two arrays are not aligned alike, a dot product can take six times as long.
    n = -(-total_bytes // (2 * PAGE)) * PAGE // 4
    x, y = torch.ones(2, n, device=device)
    return x, y


def _bandwidth(x: Tensor, y: Tensor, watch: Stopwatch, budget_s: float) -> float:
    """Bytes per second: the better of an addition in place and of reading alone.

    Counted are the bytes that the work has to read and write. A processor may move more: before it
    writes a result to a new place, it reads the line of memory that it overwrites, so the triad
    of STREAM (McCalpin, 1995) shows a lower rate. In place, that line is an input: nothing is
    hidden, and reading and writing overlap. Work that moves its bytes faster than this limit would
    have a share over 100 %.
    """
    n = len(x)
    adding_s = _best_s(lambda: x.add_(y), watch, budget_s / 2)
    reading_s = _best_s(lambda: torch.dot(x, y), watch, budget_s / 2)
    # In place: two numbers are read and one is written, in 4 bytes each.
    return max(3 * 4 * n / adding_s, 2 * 4 * n / reading_s)


def _best_s(call: Call, watch: Stopwatch, budget_s: float) -> float:
    """Seconds of the fastest call: noise only ever makes a call slower."""
    # On the CPU single calls: the fastest one is the least disturbed.
    block = 1 if devices.backend_of(watch.device).is_cpu else IN_A_ROW
    # Once untimed: the first call allocates and fills the caches.
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
        Examples in the batch.
    budget_s
        Seconds for the timing.

    Explained in lesson 05.
    """
    weights = torch.rand(width, width, device=device)
    inputs = torch.rand(batch, width, device=device)
    outputs = torch.empty_like(inputs)
    taken = measure(
        lambda: torch.mm(inputs, weights, out=outputs), budget_s=budget_s, device=device
    )
    # At least: each number is read or written once, in 4 bytes.
    moved = 4 * (weights.numel() + inputs.numel() + outputs.numel())
    return 2 * batch * width**2, moved, taken.median_s


def saved_peaks(processor: str, device: torch.device) -> Peaks | None:
    """The peaks saved for this processor, device, threads and PyTorch; None if there are none."""
    path = _path(processor, str(device), torch.get_num_threads(), torch.__version__)
    # A missing or damaged file, or one of another version of the kit, counts as none:
    with suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
        raw = json.loads(read_file(path))
        raw["shapes"] = {name: tuple(shape) for name, shape in raw["shapes"].items()}
        raw["budget_s"] = float(raw["budget_s"])
        return Peaks(**{**raw, "doubts": tuple(raw["doubts"])})
    return None


def save_peaks(peaks: Peaks) -> None:
    """Save the peaks in the user's cache; without a writable cache nothing is saved."""
    path = _path(peaks.processor, peaks.device, peaks.threads, peaks.torch)
    with suppress(OSError), atomic_write(path) as draft:
        draft.write_text(json.dumps(peaks.to_dict()), encoding="utf-8")


def _path(processor: str, device: str, threads: int, version: str) -> Path:
    name = f"{processor} {device} {threads} torch {version} {METHOD}"
    return cache_folder() / "peaks" / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.json"
