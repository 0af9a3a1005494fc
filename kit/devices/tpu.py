"""Google's TPUs, by PyTorch's own backend `torch_tpu` and by the older `torch_xla`.

Written from the files of torch_tpu 0.2.0 and torch_xla 2.9.0, and tried with `torch_xla` on a
processor. Neither was tried on a TPU. `docs/tpu.md` says how to install them.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import torch

from kit.devices import processor
from kit.devices.backend import Backend

# What a TPU calls itself on the computer's bus. Google's network cards have the same maker.
MAKER = "0x1ae0"
CHIPS = {
    "0x005e": "TPU v4",
    "0x0062": "TPU v5p",
    "0x0063": "TPU v5e",
    "0x006f": "TPU v6e",
    "0x0076": "TPU v7",
}


class TPU(Backend):
    """A TPU by `torch_tpu`, which PyTorch knows as any accelerator.

    Each operation is compiled when its shapes first come. The package has no public counter for
    that time, so `kit.train` makes a pass that does not count before its first step.
    """

    compiles = True
    precision = "bf16"

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
    def precision(self) -> str:  # type: ignore[override]
        """A processor that stands in for a TPU would only emulate bfloat16."""
        return "bf16" if self._kind() == "TPU" else "fp32"

    @property
    def name(self) -> str:
        """The type of the hardware that XLA found."""
        kind = self._kind()
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

    def seed(self, n: int) -> None:
        """XLA draws from a generator of its own."""
        import torch_xla

        torch_xla.manual_seed(n, self.device)

    def compile_s(self) -> float:
        """Seconds that XLA has compiled in this process, by its own count (in ns)."""
        import torch_xla.debug.metrics

        found: Any = torch_xla.debug.metrics.metric_data("CompileTime")
        return 1e-9 * found[1] if found else 0.0

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

    def _kind(self) -> str:
        import torch_xla.runtime

        return str(torch_xla.runtime.device_type())

    def _memory(self, what: str) -> int | None:
        import torch_xla.core.xla_model

        try:
            return int(torch_xla.core.xla_model.get_memory_info(self.device)[what]) or None
        except (RuntimeError, KeyError):  # not every plug-in of XLA counts
            return None


def _only_bfloat16(dtype: torch.dtype) -> str:
    return "a TPU multiplies bfloat16; ask for it" if dtype == torch.float16 else ""


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


def tpu_chip(bus: Path = Path("/sys/bus/pci/devices")) -> str:
    """The name of a TPU on the computer's bus, also without any package for it; "" if none."""
    for device in sorted(bus.glob("*")):
        try:
            maker, chip = ((device / name).read_text().strip() for name in ("vendor", "device"))
        except OSError:
            continue
        if maker == MAKER and chip in CHIPS:
            return CHIPS[chip]
    return ""
