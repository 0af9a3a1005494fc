"""Devices: what this process may use, read from files of known content and from the real kernel."""

import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest
import torch

import kit
from kit import devices
from kit.core.errors import (
    BadValue,
    CallFailed,
    DeviceUnavailable,
    NotInstalled,
    NotSupported,
    UnknownName,
)
from kit.devices import backends, resource_limits, selection
from kit.inference.prefill_decode import step_for
from kit.measurement import measure

CGROUPS = Path("/sys/fs/cgroup")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
needs_accelerator = pytest.mark.skipif(
    not torch.accelerator.is_available(), reason="this machine has no accelerator"
)


def write(folder: Path, **files: str) -> None:
    """Control files; `cpu_max` stands for `cpu.max`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text + "\n")


def own_groups() -> dict[str, str]:
    """Controller -> the path of this process's group; "" is the one of cgroup v2."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    split = [line.split(":", 2) for line in lines]
    return {name: path.strip("/") for _, names, path in split for name in names.split(",")}


# --- Choosing ------------------------------------------------------------------------------------


def test_the_cpu_is_always_there():
    assert devices.device("cpu") == torch.device("cpu")
    assert devices.present_devices()[-1] == torch.device("cpu")


@pytest.mark.parametrize("name", [None, "auto"])
def test_the_best_device_here_is_chosen(name):
    assert devices.device(name).type in {d.type for d in devices.present_devices()}


def test_a_device_may_be_given_as_one():
    assert devices.device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cpu:x", 3.5, object()])
def test_nonsense_is_refused_and_what_is_here_is_named(name):
    with pytest.raises(
        DeviceUnavailable, match=r"asked for .*present here: .*cpu.* Use kit\.device"
    ):
        devices.device(name)


@pytest.mark.parametrize("name", ["cuda", "mps", "xpu", "meta"])
def test_a_device_that_is_not_here_is_refused(name):
    if name in {d.type for d in devices.present_devices()}:
        pytest.skip(f"{name} is here")
    with pytest.raises(DeviceUnavailable, match=rf"asked for '{name}'; present here"):
        devices.device(name)


@needs_accelerator
def test_an_index_beyond_the_last_is_refused():
    kind = devices.present_devices()[0].type
    with pytest.raises(DeviceUnavailable, match="present here"):
        devices.device(f"{kind}:{torch.accelerator.device_count()}")


def test_the_cpu_agrees_with_itself():
    assert devices.agrees_with_cpu(torch.device("cpu"))


@needs_accelerator
def test_the_accelerator_agrees_with_the_cpu():
    assert devices.agrees_with_cpu(devices.present_devices()[0])


def test_a_device_known_to_be_wrong_is_asked_for_in_vain(monkeypatch):
    """As if the CPU were a backend that returns wrong numbers."""
    monkeypatch.setattr(devices.backend_of("cpu"), "known_wrong", True)
    monkeypatch.setattr(selection, "agrees_with_cpu", lambda _: False)
    with pytest.raises(DeviceUnavailable, match=r"differ from the CPU's.*kit.device\('cpu'\)"):
        devices.device("cpu")


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_set_as_asked(threads):
    devices.device("cpu", threads=threads)
    assert torch.get_num_threads() == threads


def test_the_largest_cache_is_the_last(tmp_path):
    for index, size in {"cpu0/cache/index0": "32K", "cpu0/cache/index3": "307200K"}.items():
        (tmp_path / index).mkdir(parents=True)
        (tmp_path / index / "size").write_text(f"{size}\n")
    (tmp_path / "cpu1/cache/index3").mkdir(parents=True)
    (tmp_path / "cpu1/cache/index3/size").write_text("unknown\n")
    assert devices.last_cache_bytes(tmp_path) == 307_200 * 1024
    assert devices.last_cache_bytes(tmp_path / "nothing") is None


def test_the_caches_of_so_many_threads(tmp_path):
    """Four cores: each has its own caches, and two of them share a last one."""
    assert devices.cache_bytes(1, tmp_path) is None
    for core in range(4):
        pair = "0-1" if core < 2 else "2-3"
        own = [("1", "Data", "32K", core), ("1", "Instruction", "32K", core)]
        for n, each in enumerate(
            [*own, ("2", "Unified", "512K", core), ("3", "Unified", "8192K", pair)]
        ):
            folder = tmp_path / f"cpu{core}" / "cache" / f"index{n}"
            folder.mkdir(parents=True)
            for name, text in zip(("level", "type", "size", "shared_cpu_list"), each, strict=True):
                (folder / name).write_text(f"{text}\n")
    kib = 1024
    assert devices.cache_bytes(1, tmp_path) == (544 * kib, (544 + 8192) * kib)
    assert devices.cache_bytes(2, tmp_path) == (2 * 544 * kib, 2 * (544 + 8192) * kib)
    assert devices.cache_bytes(8, tmp_path) == (4 * 544 * kib, (4 * 544 + 2 * 8192) * kib)


def cores_kept_busy() -> float:
    """Processor time ÷ wall time of matmuls in the thread that calls this."""
    a = torch.rand(768, 768)
    a @ a
    began_s, own_s = time.perf_counter(), time.process_time()
    for _ in range(10):
        a @ a
    return (time.process_time() - own_s) / (time.perf_counter() - began_s)


def test_a_worker_computes_with_the_threads_that_were_set():
    """Without the kit's helper its matmuls take every core, under a caption that says one."""
    torch.set_num_threads(1)
    with devices.worker() as one:
        assert one.submit(cores_kept_busy).result() < 1.4


def test_a_number_of_threads_ends_with_its_block():
    torch.set_num_threads(1)
    with pytest.raises(KeyError), devices.threads(2):
        assert torch.get_num_threads() == 2
        raise KeyError
    assert torch.get_num_threads() == 1


def test_a_worker_follows_a_number_of_threads_that_is_set_later():
    """What is recorded where the work is submitted holds for the thread that does the work."""
    torch.set_num_threads(1)
    found = []
    with devices.worker() as one:
        assert one.submit(torch.get_num_threads).result() == 1
        for threads in (2, 1):
            torch.set_num_threads(threads)
            taken = measure(
                lambda: one.submit(lambda: found.append(torch.get_num_threads())).result(),
                budget_s=0.02,
            )
            assert taken.conditions.threads == threads and set(found) == {threads}
            found.clear()


# These start threads in which PyTorch does nothing: notebooks run in processes of their own, a
# scheduler, a speech synthesiser and servers are asked, and a parent is watched.
NO_TENSORS = {
    *("experiments/sweeping.py", "experiments/execution.py", "experiments/cluster.py"),
    *("data/speech_synthesis.py", "loadgen/sender_process.py", "serving/processes.py"),
    *("course/live_load.py", "course/traffic_panel.py", "deployment/core_share.py"),
    *("deployment/small_process.py", "classroom/batch.py", "course/exercises/limits.py"),
    *("serving/output_watch.py", "serving/application.py", "course/joining.py"),
}
STARTS_A_THREAD = re.compile(r"\b(Thread|Timer|ThreadPoolExecutor|to_thread|run_in_executor)\(")


def test_every_thread_that_the_kit_starts_asks_for_its_number_of_threads():
    """Until it asks, its matmuls take every core, whatever `torch.set_num_threads` was told."""
    root = Path(devices.__file__).parents[1]
    files = {f.relative_to(root).as_posix(): f.read_text("utf-8") for f in root.rglob("*.py")}
    start = {name for name, text in files.items() if STARTS_A_THREAD.search(text)}
    assert start >= NO_TENSORS
    assert all("threads_here()" in files[name] for name in start - NO_TENSORS)


def test_what_is_measured_in_a_new_thread_computes_with_its_threads():
    torch.set_num_threads(1)
    found = []

    def measured():
        a = torch.rand(768, 768)
        taken = measure(lambda: a @ a, budget_s=0.6)
        found.append((taken.conditions.threads, taken.conditions.surroundings.busy_here))

    new = threading.Thread(target=measured)
    new.start()
    new.join()
    ((threads, busy),) = found
    assert threads == 1 and busy < 1.4


def test_calm_threads_leave_a_core_free():
    devices.device("cpu")
    assert torch.get_num_threads() == devices.calm_threads()
    assert 1 <= devices.calm_threads() <= max(1, devices.cores_allowed() - 1)


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", True])
def test_a_wrong_number_of_threads_says_what_is_needed(threads):
    with pytest.raises(BadValue, match=rf"threads={threads!r}: needs a whole number of at least 1"):
        devices.device("cpu", threads=threads)


# --- Published limits ----------------------------------------------------------------------------


def test_the_time_by_published_limits_is_that_of_the_later_limit():
    t4, apple = (devices.published()[name] for name in ("NVIDIA T4", "Apple M1 Max"))
    assert t4.computed_s(8.1e12, 1e6) == pytest.approx(1.0)
    assert t4.computed_s(1e6, 320e9) == pytest.approx(1.0)
    assert t4.computed_s(65e12, 0, "float16", host_bytes=16e9) == pytest.approx(2.0)
    assert apple.computed_s(10.4e12, 0, host_bytes=1e12) == pytest.approx(1.0)  # nothing is copied
    with pytest.raises(UnknownName, match=r"published rate of the NVIDIA T4 .*'bfloat16'"):
        t4.computed_s(1, 1, "bfloat16")


def test_published_limits_are_dense_and_name_their_source():
    for each in devices.published().values():
        rates = each.flops_per_s
        assert "computed, not measured" in str(each) and re.search(r"20\d\d", each.source)
        # Tensor cores: tf32 is at least as fast as float32, 16 bits twice as fast as tf32.
        if "tf32" in rates:
            assert rates["float32"] <= rates["tf32"]
            assert rates["bfloat16"] == pytest.approx(2 * rates["tf32"], rel=0.01)
        # A ridge of more than 500 FLOP/byte would be one with sparsity.
        assert 10 < max(rates.values()) / each.bandwidth_bytes_per_s < 500


def test_the_table_of_published_limits_says_that_its_times_are_computed():
    table = devices.published_times(1e12, 1e9, "bfloat16")
    names = [row[0] for row in table.rows]
    assert "NVIDIA H100 SXM" in names and "NVIDIA T4" not in names
    assert "computed, not measured" in table.caption and "least time" in table.header
    assert len(devices.published_times(1e12, 1e9).rows) == len(devices.published())


# --- A made-up type of device --------------------------------------------------------------------


class MadeUp(devices.Backend):
    """An accelerator that nobody sells, with the CPU underneath; it notes what it is asked."""

    counts_memory = True
    asked: ClassVar[Counter[str]] = Counter()
    name = "Made-up 1"
    memory_bytes = 64_000

    class Event:
        def record(self):
            self.at_s = time.perf_counter()

        def elapsed_time(self, later):
            return 1000 * (later.at_s - self.at_s)

    def count(self):
        return 1

    def synchronise(self):
        self.asked["synchronise"] += 1

    def timing_event(self):
        self.asked["timing_event"] += 1
        return self.Event()

    def allocated_bytes(self):
        return 1_000

    def peak_bytes(self):
        return 3_500

    def reset_peak(self):
        self.asked["reset_peak"] += 1


@pytest.fixture
def made_up():
    """The CPU's tensors, with a backend that knows nothing of CPUs."""
    MadeUp.asked.clear()
    devices.register("cpu", MadeUp)
    yield MadeUp.asked
    devices.register("cpu", backends.CPU)


def test_another_type_of_device_is_picked_described_and_measured(made_up):
    assert devices.device("cpu") == torch.device("cpu")
    with pytest.raises(DeviceUnavailable, match="there are 1 of them"):
        devices.device("cpu:1")
    here = devices.machine()
    assert (here.accelerator, here.accelerator_memory_bytes) == ("Made-up 1", 64_000)
    a = torch.rand(4, 4)
    taken = measure(lambda: a @ a, budget_s=0.05)
    assert taken.conditions.processor == "Made-up 1" and taken.peak_bytes == 2_500
    assert made_up["synchronise"] and made_up["timing_event"] and made_up["reset_peak"]
    with devices.metered("cpu") as meter:
        pass
    assert meter.joules is None


def test_another_type_of_device_trains_and_predicts(made_up, vision):
    model = vision.model("mlp")
    history = kit.train(model, vision, steps=2, live=False)
    assert history.steps == 2
    assert kit.predict(model, vision.example(3)[0]).shape == (3, 10)
    assert not kit.training.optimizer_for(model, "adamw", 0.1).defaults["fused"]
    assert step_for("auto", torch.device("cpu")) == "plain"
    with pytest.raises(NotSupported, match="graph"):
        step_for("graph", torch.device("cpu"))
    with pytest.raises((NotSupported, NotInstalled)):
        kit.techniques.onnx.check("cpu")


def test_a_type_that_nobody_registered_gets_the_careful_answers():
    unknown = devices.backend_of("meta")
    assert (
        type(unknown) is devices.Backend and not unknown.is_cpu and unknown.name.endswith("(meta)")
    )
    assert unknown.memory_bytes is None and unknown.timing_event() is None
    assert unknown.lacks_dtype(torch.float16) == unknown.lacks_compiler() == ""
    with pytest.raises(NotImplementedError, match="'meta' cannot capture graphs"):
        unknown.capture(lambda: torch.ones(1), lambda: None)


# A device's type outside of `kit/devices/`, and why it may stand there.
MAY_LOOK = {
    "training/sharding.py": "PyTorch wants the type's name for its mesh",
    "training/steps.py": "PyTorch wants the type's name for autocast",
    "training/distributed.py": "in a message and in a device with a number",
    "inference/prediction.py": "compares two devices",
    "measurement/agreement.py": "compares two devices",
}


def test_only_backends_look_at_the_type_of_a_device():
    root = Path(kit.__file__).parent
    looks = re.compile(r"device\.type|\.is_cuda|torch\.cuda|torch\.xpu|torch\.mps")
    found = {
        file.relative_to(root).as_posix()
        for file in root.rglob("*.py")
        if looks.search(file.read_text(encoding="utf-8"))
    }
    assert {name for name in found if not name.startswith("devices/")} <= set(MAY_LOOK)


# --- Waiting and seeding -------------------------------------------------------------------------


def test_there_is_nothing_to_wait_for_on_the_cpu():
    assert devices.synchronise("cpu") is None


@needs_accelerator
def test_waiting_waits_for_the_accelerator():
    import time

    where = devices.present_devices()[0]
    a = torch.ones(4096, 4096, device=where)
    torch.mm(a, a)
    devices.synchronise(where)
    started = time.perf_counter()
    for _ in range(50):
        torch.mm(a, a)
    noted = time.perf_counter() - started
    devices.synchronise(where)
    assert time.perf_counter() - started > 2 * noted


def test_a_seed_repeats_python_numpy_and_torch():
    def draw():
        devices.seed(7)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw() == draw()


@pytest.mark.parametrize("n", [-1, 2**32, 1.5, "7", None])
def test_a_wrong_seed_says_what_is_needed(n):
    with pytest.raises(BadValue, match=r"needs a whole number from 0 to 2\*\*32 - 1"):
        devices.seed(n)


# --- Limits, from files --------------------------------------------------------------------------

AFFINITY = devices.cores_allowed(Path("/nonexistent"))
MEMORY = psutil.virtual_memory().total


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("50000 100000", 0.5),
        ("30000 20000", min(1.5, AFFINITY)),
        ("max 100000", AFFINITY),
        ("99900000 100000", AFFINITY),  # 999 cores are more than there are
    ],
)
def test_a_quota_of_cgroup_v2(tmp_path, quota, cores):
    write(tmp_path, cpu_max=quota)
    assert devices.cores_allowed(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("25000", 0.25), ("-1", AFFINITY)])
def test_a_quota_of_cgroup_v1(tmp_path, quota, cores):
    write(tmp_path / "cpu", cpu_cfs_quota_us=quota, cpu_cfs_period_us="100000")
    assert devices.cores_allowed(tmp_path) == cores


@pytest.mark.parametrize(
    ("limit", "allowed"),
    [("1000000000", 1_000_000_000), ("max", MEMORY), (str(2**62), MEMORY)],
)
def test_a_memory_limit_of_cgroup_v2(tmp_path, limit, allowed):
    write(tmp_path, memory_max=limit)
    assert devices.memory_allowed(tmp_path) == allowed


@pytest.mark.parametrize(
    ("limit", "allowed"), [("1000000000", 1_000_000_000), ("9223372036854771712", MEMORY)]
)
def test_a_memory_limit_of_cgroup_v1(tmp_path, limit, allowed):
    write(tmp_path / "memory", memory_limit_in_bytes=limit)
    assert devices.memory_allowed(tmp_path) == allowed


@needs_linux
@pytest.mark.parametrize("parent", ["50000 100000", "max 100000"])
def test_the_smaller_of_parent_and_own_group_counts_in_v2(tmp_path, parent):
    write(tmp_path / own_groups().get("", ""), cpu_max="75000 100000")
    write(tmp_path, cpu_max=parent) if own_groups().get("") else None
    expected = 0.5 if parent != "max 100000" and own_groups().get("") else 0.75
    assert devices.cores_allowed(tmp_path) == expected


@needs_linux
@pytest.mark.parametrize("parent", ["1000000000", "9223372036854771712"])
def test_the_smaller_of_parent_and_own_group_counts_in_v1(tmp_path, parent):
    """A machine may have both kinds of groups at once, each with a path of its own."""
    own = own_groups().get("memory")
    if not own:
        pytest.skip("this process is in no memory group of cgroup v1 below the root")
    write(tmp_path / "memory", memory_limit_in_bytes=parent)
    write(tmp_path / "memory" / own, memory_limit_in_bytes="2000000000")
    expected = 1_000_000_000 if parent == "1000000000" else 2_000_000_000
    assert devices.memory_allowed(tmp_path) == expected


@pytest.mark.parametrize("text", ["", "nonsense", "100000 nonsense"])
def test_an_unreadable_limit_is_no_limit(tmp_path, text):
    write(tmp_path, cpu_max=text, memory_max=text.replace("100000 ", ""))
    assert devices.cores_allowed(tmp_path) == AFFINITY
    assert devices.memory_allowed(tmp_path) == MEMORY


# --- Memory left, from files ---------------------------------------------------------------------

GB = 1_000_000_000


@pytest.fixture
def plenty(monkeypatch):
    """As if the system had 64 GB to give."""
    memory = type("memory", (), {"available": 64 * GB, "total": 64 * GB})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({}, 64 * GB),
        ({"memory_max": f"{3 * GB}", "memory_current": f"{GB}"}, 2 * GB),
        ({"memory_max": f"{GB}", "memory_current": f"{3 * GB}"}, 0),  # lowered afterwards
        ({"memory_max": "max", "memory_current": f"{GB}"}, 64 * GB),
        ({"memory_max": f"{99 * GB}", "memory_current": f"{GB}"}, 64 * GB),
        ({"memory_max": f"{GB}"}, 64 * GB),  # how much is used, it does not tell
    ],
)
def test_memory_left_in_cgroup_v2(tmp_path, plenty, files, left):
    write(tmp_path, **files)
    assert devices.memory_left(tmp_path) == left


def test_memory_left_in_cgroup_v1(tmp_path, plenty):
    used = {"memory_limit_in_bytes": f"{3 * GB}", "memory_usage_in_bytes": f"{GB}"}
    write(tmp_path / "memory", **used)
    assert devices.memory_left(tmp_path) == 2 * GB


@pytest.mark.parametrize(
    ("folder", "limit", "usage", "name"),
    [
        ("", "memory_max", "memory_current", "inactive_file"),
        ("memory", "memory_limit_in_bytes", "memory_usage_in_bytes", "total_inactive_file"),
    ],
)
def test_copies_of_files_make_room_for_whoever_needs_it(
    tmp_path, plenty, folder, limit, usage, name
):
    """A program that has read much data would else seem to have no memory left."""
    stat = f"anon 5\n{name} {GB // 2}\nother {GB}"
    files = {limit: f"{3 * GB}", usage: f"{3 * GB}", "memory_stat": stat}
    write(tmp_path / folder, **files)
    assert devices.memory_left(tmp_path) == GB // 2


def test_some_memory_is_left_here():
    assert 0 < devices.memory_left() <= devices.memory_allowed()


# --- Memory that is refused ----------------------------------------------------------------------

FLOATS = 100_000_000  # in 400 MB, of which nothing is ever touched


@pytest.fixture
def little(monkeypatch):
    """As if 200 MB were left; the limit that was there before is checked afterwards."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(resource_limits, "memory_left", lambda: 200_000_000)
    yield lambda: resource.getrlimit(resource.RLIMIT_DATA)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@needs_linux
@pytest.mark.parametrize("take", [torch.empty, np.empty, lambda n: bytearray(4 * n)])
def test_more_memory_than_is_left_is_refused_within_and_given_without(little, take):
    with devices.memory_guard():
        take(FLOATS // 10)
        with pytest.raises((MemoryError, RuntimeError)) as refused:
            take(FLOATS)
    assert devices.out_of_memory(refused.value)
    take(FLOATS)


@needs_linux
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, MemoryError])
def test_the_limit_is_lifted_after_an_error_too(little, error):
    before = little()
    with pytest.raises(error), devices.memory_guard():
        assert little() != before
        raise error
    assert little() == before


@needs_linux
def test_a_smaller_limit_that_was_there_stays(little):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    smaller = resource_limits.process_bytes("VmData") + 100_000_000
    resource.setrlimit(resource.RLIMIT_DATA, (smaller, hard))
    try:
        with devices.memory_guard():
            assert little() == (smaller, hard)
        assert little() == (smaller, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@needs_linux
def test_guards_may_be_nested(little):
    with devices.memory_guard():
        outer = little()
        with devices.memory_guard():
            assert little() <= outer
        assert little() == outer


def test_where_the_system_does_not_tell_nothing_is_guarded(monkeypatch, little):
    monkeypatch.setattr(resource_limits, "process_bytes", lambda name: None)
    before = little()
    with devices.memory_guard():
        assert little() == before


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True),  # Windows
        (RuntimeError("MPS backend out of memory (MPS allocated"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
        (None, False),
    ],
)
def test_which_errors_mean_that_memory_ran_out(error, is_it):
    assert devices.out_of_memory(error) is is_it
    failed = CallFailed("a call raised it")
    failed.__cause__ = error
    assert devices.out_of_memory(failed) is is_it


@pytest.mark.parametrize("take", [torch.empty, np.empty, lambda n: [0] * n])
def test_real_want_of_memory_is_known(take):
    with pytest.raises((MemoryError, RuntimeError)) as refused:
        take(10**15)
    assert devices.out_of_memory(refused.value)


# --- Limits, from the kernel ---------------------------------------------------------------------

ANSWER = """
import sys
from kit import devices
for question in sys.stdin:
    print(eval(question), flush=True)
"""


class Asked:
    """Another process that says what it may use."""

    def __init__(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([sys.executable, "-c", ANSWER], **pipes)
        self.pid = self.process.pid

    def __call__(self, question: str) -> float:
        self.process.stdin.write(f"devices.{question}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@pytest.fixture(scope="module")
def other():
    asked = Asked()
    yield asked
    asked.process.stdin.close()
    asked.process.wait(timeout=20)


@pytest.fixture
def group(other):
    """Make a real control group for a controller, below our own, and put the other process in."""
    made: list[tuple[Path, Path]] = []

    def make(controller: str, *nested: str) -> list[Path]:
        own = own_groups()
        v1 = CGROUPS / controller / own.get(controller, "")
        parent = v1 if controller in own else CGROUPS / own.get("", "")
        folders = [
            parent / f"kit-test-{os.getpid()}" / "/".join(nested[:i])
            for i in range(len(nested) + 1)
        ]
        try:
            folders[-1].mkdir(parents=True)
            made.append((folders, parent))
            (folders[-1] / "cgroup.procs").write_text(str(other.pid))
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        if not list(folders[0].glob(f"{controller}.*")):
            pytest.skip(f"the {controller} controller is not given to control groups made here")
        return folders

    yield make
    for folders, parent in made:
        (parent / "cgroup.procs").write_text(str(other.pid))
        for folder in reversed(folders):
            folder.rmdir()


def limit_cpu(group: Path, share: float) -> None:
    if (group / "cpu.max").exists():
        (group / "cpu.max").write_text(f"{int(share * 100_000)} 100000")
    else:
        (group / "cpu.cfs_quota_us").write_text(str(int(share * 100_000)))


def limit_memory(group: Path, size: int) -> None:
    name = "memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes"
    (group / name).write_text(str(size))


@needs_linux
def test_the_affinity_counts(other):
    before = os.sched_getaffinity(other.pid)
    os.sched_setaffinity(other.pid, {min(before)})
    assert other("cores_allowed()") <= 1
    assert other("calm_threads()") == 1
    os.sched_setaffinity(other.pid, before)
    assert other("cores_allowed()") == devices.cores_allowed()


@needs_linux
def test_a_real_quota_counts(group, other):
    (outer,) = group("cpu")
    limit_cpu(outer, 0.5)
    assert other("cores_allowed()") == 0.5


@needs_linux
def test_a_real_quota_of_the_parent_counts(group, other):
    outer, _ = group("cpu", "inner")
    limit_cpu(outer, 0.5)
    assert other("cores_allowed()") == 0.5


@needs_linux
def test_a_real_memory_limit_counts(group, other):
    (outer,) = group("memory")
    limit_memory(outer, 3 * 2**30)
    assert other("memory_allowed()") == 3 * 2**30


# --- The machine ---------------------------------------------------------------------------------


def test_the_machine_describes_itself():
    here = devices.machine()
    assert here.cores_allowed == devices.cores_allowed() <= here.cores_present
    assert here.memory_allowed_bytes == devices.memory_allowed() <= here.memory_present_bytes
    assert here.threads == torch.get_num_threads()
    assert here.cpu and here.python in sys.version
    assert f"PyTorch {torch.__version__}" in repr(here)


def test_a_machine_without_an_accelerator_says_so():
    if torch.accelerator.is_available():
        pytest.skip("this machine has one")
    here = devices.machine()
    assert here.accelerator is None and here.accelerator_memory_bytes is None
    assert "everything here runs on the CPU" in str(here.table())


def test_the_cpu_is_called_what_the_machine_calls_it():
    assert devices.backend_of("cpu").name == devices.machine().cpu


@needs_accelerator
def test_the_accelerator_is_named():
    assert devices.machine().accelerator in str(devices.machine().table())


# --- Memory of the process -----------------------------------------------------------------------

TELL = "from kit.devices import process_peak_bytes as peak; "


def told_by(program):
    """What a fresh process prints, as numbers."""
    done = subprocess.run(
        [sys.executable, "-c", TELL + program], capture_output=True, text=True, check=True
    )
    return [int(line) for line in done.stdout.split()]


def test_the_memory_of_a_program_is_that_of_a_fresh_process():
    small = devices.peak_bytes_of("import torch; print('not a number')")
    large = devices.peak_bytes_of("import torch; big = b'x' * 300_000_000")
    assert large - small == pytest.approx(300_000_000, rel=0.1)


def test_a_process_knows_the_most_memory_that_it_has_had():
    taken = 300_000_000
    before, with_it, after = told_by(
        f"print(peak()); big = b'x' * {taken}; print(peak()); del big; print(peak())"
    )
    assert with_it - before == pytest.approx(taken, rel=0.1)
    assert after == pytest.approx(with_it, rel=0.01)  # the most, not what there is now
    assert 50e6 < before < 2e9  # in bytes: Python with PyTorch


def test_a_small_process_that_a_large_one_starts_is_still_small():
    """Linux's `getrusage` would tell it the size of the process that it was started by."""
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    (alone,) = told_by("print(peak())")
    program = f"import sys; sys.argv[1] = {TELL + 'print(peak())'!r}; big = b'x' * 10**9; {child}"
    done = subprocess.run(
        [sys.executable, "-c", program, ""], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == pytest.approx(alone, rel=0.2)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux counts data")
def test_the_memory_left_obeys_a_limit_of_the_process():
    """`ulimit -d`, as a teacher or a test sets it: arrays are chosen by what is left."""
    code = (
        "import resource; from kit.devices.resource_limits import memory_left; "
        "resource.setrlimit(resource.RLIMIT_DATA, (2**29, 2**29)); print(memory_left())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < int(run.stdout) < 2**29
