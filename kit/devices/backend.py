"""What the kit asks about a device: the answers for any accelerator that PyTorch knows."""

from __future__ import annotations

from collections.abc import Callable
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
    compiles = False  # whether each new operation waits for a compiler that tells no time
    precision = "fp32"  # the one that `kit.train` takes by default
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

    def dtypes(self) -> list[torch.dtype]:
        """The dtypes, of those that models compute in, in which the device should compute."""
        asked = (torch.float32, torch.bfloat16, torch.float16)
        return [dtype for dtype in asked if not self.lacks_dtype(dtype)]

    def seed(self, n: int) -> None:
        """Seed a generator of the device that `torch.manual_seed` does not reach."""

    # --- Time ---

    def compile_s(self) -> float:
        """Seconds that a compiler of the device's own has taken so far; 0 if it has none."""
        return 0.0

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
