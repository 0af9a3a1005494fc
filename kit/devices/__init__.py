"""Devices: pick one, describe the machine, synchronise, seed; what each type of device can do.

The kit reports what this process is *allowed* to use: the container's quota, its memory limit and
the process's affinity count, not what the computer has inside.
"""

from kit.devices.backends import Backend, backend_of, register
from kit.devices.compiler import compiling, keep_programs, lacks_compiler
from kit.devices.description import Machine, machine, process_peak_bytes
from kit.devices.energy import Meter, metered
from kit.devices.interference import Reading, Surroundings, between, collector_held, reading
from kit.devices.processor import last_cache_bytes
from kit.devices.resource_limits import (
    cores_allowed,
    memory_allowed,
    memory_guard,
    memory_left,
    out_of_memory,
)
from kit.devices.selection import (
    agrees_with_cpu,
    calm_threads,
    check_present,
    device,
    present_devices,
    seed,
    synchronise,
    threads_here,
    worker,
)

__all__ = [
    "Backend",
    "Machine",
    "Meter",
    "Reading",
    "Surroundings",
    "agrees_with_cpu",
    "backend_of",
    "between",
    "calm_threads",
    "check_present",
    "collector_held",
    "compiling",
    "cores_allowed",
    "device",
    "keep_programs",
    "lacks_compiler",
    "last_cache_bytes",
    "machine",
    "memory_allowed",
    "memory_guard",
    "memory_left",
    "metered",
    "out_of_memory",
    "present_devices",
    "process_peak_bytes",
    "reading",
    "register",
    "seed",
    "synchronise",
    "threads_here",
    "worker",
]
