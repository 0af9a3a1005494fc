"""What several rooms' tests share: a workload, and a clock and a device made of numbers."""

import contextlib
import gc
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

import cached_compiler
import pytest
from filelock import FileLock
from warm_kernels import running_warm_process

if "PYTEST_XDIST_WORKER" in os.environ:
    # Several workers share the cores: what their tests start gets a thread each, too, and
    # threads that wait for each other sleep instead of spinning on a core that another needs.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")

# What runs notebooks, processes, compilers or browsers, or trains for long: `make quick` leaves
# these files out, and whatever is marked `alone`.
SLOW = {
    *("browser", "course_pages", "ordering_panel", "notebooks", "experiments", "execution"),
    *("recordings", "records", "sweeping", "cluster", "distributed", "torchrun"),
    *("untrusted_notebooks", "grading", "releasing", "gradebook_pages"),
    *("class_board", "class_results", "class_guide", "own_model", "gallery"),
    *("techniques", "model_form", "exported_files", "custom_models", "generation", "speech"),
    *("language", "translation", "training_ladders", "recipes", "results", "data", "doctor"),
    *("loadgen", "hostile_checkpoints", "exercises", "roofline", "gpu_training", "binder"),
    *("readme", "site", "resuming", "recommendation", "time_to_loss", "wheel"),
    *("statistics", "devices", "forecast", "control", "batching", "downloads", "fraud"),
    *("serving", "serving_protocol", "serving_clients", "serving_replicas", "serving_batching"),
    *("serving_overload", "serving_malformed", "continuous_batching", "completions", "traffic"),
    *("traffic_panel", "http_client", "many_machines", "benchmark_scripts", "browser_panels"),
    *("drift", "drift_panel", "monitoring"),
    *("run_cost", "checkpoints", "checkpoints_of_modules", "types", "environment"),
}
# Begun first, so that at the end no worker still has a long test while the other has none.
LONGEST = {
    *("notebooks", "experiments", "browser", "browser_panels", "site", "course_pages", "types"),
    "workloads",
}


def pytest_ignore_collect(collection_path, config):
    """`make quick`, and the run of what has to be alone, do not even import what they leave out."""
    if not collection_path.is_file():
        return None
    only, slow = config.option.markexpr, collection_path.stem.removeprefix("test_") in SLOW
    if only == "alone":
        return "mark.alone" not in collection_path.read_text(encoding="utf-8") or None
    return (only == "not slow" and slow) or None


def pytest_collection_modifyitems(items):
    for item in items:
        slow = item.path.stem.removeprefix("test_") in SLOW
        if slow or any(item.get_closest_marker(name) for name in ("alone", "browser")):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in LONGEST)


def pytest_collection_finish():
    """One thread, before the first fixture that trains: threads wait for each other by spinning.

    On two cores that something else uses, two threads take twenty times as long as one.
    """
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _calm():
    """One thread for each test, and the random generators as they were."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    state, python = torch.get_rng_state(), random.getstate()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(1)
    torch.set_rng_state(state)
    random.setstate(python)


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c():
    """Tests that were started in the background may have it ignored, and their children, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _quick_collections():
    """The kit collects garbage before it times: let that skip what earlier files have left.

    After some thousand tests a collection takes half a second otherwise, and a sweep makes dozens.
    """
    gc.collect()
    gc.freeze()


PEAKS = """
from dataclasses import replace
import torch
from kit.devices import calm_threads
from kit.measurement.peaks import SESSIONS, peaks, save_peaks
for threads in {1, calm_threads()}:  # of the tests, and of the notebooks
    torch.set_num_threads(threads)
    save_peaks(replace(peaks(), sessions=SESSIONS))
"""


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory, worker_id, request):
    """No test reads or writes the peaks that the user keeps.

    Where several workers run, each begins with peaks that were measured before the first test.
    Beside another worker no measurement is undisturbed, so none would be saved, and each program
    that needs peaks would take seconds to measure its own. The caches stay apart: in them lies the
    lock that lets one timed run wait for another. Quick tests need no peaks.
    """
    own = tmp_path_factory.mktemp("cache")
    timed = any(item.get_closest_marker("slow") for item in request.session.items)
    if worker_id != "master" and timed:
        first = tmp_path_factory.getbasetemp().parent / "first-cache"
        with FileLock(f"{first}.lock"):
            if not first.exists():
                environment = {**os.environ, "KIT_CACHE": str(first)}
                subprocess.run([sys.executable, "-c", PEAKS], check=True, env=environment)
        shutil.copytree(first / "peaks", own / "peaks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KIT_CACHE", str(own))
        yield


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory, worker_id):
    """What one test has had compiled from C++, no other test has compiled again."""
    base = tmp_path_factory.getbasetemp()
    outputs = (base if worker_id == "master" else base.parent) / "compiled"
    with pytest.MonkeyPatch.context() as patch:
        if folder := cached_compiler.install(tmp_path_factory.mktemp("compiler"), outputs):
            patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def _warm_process(tmp_path_factory):
    """Made when the first notebook runs: what it imported, all kernels of this worker have."""
    with running_warm_process(tmp_path_factory.mktemp("warm")) as kernel_spec:
        yield kernel_spec


@pytest.fixture(scope="module")
def warm_kernels(_warm_process):
    """Kernels, also those of commands and of JupyterLab, are forks of a warm process."""
    with pytest.MonkeyPatch.context() as patch:
        if _warm_process:
            patch.setenv("JUPYTER_PATH", _warm_process())
        yield


@pytest.fixture(scope="session")
def lab(_warm_process, tmp_path_factory):
    """One JupyterLab for all files of this worker; each test ends the kernels that it began."""
    import browser

    browser.need_chromium()
    with contextlib.ExitStack() as running:
        with pytest.MonkeyPatch.context() as patch:  # JupyterLab keeps what it began with
            if _warm_process:
                patch.setenv("JUPYTER_PATH", _warm_process())
            lab = running.enter_context(browser.running_lab(tmp_path_factory.mktemp("lab")))
        yield lab


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
    wait_s: float = 0.0  # what waiting costs, even for a device that has nothing to do

    def launch(self, seconds: float) -> None:
        self.clock.advance(self.note_s)
        self.busy_until = max(self.busy_until, self.clock.now) + seconds

    def synchronise(self, device: object = None) -> None:
        self.clock.now = max(self.clock.now, self.busy_until) + self.wait_s

    def event(self) -> "Mark":
        return Mark(self)


@dataclass
class Mark:
    """An event in the accelerator's queue: notes when the device comes to it."""

    device: Accelerator
    at: float = 0.0

    def record(self) -> None:
        self.at = max(self.device.clock.now, self.device.busy_until)

    def elapsed_time(self, other: "Mark") -> float:
        return 1000 * (other.at - self.at)


def taken(times, **changes):
    """A measurement with these times, made up, under conditions that leave nothing to doubt."""
    from kit.measurement import Conditions, Measurement

    quiet = Conditions("cpu", 1, "2.0", 0.0)
    return replace(Measurement("call", tuple(times), 1, 0.1, 0.1, True, quiet), **changes)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def accelerator(clock):
    return Accelerator(clock)


@pytest.fixture
def quiet(monkeypatch):
    """A machine on which nothing else happens: what this one does must not decide a test."""
    from kit import devices

    nothing = devices.Reading(0.0, 0.0, 0.0, None, None, None, None, load=0.0)
    monkeypatch.setattr(devices, "reading", lambda device: nothing)


@pytest.fixture
def stopwatch(clock, accelerator, quiet):
    """The kit's stopwatch on the made-up clock and device."""
    from kit.measurement import Stopwatch

    return Stopwatch("cpu", clock, accelerator.synchronise)
