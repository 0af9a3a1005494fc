"""What keeps a student's code from files, networks and other processes: namespaces of Linux.

A process that enters gets a root folder made for it. In it are the system's programs, Python, the
installed packages and the kit, all read-only, and one small folder in memory to write to. It sees
no other process, has no network, no rights of an administrator, and cannot get any.

    grader's process ── fork ──> guard (its own group; ends with the grader's process)
                                   └─ fork ──> the student's code, process 1 of its namespace:
                                               when it ends, the kernel ends all that it started
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import site
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import kit
from kit.classroom.system_calls import refuse_calls
from kit.core.files import NOTEBOOKS

HOME = "/student"  # in the new root folder: the only one that can be written to
HOME_FILES = 10_000  # an empty file takes memory of the kernel, too
PACKAGE = Path(kit.__file__).parent
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin")
CONFIGURATION = ("/etc/ld.so.cache", "/etc/localtime", "/etc/fonts", "/etc/alternatives")
PROCESSOR = ("/sys/devices/system/cpu",)
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
NO_USER = 61_184  # from here, 4,000 numbers belong to no user (systemd gives them to services)

NEW_MOUNTS, NEW_NAMES, NEW_IPC = 0x00020000, 0x04000000, 0x08000000  # clone(2)
NEW_USER, NEW_PROCESSES, NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18  # mount(2)
DETACH = 2  # umount2(2)
MOUNT_SETATTR, READ_ONLY_NOSUID, RECURSIVE = 442, 1 | 2, 0x8000  # the same number everywhere
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}
PARENT_DEATH, DUMPABLE, DROP_BOUND = 1, 4, 24  # prctl(2)
CAPABILITIES_V3 = 0x20080522


def why_not(place: Path) -> str:
    """Why this system cannot isolate a process, in a sentence; empty if it can.

    It tries, in a process of its own, with its root folder at an empty folder.
    """
    if sys.platform != "linux":
        return f"{platform.system()} has no namespaces"
    if platform.machine() not in PIVOT_ROOT:
        return f"the system calls of {platform.machine()} are not known to the kit"
    reading, writing = os.pipe()
    guard = start_isolated(lambda: os.write(writing, b"+"), lambda e: os.write(writing, e), place)
    os.close(writing)
    os.waitpid(guard, 0)
    said = os.read(reading, 500).decode(errors="replace")
    os.close(reading)
    return "" if said == "+" else said or "the process that tried has ended"


def start_isolated(
    body: Callable[[], object],
    failed: Callable[[bytes], object],
    place: Path,
    hidden: Sequence[Path] = (),
    home_bytes: int = 64_000_000,
) -> int:
    """Fork a process that runs `body` isolated and then ends; the number of its guard.

    Parameters
    ----------
    failed
        Is called with the reason, instead of `body`, if the process cannot be isolated.
    place
        An empty folder, at which the new root folder is made. Others do not see it there.
    hidden
        Folders that must not be seen, also where they lie inside a visible one.
    home_bytes
        How much may be written into its folder.
    """
    guard = os.fork()
    if guard:
        return guard
    try:
        _guard(body, place, hidden, home_bytes)
    except BaseException as error:
        failed(f"{error}"[:400].encode())
    finally:
        os._exit(70)


def _guard(
    body: Callable[[], object], place: Path, hidden: Sequence[Path], home_bytes: int
) -> None:
    """Make the namespaces, start their first process, end with it and end it when ended."""
    os.setsid()
    own, group = os.geteuid(), os.getegid()
    spaces = NEW_MOUNTS | NEW_NAMES | NEW_IPC | NEW_PROCESSES | NEW_NETWORK
    _libc("unshare", spaces if own == 0 else spaces | NEW_USER)
    if own:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{own} {own} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    reading, writing = os.pipe()  # its end says that the first process is isolated
    first = os.fork()
    if first == 0:
        os.close(reading)
        _first_process(body, place, hidden, home_bytes, writing)
        os._exit(0)
    os.close(writing)

    def end(*_: object) -> None:
        os.kill(first, signal.SIGKILL)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    _libc("prctl", PARENT_DEATH, signal.SIGTERM, 0, 0, 0)
    problem = os.read(reading, 500).decode(errors="replace")
    os.closerange(3, 1024)  # nobody else holds the pipes of the student's code
    if problem:
        os.waitpid(first, 0)
        raise OSError(problem)
    status = os.waitpid(first, 0)[1]
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _first_process(
    body: Callable[[], object],
    place: Path,
    hidden: Sequence[Path],
    home_bytes: int,
    writing: int,
) -> None:
    try:
        os.setsid()  # no signal of its reaches the guard
        _libc("prctl", PARENT_DEATH, signal.SIGKILL, 0, 0, 0)
        _enter_new_root(place, hidden, home_bytes)
        _give_up_rights()
    except BaseException as error:
        os.write(writing, f"{error}"[:400].encode())
        os._exit(70)
    os.close(writing)
    body()


# --- The new root folder -------------------------------------------------------------------------


def visible() -> list[Path]:
    """The folders of Python and its packages: what an import may need, and nothing else.

    >>> PACKAGE in visible(), PACKAGE.parent in visible()
    (True, False)
    """
    packages = [Path(entry) for entry in (*sys.path, *site.getsitepackages()) if entry]
    packages = [path for path in packages if path.name in ("site-packages", "dist-packages")]
    found: list[Path] = []
    for path in sorted({Path(sys.prefix), Path(sys.base_prefix), *packages, PACKAGE}):
        system = any(path.is_relative_to(each) for each in SYSTEM)
        if not system and path.is_dir() and not any(path.is_relative_to(each) for each in found):
            found.append(path)
    return found


def _enter_new_root(place: Path, hidden: Sequence[Path], home_bytes: int) -> None:
    """Build the root folder at an empty folder out of read-only views, and make it the only one."""
    root = str(place)
    _mount(None, "/", None, MS_REC | MS_PRIVATE)
    _mount("none", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=755")
    lessons = [] if NOTEBOOKS.is_relative_to(PACKAGE) else [NOTEBOOKS]  # an answer may read them
    for path in (*map(Path, SYSTEM + CONFIGURATION + PROCESSOR + DEVICES), *visible(), *lessons):
        _show(root, path)
    for folder in ("proc", HOME[1:], "dev"):
        os.makedirs(f"{root}/{folder}", exist_ok=True)
    for name in ("tmp", "dev/shm"):
        if not os.path.lexists(f"{root}/{name}"):
            os.symlink(f"{HOME}/tmp", f"{root}/{name}")
    for path in (NOTEBOOKS / "solutions", *hidden):
        if os.path.isdir(f"{root}{path.resolve()}"):
            _mount("none", f"{root}{path.resolve()}", "tmpfs", MS_NOSUID | MS_NODEV, "size=4k")
    attributes = (ctypes.c_uint64 * 4)(READ_ONLY_NOSUID, 0, 0, 0)
    _libc("syscall", MOUNT_SETATTR, -1, root.encode(), RECURSIVE, attributes, 32)
    size = f"size={home_bytes},nr_inodes={HOME_FILES},mode=1777"
    _mount("none", root + HOME, "tmpfs", MS_NOSUID | MS_NODEV, size)
    os.makedirs(f"{root}{HOME}/tmp")
    os.chmod(f"{root}{HOME}/tmp", 0o777)
    with suppress(OSError):  # some containers refuse it: then there is none
        _mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV)
    os.chdir(root)
    _libc("syscall", PIVOT_ROOT[platform.machine()], b".", b".")
    _libc("umount2", b".", DETACH)
    os.chdir(HOME)
    if os.geteuid():  # this namespace has a limit of its own: no others inside it
        with suppress(OSError):
            Path("/proc/sys/user/max_user_namespaces").write_text("0")


def _show(root: str, path: Path) -> None:
    """Show a folder or file of the system at the same path below the new root."""
    target = f"{root}{path}"
    if path.is_symlink():
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.symlink(os.readlink(path), target)
    elif path.is_dir():
        os.makedirs(target, exist_ok=True)
        _mount(str(path), target, None, MS_BIND | MS_REC)
    elif path.exists():
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
        _mount(str(path), target, None, MS_BIND)


def _give_up_rights() -> None:
    """From here on this process is an ordinary user, for ever."""
    for capability in range(64):
        with suppress(OSError):  # there are not that many
            _libc("prctl", DROP_BOUND, capability, 0, 0, 0)
    if os.geteuid() == 0:
        user = NO_USER + os.getppid() % 4_000
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0)
    _libc("capset", header, (ctypes.c_uint32 * 6)())
    _libc("prctl", DUMPABLE, 1, 0, 0, 0)  # else it could not read its own /proc/self
    _libc("prctl", PARENT_DEATH, signal.SIGKILL, 0, 0, 0)  # a new user clears it
    refuse_calls()


# --- The C library -------------------------------------------------------------------------------


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str = ""
) -> None:
    given = [each.encode() if each is not None else None for each in (source, target, kind)]
    try:
        _libc("mount", *given, flags, options.encode())
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror} ({target})") from error


def _libc(name: str, *arguments: object) -> int:
    """Call a function of the C library; an error of it becomes an OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(getattr(library, name)(*words))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name} is refused: {os.strerror(number)}")
    return result
