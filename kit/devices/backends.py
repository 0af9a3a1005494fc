"""One class per type of device: what it can do, and how PyTorch is asked for it.

Backend    any accelerator that PyTorch knows, by the calls that PyTorch has for all of them
├─ CPU     the processor that runs Python; nothing to wait for
├─ CUDA    GPUs of NVIDIA, and of AMD (PyTorch calls ROCm by the same name)
├─ MPS     GPUs of Apple
├─ XPU     GPUs of Intel
├─ TPU     Google's, by `torch_tpu`
└─ XLA     Google's, by the older `torch_xla`: it computes only when it is asked to

`Backend` stands in `backend.py`, the last two in `tpu.py`. No other file of the kit looks at a
device's type. To add one, write a class here with the answers that differ and add it to `BACKENDS`.
Code outside the kit can do the same with `kit.devices.register`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from kit.devices import processor
from kit.devices.backend import Backend as Backend
from kit.devices.backend import Counter
from kit.devices.tpu import TPU, XLA


class CPU(Backend):
    """The processor that runs Python. A call has done its work when it returns."""

    is_cpu = True
    fused_adamw = True
    energy_source = "processor (RAPL)"

    @property
    def name(self) -> str:
        """What its maker calls it."""
        return processor.model()

    def count(self) -> int:
        """All cores together are one device."""
        return 1

    def lacks_dtype(self, dtype: torch.dtype) -> str:
        """Many processors only emulate float16, which PyTorch does without a warning."""
        if dtype != torch.float16 or processor.multiplies_float16():
            return ""
        return "this processor has no instructions for float16, and takes tens of times as long"

    def lacks_compiler(self) -> str:
        """The programs that `torch.compile` writes for processors are in C++."""
        if any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
            return ""
        return "it needs a C++ compiler (g++ or clang++), and none is installed"

    def synchronise(self) -> None:
        """Nothing to wait for."""

    def clock_hz(self) -> float | None:
        """Virtual machines often do not tell; each system raises its own error."""
        import psutil  # here, because most programs that import the kit never ask

        return 1e6 * psutil.cpu_freq().current

    def energy_counters(self) -> list[Counter]:
        """One counter per processor package."""
        return processor.rapl_counters()


class CUDA(Backend):
    """A GPU of NVIDIA or AMD."""

    fused_adamw = True
    counts_memory = True
    captures_graphs = True
    energy_source = "GPU (NVML)"

    @property
    def name(self) -> str:
        """What its maker calls it."""
        return torch.cuda.get_device_name(self.device)

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of memory on the device itself."""
        return torch.cuda.get_device_properties(self.device).total_memory

    def timing_event(self) -> Any:
        """Waiting for the GPU costs some 10 µs. Events leave that out of a block of calls."""
        return torch.cuda.Event(enable_timing=True)

    def record(self, event: Any) -> None:
        """By itself, an event goes into the queue of the current GPU, which may be another one."""
        event.record(torch.cuda.current_stream(self.device))

    def clock_hz(self) -> float | None:
        """Many GPUs do not tell, and raise an error."""
        return 1e6 * torch.cuda.clock_rate(self.device)

    def energy_counters(self) -> list[Counter]:
        """The GPU's own counter, if NVIDIA's library for Python is installed."""
        try:
            import pynvml

            pynvml.nvmlInit()
            uuid = str(torch.cuda.get_device_properties(self.device).uuid)
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except Exception:  # no such library, driver or counter: it cannot be read
            return []
        return [(lambda: 1e-3 * pynvml.nvmlDeviceGetTotalEnergyConsumption(handle), 0.0)]

    def empty_cache(self) -> None:
        """Give back memory that only PyTorch's allocator holds."""
        torch.cuda.empty_cache()

    def capture(self, call: Callable[[], Tensor], restore: Callable[[], Any]) -> tuple[Any, Tensor]:
        """As a CUDA graph.

        First calls set up libraries and memory, which a graph cannot contain: make them before.
        """
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for _ in range(3):
                call()
                restore()
        here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = call()
        return graph, output


class MPS(Backend):
    """A GPU of Apple."""

    known_wrong = True
    fused_adamw = True


class XPU(Backend):
    """A GPU of Intel."""

    fused_adamw = True

    @property
    def name(self) -> str:
        """What its maker calls it."""
        return str(torch.xpu.get_device_name(self.device))


BACKENDS: dict[str, type[Backend]] = {
    "cpu": CPU,
    "cuda": CUDA,
    "mps": MPS,
    "xpu": XPU,
    "tpu": TPU,
    "xla": XLA,
}


_lazy_types: set[str] = set()  # of devices that this program has used


def start_work(result: object) -> None:
    """Have a lazy device begin what was noted for this tensor; on others it has begun already."""
    if _lazy_types and isinstance(result, Tensor) and result.device.type in _lazy_types:
        backend_of(result.device).start()


def register(device_type: str, backend: type[Backend]) -> None:
    """Have `backend` answer for all devices of that type, as `torch.device(…).type` names it."""
    BACKENDS[device_type] = backend
    _backend_of.cache_clear()


def backend_of(device: torch.device | str) -> Backend:
    """What answers for that device. A type that nobody registered is asked as `Backend` does.

    >>> backend_of("cpu").count()
    1
    """
    return _backend_of(torch.device(device))


@cache
def _backend_of(device: torch.device) -> Backend:
    backend = BACKENDS.get(device.type, Backend)(device)
    if backend.lazy:
        _lazy_types.add(device.type)
    return backend
