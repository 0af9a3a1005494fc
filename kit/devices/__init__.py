"""Devices: pick one, describe the machine, synchronise, seed; what each type of device can do.

The kit reports what this process is *allowed* to use: the container's quota, its memory limit and
the process's affinity count, not what the computer has inside.
"""

from kit.devices.backends import Backend as Backend
from kit.devices.backends import backend_of as backend_of
from kit.devices.backends import register as register
from kit.devices.backends import start_work as start_work
from kit.devices.compiler import compiling as compiling
from kit.devices.compiler import keep_programs as keep_programs
from kit.devices.compiler import lacks_compiler as lacks_compiler
from kit.devices.compiler import no_earlier_programs as no_earlier_programs
from kit.devices.description import Machine as Machine
from kit.devices.description import machine as machine
from kit.devices.description import peak_bytes_of as peak_bytes_of
from kit.devices.description import process_peak_bytes as process_peak_bytes
from kit.devices.energy import Meter as Meter
from kit.devices.energy import metered as metered
from kit.devices.interference import Reading as Reading
from kit.devices.interference import Surroundings as Surroundings
from kit.devices.interference import between as between
from kit.devices.interference import collector_held as collector_held
from kit.devices.interference import reading as reading
from kit.devices.processor import cache_bytes as cache_bytes
from kit.devices.processor import last_cache_bytes as last_cache_bytes
from kit.devices.published_limits import Accelerator as Accelerator
from kit.devices.published_limits import published as published
from kit.devices.published_limits import published_times as published_times
from kit.devices.resource_limits import cores_allowed as cores_allowed
from kit.devices.resource_limits import memory_allowed as memory_allowed
from kit.devices.resource_limits import memory_guard as memory_guard
from kit.devices.resource_limits import memory_left as memory_left
from kit.devices.resource_limits import out_of_memory as out_of_memory
from kit.devices.selection import agrees_with_cpu as agrees_with_cpu
from kit.devices.selection import calm_threads as calm_threads
from kit.devices.selection import check_present as check_present
from kit.devices.selection import device as device
from kit.devices.selection import present_devices as present_devices
from kit.devices.selection import seed as seed
from kit.devices.selection import synchronise as synchronise
from kit.devices.selection import threaded as threaded
from kit.devices.selection import threads as threads
from kit.devices.selection import threads_here as threads_here
from kit.devices.selection import worker as worker
from kit.devices.tpu import tpu_chip as tpu_chip
