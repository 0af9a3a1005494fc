"""What several rooms' tests share: a workload, and a clock and a device made of numbers."""

import gc
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest


@pytest.fixture(autouse=True)
def _calm():
    """One thread, since the machine may be shared, and the random generators as they were."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads, state, python = torch.get_num_threads(), torch.get_rng_state(), random.getstate()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state)
    random.setstate(python)


@pytest.fixture(scope="session", autouse=True)
def _quick_collections():
    """The kit collects garbage before it times: let that skip what was imported until now."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="session")
def vision():
    from kit.workloads import vision

    return vision()


class Clock:
    """A clock that moves only when it is told to; `clock()` reads it, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds

    def taking(self, *durations: float) -> Callable[[], None]:
        """A call that takes these times in turn, and the last one ever after."""
        left = list(durations)
        return lambda: self.advance(left.pop(0) if len(left) > 1 else left[0])


@dataclass
class Accelerator:
    """A device with a queue: giving it work takes a moment, doing the work takes its time."""

    clock: Clock
    note_s: float = 1e-5
    busy_until: float = 0.0

    def launch(self, seconds: float) -> None:
        self.clock.advance(self.note_s)
        self.busy_until = max(self.busy_until, self.clock.now) + seconds

    def synchronise(self, device: object = None) -> None:
        self.clock.now = max(self.clock.now, self.busy_until)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def accelerator(clock):
    return Accelerator(clock)


@pytest.fixture
def stopwatch(clock, accelerator):
    """The kit's stopwatch on the made-up clock and device."""
    from kit.measurement import Stopwatch

    return Stopwatch("cpu", clock, accelerator.synchronise)
