"""One class per type of device: what it can do, and how PyTorch is asked for it.

Backend    any accelerator that PyTorch knows, by the calls that PyTorch has for all of them
├─ CPU     the processor that runs Python; nothing to wait for
├─ CUDA    GPUs of NVIDIA, and of AMD (PyTorch calls ROCm by the same name)
├─ MPS     GPUs of Apple
└─ XPU     GPUs of Intel

No other file of the kit looks at a device's type. To add one, such as a TPU, write a class here
with the answers that differ and add it to `BACKENDS`. Code outside the kit can do the same with
`kit.devices.register`.
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

Counter = tuple[Callable[[], float], float]  # reads joules that only grow; where they start again


class Backend:
    """What the kit asks about one device, and has it do. The answers here are the careful ones.

    Parameters
    ----------
    device
        The device, such as `torch.device("cuda", 1)`.
    """

    is_cpu = False  # whether the kernels and runtimes made for processors work on its tensors
    known_wrong = False  # has returned wrong numbers without an error: checked before it is used
    fused_adamw = False  # whether PyTorch updates all weights in one operation there
    counts_memory = False  # whether its allocator says how many bytes tensors hold
    captures_graphs = False  # whether a call can be recorded once and replayed as one operation
    collectives: str | None = None  # torch.distributed's backend; None: PyTorch's choice
    energy_source = ""

    def __init__(self, device: torch.device):
        self.device = device

    @property
    def name(self) -> str:
        """What its maker calls it."""
        return f"{processor.model()} ({self.device.type})"

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of memory on the device itself; None if unknown."""
        return None

    def count(self) -> int:
        """How many devices of this type the computer has."""
        return torch.accelerator.device_count()

    def lacks_dtype(self, dtype: torch.dtype) -> str:
        """Why the device should not compute in this dtype; an empty text if it can."""
        return ""

    def lacks_compiler(self) -> str:
        """Why `torch.compile` cannot work for the device; an empty text if it can."""
        return ""

    # --- Time ---

    def synchronise(self) -> None:
        """Wait until the device has done all the work in its queue."""
        torch.accelerator.synchronize(self.device)

    def timing_event(self) -> Any:
        """A mark for the device's own queue, with `elapsed_time`; None: use the clock."""
        return None

    def record(self, event: Any) -> None:
        """Put an event at the end of the device's queue."""
        event.record()

    def clock_hz(self) -> float | None:
        """How fast the device's clock ticks now; None if unknown."""
        return None

    def energy_counters(self) -> list[Counter]:
        """Functions that read the joules used so far; empty without a counter."""
        return []

    # --- Memory ---

    def allocated_bytes(self) -> int:
        """Bytes that tensors on the device hold now."""
        return torch.accelerator.memory_allocated(self.device)

    def peak_bytes(self) -> int:
        """The most bytes that tensors held at once since `reset_peak`."""
        return torch.accelerator.max_memory_allocated(self.device)

    def reset_peak(self) -> None:
        """Start `peak_bytes` again from what is allocated now."""
        torch.accelerator.reset_peak_memory_stats(self.device)

    def empty_cache(self) -> None:
        """Give back memory that only PyTorch's allocator holds."""

    # --- Graphs ---

    def capture(self, call: Callable[[], Tensor], restore: Callable[[], Any]) -> tuple[Any, Tensor]:
        """A graph that replays the call, and the output that each replay overwrites.

        `restore` undoes what a warm-up call changed. Ask `captures_graphs` first.
        """
        raise NotImplementedError(f"{self.device.type!r} cannot capture graphs")


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


BACKENDS: dict[str, type[Backend]] = {"cpu": CPU, "cuda": CUDA, "mps": MPS, "xpu": XPU}


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
    return BACKENDS.get(device.type, Backend)(device)
