"""One class per type of device: what it can do, and how PyTorch is asked for it.

Backend    any accelerator that PyTorch knows, by the calls that PyTorch has for all of them
├─ CPU     the processor that runs Python; nothing to wait for
├─ CUDA    GPUs of NVIDIA, and of AMD (PyTorch calls ROCm by the same name)
├─ MPS     GPUs of Apple
├─ XPU     GPUs of Intel
├─ TPU     Google's, by `torch_tpu`
└─ XLA     Google's, by the older `torch_xla`: it computes only when it is asked to

No other file of the kit looks at a device's type. To add one, write a class here
with the answers that differ and add it to `BACKENDS`. Code outside the kit can do the same with
`kit.devices.register`.
"""

from __future__ import annotations

import importlib.util
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

    lazy = False  # whether calls only note what to compute, until `start` or `synchronise`
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

    def start(self) -> None:
        """Have a lazy device begin what was noted so far, without waiting for it."""

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


class TPU(Backend):
    """A TPU of Google by `torch_tpu`, which PyTorch knows as any accelerator.

    Written from the package's own files (0.2.0); it was not tried on a TPU.
    """

    @property
    def name(self) -> str:
        """What its maker calls it."""
        return str(torch.tpu.get_device_name(self.device))  # type: ignore[attr-defined]

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of memory of one device."""
        properties = torch.tpu.get_device_properties(self.device)  # type: ignore[attr-defined]
        return int(properties.total_memory)

    def lacks_dtype(self, dtype: torch.dtype) -> str:
        """Its matrix units multiply bfloat16 and smaller numbers."""
        return _only_bfloat16(dtype)


class XLA(Backend):
    """A TPU by `torch_xla`, or with `PJRT_DEVICE=CPU` a processor that stands in for one.

    A call returns when its operations are noted. `start` compiles them all into one program, or
    finds the one that it compiled before, and begins it. So a training step ends with `start`, or
    the next step would become part of the same program; and the first steps compile.
    """

    lazy = True

    @property
    def name(self) -> str:
        """The type of the hardware that XLA found."""
        import torch_xla.runtime

        kind = torch_xla.runtime.device_type()
        return f"{processor.model()}, by XLA" if kind == "CPU" else f"{kind}, by XLA"

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of memory of one device; None where XLA does not tell."""
        return self._memory("bytes_limit")

    def count(self) -> int:
        """How many devices this process may use."""
        import torch_xla.runtime

        return int(torch_xla.runtime.addressable_device_count())

    def lacks_dtype(self, dtype: torch.dtype) -> str:
        """Its matrix units multiply bfloat16 and smaller numbers."""
        return _only_bfloat16(dtype)

    def lacks_compiler(self) -> str:
        """There is nothing for it to add."""
        return "XLA compiles each step by itself"

    def start(self) -> None:
        """Begin what was noted so far."""
        import torch_xla

        torch_xla.sync()

    def synchronise(self) -> None:
        """Begin what was noted, and wait until all that was begun is done."""
        import torch_xla
        import torch_xla.core.xla_model

        torch_xla.sync()
        torch_xla.core.xla_model.wait_device_ops()

    def allocated_bytes(self) -> int:
        """Bytes in use now, as XLA counts them."""
        return self._memory("bytes_used") or 0

    def peak_bytes(self) -> int:
        """The most bytes in use since the program began: XLA cannot forget its peak."""
        return self._memory("peak_bytes_used") or 0

    def reset_peak(self) -> None:
        """XLA has no such call."""

    def _memory(self, what: str) -> int | None:
        import torch_xla.core.xla_model

        try:
            return int(torch_xla.core.xla_model.get_memory_info(self.device)[what]) or None
        except (RuntimeError, KeyError):  # not every plug-in of XLA counts
            return None


def _only_bfloat16(dtype: torch.dtype) -> str:
    return "a TPU multiplies bfloat16; ask for it" if dtype == torch.float16 else ""


BACKENDS: dict[str, type[Backend]] = {
    "cpu": CPU,
    "cuda": CUDA,
    "mps": MPS,
    "xpu": XPU,
    "tpu": TPU,
    "xla": XLA,
}


def xla_devices() -> list[torch.device]:
    """The device of `torch_xla`, if that is installed and has a TPU, or `PJRT_DEVICE` is set."""
    if importlib.util.find_spec("torch_xla") is None:
        return []
    try:
        import torch_xla.runtime

        if os.environ.get("PJRT_DEVICE") or torch_xla.runtime.device_type() == "TPU":
            return [torch.device("xla:0")]
    except (ImportError, RuntimeError):  # built for another PyTorch; no device that it can open
        pass
    return []


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
