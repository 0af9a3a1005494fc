"""What the world does. Each blow strikes while a part works, and ends before the next start."""

import random
import resource
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from torture.children import OLDEST, Child
from torture.parts import Missed, Part
from torture.places import mounts_work, wait_until

NO_MOUNTS = "this system gives no mount namespace to an ordinary user"
DAY_S, YEAR_S = 86_400, 31_536_000


@dataclass
class Blow:
    """A blow: how it strikes, what it may need, how the world becomes well again."""

    name: str
    strike: Callable[["Struck"], list[str]]
    why_not: Callable[[type[Part]], str] = lambda part: ""
    heal: Callable[["Struck"], object] = lambda struck: None
    oldest: bool = False  # whether it strikes beside the oldest versions of what the kit needs


@dataclass
class Struck:
    """A part under a blow."""

    part: Part
    child: Child
    rng: random.Random
    long: bool = False  # whether this run has time for a minute of sleep

    @property
    def place(self):
        """Where the part keeps its files."""
        return self.part.place


# --- The end of a process ------------------------------------------------------------------------


def kill(struck: Struck) -> list[str]:
    """SIGKILL, to one process or to the command with all that it started."""
    victims, whole = struck.part.victims(struck.child), struck.rng.random() < 0.3
    victim = struck.rng.choice(victims)
    try:
        for process in struck.child.family() if whole else [psutil.Process(victim)]:
            process.kill()
    except psutil.NoSuchProcess:
        raise Missed from None
    if not whole and victim != struck.child.pid:
        return struck.part.settle(struck.child)
    struck.child.wait(10)
    return _ended(struck.part)


def _ended(part: Part) -> list[str]:
    """Stop the clients of a service that was killed."""
    if ends := getattr(part, "ends", None):
        ends.set()
        part.client.join(10)
    return []


def starve(struck: Struck) -> list[str]:
    """No process of the command gets much more memory than it has."""
    for process in struck.child.family():
        # It may have ended; code of others, which is isolated, has limits that nobody changes.
        with suppress(OSError, LookupError):
            _limit(process.pid, struck.rng.choice((0, 2**16, 2**20, 2**24)))
    problems = struck.part.settle(struck.child)
    # A library in C++ that gets no memory ends its process, as the system's OOM killer would.
    ended = struck.child.code() in (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)
    return [] if ended else problems


def _limit(pid: int, room_bytes: int) -> None:
    status = Path(f"/proc/{pid}/status").read_text()
    used = 1024 * int(status.split("VmData:")[1].split()[0])
    _, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
    resource.prlimit(pid, resource.RLIMIT_DATA, (used + room_bytes, hard))


# --- The disk ------------------------------------------------------------------------------------


def fill(struck: Struck) -> list[str]:
    """The disk has no room, or a few blocks."""
    struck.place.fill(struck.rng.choice((0, 0, 4096, 65_536)))
    return struck.part.settle(struck.child)


def lock(struck: Struck) -> list[str]:
    """The disk becomes read-only; Linux allows that only while no file is open for writing."""
    part = struck.part
    at_once = wait_until(struck.place.read_only, 5)
    problems = part.settle(struck.child)
    if at_once:
        return problems
    if not wait_until(struck.place.read_only, 5):  # another process has a file open on it
        raise Missed
    # So the next start finds it so, and must refuse in a line.
    struck.child = part.start()
    return problems + part.starts_read_only(struck.child)


def unplug(struck: Struck) -> list[str]:
    """The disk is gone, and comes back before the next start."""
    struck.place.unplug()
    return struck.part.settle(struck.child)


# --- Time ----------------------------------------------------------------------------------------


def jump(struck: Struck) -> list[str]:
    """The clock jumps back or ahead, as after a dead battery or by a time server."""
    far = struck.rng.choice((-DAY_S, -3600, 3600, DAY_S, 10 * YEAR_S))
    struck.part.warm.clock.jump(far)
    return struck.part.settle(struck.child)


def sleep(struck: Struck) -> list[str]:
    """All processes of the command stop, as on a laptop that is closed, and go on later."""
    family = struck.child.family()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        time.sleep((60 if struck.long else 1.5) * (number == signal.SIGSTOP))
    return struck.part.settle(struck.child)


# --- Others --------------------------------------------------------------------------------------


def stall(struck: Struck) -> list[str]:
    """The other side sends nothing for longer than the part waits."""
    struck.part.stall(struck.rng.choice((0.5, 2.5)))
    return struck.part.settle(struck.child)


def double(struck: Struck) -> list[str]:
    """The same command again, in the same folder, at the same time."""
    part, first = struck.part, struck.child
    if not part.alone:
        part.alone_now = False
    second = part.warm.start(part.place, part.words())
    if hasattr(part, "ends"):  # a service: the second one must refuse while the first goes on
        second.wait(60)
    problems = part.settle(first)
    second.wait(120)
    problem = second.message_problem()
    return [*problems, f"the second one {problem}"] if problem else problems


def _needs_mounts(part: type[Part]) -> str:
    return "" if mounts_work() else NO_MOUNTS


def _needs_network(part: type[Part]) -> str:
    return "" if part.network else "it talks to no other computer"


def _needs_oldest(part: type[Part]) -> str:
    return "" if OLDEST else "KIT_TORTURE_OLDEST names no Python with the oldest versions"


def _no_accelerator(part: type[Part]) -> str:
    if part.computes:
        return "not tried: no machine with an accelerator was at hand to write the trial on"
    return "it computes on the CPU alone"


BLOWS = [
    Blow("kill -9", kill),
    Blow("full disk", fill, _needs_mounts, lambda struck: struck.place.make_room()),
    Blow("read-only folder", lock, _needs_mounts, lambda struck: struck.place.writable()),
    Blow("disk goes away", unplug, _needs_mounts, lambda struck: struck.place.plug()),
    Blow("accelerator goes away", kill, _no_accelerator),
    Blow("clock jumps", jump),
    Blow("little memory", starve),
    Blow("network stalls", stall, _needs_network),
    Blow("two at once", double),
    Blow("suspended", sleep),
    Blow("oldest versions", kill, _needs_oldest, oldest=True),
]
