"""Which calls of the Linux kernel a student's code cannot make: a filter inside the kernel.

Limits and namespaces leave some ways out. Memory that no process maps (`memfd_create`, System V)
counts for nobody, and AF_VSOCK reaches the host of a virtual machine from every network namespace.
Other calls are refused because no answer needs them, and because faults were found in them before.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import sys
from typing import Any

ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "riscv64": 0xC00000F3}  # audit.h
# name -> (its number on x86_64, its number on other 64-bit machines)
REFUSED = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "unshare": (272, 97),
    "setns": (308, 268),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
NEW_USER = 0x10000000  # a flag of clone(2)
FAMILIES = (1, 2, 10)  # AF_UNIX, and AF_INET and AF_INET6, which a namespace can keep apart
OTHER_ABI = 0x40000000  # x32: the same calls by other numbers

NUMBER, MACHINE, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
LOAD, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # bpf(4)
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
NO_NEW_RIGHTS, SECCOMP, FILTER = 38, 22, 2  # prctl(2)

Line = tuple[int, int, int, int]  # code; lines to skip if true, if false; a number


def refuse_calls() -> None:
    """Refuse these calls to this process and to all that it starts, for ever.

    Raises
    ------
    OSError
        The kernel takes no filter, or this is not Linux on a known processor.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in ARCHITECTURE:
        raise OSError(errno.ENOSYS, f"no filter of calls for {sys.platform} on {machine}")
    lines = program(machine)
    code = b"".join(
        c.to_bytes(2, "little") + bytes((yes, no)) + k.to_bytes(4, "little")
        for c, yes, no, k in lines
    )
    _prctl(NO_NEW_RIGHTS, ctypes.c_ulong(1), ctypes.c_ulong(0))
    _prctl(SECCOMP, ctypes.c_ulong(FILTER), ctypes.byref(_Program(len(lines), code)))


def _prctl(option: int, *given: Any) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, *given, ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), f"a filter of calls (seccomp) is refused: {option}")


class _Program(ctypes.Structure):
    _fields_ = (("n", ctypes.c_ushort), ("lines", ctypes.c_char_p))


def program(machine: str) -> list[Line]:
    """The filter's lines for a processor; the kernel runs them before each call.

    >>> program("x86_64")[1] == (IF_EQUAL, 1, 0, ARCHITECTURE["x86_64"])
    True
    """
    own = 0 if machine == "x86_64" else 1
    lines = [
        (LOAD, 0, 0, MACHINE),
        (IF_EQUAL, 1, 0, ARCHITECTURE[machine]),
        (RETURN, 0, 0, KILL),  # a call in the way of another processor, such as 32-bit
        (LOAD, 0, 0, NUMBER),
    ]
    if machine == "x86_64":
        lines += [(IF_AT_LEAST, 0, 1, OTHER_ABI), (RETURN, 0, 0, REFUSE | errno.ENOSYS)]
    for numbers in REFUSED.values():
        lines += [(IF_EQUAL, 0, 1, numbers[own]), (RETURN, 0, 0, REFUSE | errno.EPERM)]
    # The flags of clone3 lie in memory, which a filter cannot read: programs then use clone.
    lines += [(IF_EQUAL, 0, 1, CLONE3[own]), (RETURN, 0, 0, REFUSE | errno.ENOSYS)]
    lines += [
        (IF_EQUAL, 0, 4, CLONE[own]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (IF_ANY_BIT, 0, 1, NEW_USER),
        (RETURN, 0, 0, REFUSE | errno.EPERM),
        (RETURN, 0, 0, ALLOW),
        (IF_EQUAL, 0, 5, SOCKET[own]),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        *((IF_EQUAL, len(FAMILIES) - i, 0, family) for i, family in enumerate(FAMILIES)),
        (RETURN, 0, 0, REFUSE | errno.EAFNOSUPPORT),
        (RETURN, 0, 0, ALLOW),
    ]
    return lines
