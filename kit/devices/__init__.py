"""Where the computing happens: pick a device, describe the machine, synchronise, seed.

A computer is what one is *allowed* to use of it: a container's quota and memory limit and the
process's affinity count, not what the box has inside.
"""

from kit.devices.allowance import cores_allowed, memory_allowed
from kit.devices.description import Machine, machine
from kit.devices.selection import (
    agrees_with_cpu,
    calm_threads,
    device,
    present_devices,
    seed,
    synchronise,
)

__all__ = [
    "Machine",
    "agrees_with_cpu",
    "calm_threads",
    "cores_allowed",
    "device",
    "machine",
    "memory_allowed",
    "present_devices",
    "seed",
    "synchronise",
]
