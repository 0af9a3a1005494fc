"""A device that only notes what to compute: by a made-up one, and by XLA where it is installed.

XLA needs another PyTorch than the lock: `torch==2.9.0 torch_xla==2.9.0` in an environment of its
own. Give its Python by KIT_TEST_XLA. `torch_tpu` starts on a TPU only; KIT_TEST_TPU gives a Python
that has it, with click, on a computer without a TPU. Without them these tests skip.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

import kit
from kit import devices
from kit.cli import doctor
from kit.devices import backends, tpu

ROOT = Path(__file__).parents[1]
for_real = pytest.mark.timeout(1200)  # seconds; XLA compiles for minutes beside other work


class Lazy(backends.CPU):
    """The CPU, which counts how often it was asked to begin."""

    lazy = True
    started = 0
    compiled_s = 0.0  # as if the device said so; it takes no time

    def start(self):
        type(self).started += 1
        type(self).compiled_s += 100.0

    def compile_s(self):
        return self.compiled_s


@pytest.fixture
def lazy(monkeypatch):
    monkeypatch.setattr(Lazy, "started", 0)
    monkeypatch.setattr(Lazy, "compiled_s", 0.0)
    monkeypatch.setattr(backends, "_lazy_types", set())
    devices.register("cpu", Lazy)
    devices.backend_of("cpu")
    yield Lazy
    devices.register("cpu", backends.CPU)


def test_each_step_and_each_answer_begins_at_once(lazy):
    """Otherwise a lazy device would make one program of a thousand steps."""
    model = torch.nn.Linear(2, 1)
    x, y = torch.ones(3, 2), torch.ones(3, 1)
    kit.predict(model, x)
    assert lazy.started == 1
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kit.step(model, optimizer, x, y, torch.nn.functional.mse_loss)
    assert lazy.started == 2


def test_what_is_no_tensor_of_a_lazy_device_begins_nothing(lazy):
    devices.start_work((torch.ones(1),))
    devices.start_work(torch.ones(1, device="meta"))
    assert lazy.started == 0


def test_other_devices_have_nothing_to_begin():
    assert not backends._lazy_types and devices.start_work(torch.ones(1)) is None


def test_the_tpus_that_need_a_package_are_not_imported_without_it():
    assert tpu.xla_devices() == [] or os.environ.get("PJRT_DEVICE")
    for name in ("tpu", "xla"):
        backend = backends.BACKENDS[name](torch.device("meta"))
        assert "bfloat16" in backend.lacks_dtype(torch.float16)
        assert backend.dtypes() == [torch.float32, torch.bfloat16]


# --- Compile time is not step time ---------------------------------------------------------------


def test_the_seconds_of_the_devices_compiler_are_no_training_time(lazy, vision):
    history = kit.train(vision.model("mlp"), vision, steps=5, live=False)
    assert history.compile_s == 500 and 0 < history.train_s < 60  # 100 s at each of five steps
    assert sum(seconds for _, seconds in history.reads) == pytest.approx(history.train_s)


def test_a_budget_is_one_of_training_time(lazy, vision):
    history = kit.train(vision.model("mlp"), vision, steps=3, budget_s=90.0, live=False)
    assert history.steps == 3 and not history.stopped


def test_a_measurement_shows_the_seconds_of_the_devices_compiler(lazy):
    taken = kit.measure(lazy(torch.device("cpu")).start, budget_s=0.01)
    assert taken.compile_s >= 100 and "compiling took" in str(taken.table())


class Compiles(backends.CPU):
    """A device that compiles each operation for itself, and multiplies bfloat16."""

    compiles = True
    precision = "bf16"


@pytest.fixture
def compiles():
    devices.register("cpu", Compiles)
    yield
    devices.register("cpu", backends.CPU)


def test_operations_are_compiled_by_a_pass_that_changes_nothing(vision):
    kit.seed(0)
    plain, other = vision.model("cnn"), vision.model("cnn")
    other.load_state_dict(plain.state_dict())
    before = kit.train(plain, vision, steps=3, live=False)
    devices.register("cpu", Compiles)
    try:
        after = kit.train(other, vision, steps=3, live=False, precision="fp32")
    finally:
        devices.register("cpu", backends.CPU)
    assert before.compile_s == 0 < after.compile_s and before.losses == after.losses


# --- bfloat16 by default -------------------------------------------------------------------------


def test_a_tpu_trains_in_bfloat16_unless_it_is_asked_not_to(compiles, vision):
    model = vision.model("mlp")
    assert kit.train(model, vision, steps=1, live=False).precision == "bf16"
    assert kit.train(model, vision, steps=1, live=False, precision="fp32").precision == "fp32"
    assert "trains in bf16" not in str(doctor._accelerator())  # the CPU is no accelerator


def test_other_devices_train_in_float32(vision):
    assert backends.BACKENDS["tpu"](torch.device("meta")).precision == "bf16"
    assert devices.backend_of("cpu").precision == devices.backend_of("cuda").precision == "fp32"
    assert kit.train(vision.model("mlp"), vision, steps=1, live=False).precision == "fp32"


def test_the_bare_steps_multiply_as_the_training_does(compiles, vision):
    kit.seed(0)
    one, other = vision.model("mlp"), vision.model("mlp")
    other.load_state_dict(one.state_dict())
    first = kit.train(one, vision, steps=1, live=False).losses[0]
    assert next(kit.training.updates(other, vision)).item() == pytest.approx(first, abs=1e-6)


# --- The doctor ----------------------------------------------------------------------------------


def bus(folder, *chips):
    """The files of a computer's bus, with these (maker, chip)."""
    for number, (maker, chip) in enumerate(chips):
        device = folder / f"0000:00:0{number}.0"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{maker}\n")
        (device / "device").write_text(f"{chip}\n")
    return folder


def test_a_chip_is_found_on_the_bus_and_a_network_card_of_its_maker_is_none(tmp_path):
    network = ("0x1ae0", "0x0042")
    assert devices.tpu_chip(bus(tmp_path / "one", network, ("0x8086", "0x0063"))) == ""
    assert devices.tpu_chip(bus(tmp_path / "two", network, ("0x1ae0", "0x006f"))) == "TPU v6e"
    assert devices.tpu_chip(tmp_path / "none") == ""


@pytest.fixture
def doctors_line(monkeypatch, tmp_path):
    """What the doctor says of the accelerator where this package and this chip are."""

    def line(package, chip):
        if package:
            about = tmp_path / f"{package}-0.2.0.dist-info"
            about.mkdir(exist_ok=True)
            (about / "METADATA").write_text(f"Name: {package}\nVersion: 0.2.0\n")
            monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(devices, "tpu_chip", lambda: chip)
        return str(doctor._accelerator())

    return line


def test_the_doctor_has_one_line_for_each_case(doctors_line):
    assert "none  → nothing to do" in doctors_line("", "")
    assert "TPU v5e, without a package for it  → to add" in (told := doctors_line("", "TPU v5e"))
    assert "[tpu]" in told
    assert "torch_tpu 0.2.0 finds no TPU  → nothing to do" in doctors_line("torch_tpu", "")
    assert "TPU v5e, which torch_tpu 0.2.0 cannot start" in doctors_line("torch_tpu", "TPU v5e")


def test_the_extra_is_missing_only_where_there_is_a_tpu(monkeypatch):
    monkeypatch.setattr(devices, "tpu_chip", lambda: "")
    if not doctor._installed("torch_tpu"):
        assert "tpu" not in doctor._extras().found
    monkeypatch.setattr(devices, "tpu_chip", lambda: "TPU v5e")
    assert "tpu" in doctor._extras().found


def test_torch_tpu_without_a_tpu_is_said_in_one_line():
    python = os.environ.get("KIT_TEST_TPU")
    if not python:
        pytest.skip("needs torch_tpu in an environment of its own: give its Python by KIT_TEST_TPU")
    program = "from kit.cli.doctor import _accelerator; import kit; print(_accelerator())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "finds no TPU  → nothing to do" in done.stdout.splitlines()[-1]


# --- For real: XLA on a processor ----------------------------------------------------------------


PROGRAM = """
import json, time, torch, kit
where = kit.device()
work = kit.workloads.vision()
model, twin = work.model("mlp").to(where), work.model("mlp").to(where)
inputs, _ = work.example(64, where)
answer = kit.predict(model, inputs).cpu()
same = torch.allclose(answer, kit.predict(model.cpu(), inputs.cpu()), atol=1e-4)
model.to(where)

def stack():
    y = torch.ones(700, 700, device=where)
    for _ in range(10):
        y = y @ y / 700
    kit.devices.start_work(y)

stack(); kit.devices.synchronise(where)
started = time.perf_counter(); stack(); naive_s = time.perf_counter() - started
kit.devices.synchronise(where)
taken = kit.measure(stack, budget_s=0.5, device=where)
started = time.perf_counter()
history = kit.train(model, work, steps=20, live=False)
took_s = time.perf_counter() - started
sgd = torch.optim.SGD(twin.parameters(), lr=0.05)
batch = work.example(64, where)
narrow = [kit.step(twin, sgd, *batch, work.loss, torch.bfloat16).item() for _ in range(3)]
draws = []
for _ in range(2):
    kit.seed(0)
    draws.append(torch.rand(3, device=where).cpu())
one, other = lambda: kit.predict(model, inputs), lambda: kit.predict(twin, inputs)
calls = {"one": one, "two": lambda: [one(), other()]}
compared = kit.compare(calls, budget_s=1, varied=("work",), device=where)
fresh = torch.ones(64, 77, device=where)
compiled = kit.measure(lambda: kit.devices.start_work(fresh @ fresh.T), budget_s=0.1, device=where)
print(json.dumps({"type": where.type, "name": kit.machine().accelerator, "same": same,
    "precision": history.precision, "narrow": narrow,
    "draws": torch.equal(*draws),
    "train_s": history.train_s, "compile_s": history.compile_s, "compiled_s": compiled.compile_s,
    "took_s": took_s, "naive_s": naive_s, "measured_s": taken.median.value,
    "loss": history.losses[-1], "first_loss": history.losses[0],
    "ratio": compared.ratio("two").low}))
"""


@pytest.fixture(scope="module")
def by_xla():
    python = os.environ.get("KIT_TEST_XLA")
    if not python:
        pytest.skip("needs torch_xla in an environment of its own: give its Python by KIT_TEST_XLA")
    environment = {**os.environ, "PJRT_DEVICE": "CPU", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([python, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@for_real
def test_xla_is_found_and_computes_what_the_cpu_computes(by_xla):
    assert by_xla["type"] == "xla" and by_xla["name"].endswith("by XLA") and by_xla["same"]


@for_real
def test_a_clock_without_waiting_measures_the_noting(by_xla):
    """The stopwatch of the kit waits: it shows many times what a naive timer shows."""
    assert by_xla["measured_s"] > 3 * by_xla["naive_s"]


@for_real
def test_it_trains_and_compares_there(by_xla):
    assert by_xla["loss"] < by_xla["first_loss"]
    assert by_xla["ratio"] > 1.2
    assert by_xla["precision"] == "fp32" and by_xla["narrow"][-1] < by_xla["narrow"][0]


@for_real
def test_what_xla_compiles_is_no_training_time(by_xla):
    assert by_xla["compile_s"] > 0 and by_xla["compiled_s"] > 0
    assert by_xla["train_s"] + by_xla["compile_s"] <= 1.02 * by_xla["took_s"]


@for_real
def test_a_seed_repeats_what_xla_draws(by_xla):
    assert by_xla["draws"]
