"""A device that only notes what to compute: by a made-up one, and by XLA where it is installed.

XLA needs another PyTorch than the lock: `torch==2.9.0 torch_xla==2.9.0` in an environment of its
own. Give its Python by KIT_TEST_XLA; without it these tests skip. No TPU is needed.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

import kit
from kit import devices
from kit.devices import backends

ROOT = Path(__file__).parents[1]


class Lazy(backends.CPU):
    """The CPU, which counts how often it was asked to begin."""

    lazy = True
    started = 0

    def start(self):
        type(self).started += 1


@pytest.fixture
def lazy(monkeypatch):
    monkeypatch.setattr(Lazy, "started", 0)
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
    assert backends.xla_devices() == [] or os.environ.get("PJRT_DEVICE")
    for name in ("tpu", "xla"):
        backend = backends.BACKENDS[name](torch.device("meta"))
        assert "bfloat16" in backend.lacks_dtype(torch.float16)
        assert backend.lacks_dtype(torch.float32) == ""


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
history = kit.train(model, work, steps=40, live=False)
one, other = lambda: kit.predict(model, inputs), lambda: kit.predict(twin, inputs)
calls = {"one": one, "two": lambda: [one(), other()]}
compared = kit.compare(calls, budget_s=1, varied=("work",))
print(json.dumps({"type": where.type, "name": kit.machine().accelerator, "same": same,
    "naive_s": naive_s, "measured_s": taken.median.value, "loss": history.losses[-1],
    "first_loss": history.losses[0], "ratio": compared.ratio("two").low}))
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


def test_xla_is_found_and_computes_what_the_cpu_computes(by_xla):
    assert by_xla["type"] == "xla" and by_xla["name"].endswith("by XLA") and by_xla["same"]


def test_a_clock_without_waiting_measures_the_noting(by_xla):
    """The stopwatch of the kit waits: it shows many times what a naive timer shows."""
    assert by_xla["measured_s"] > 3 * by_xla["naive_s"]


def test_it_trains_and_compares_there(by_xla):
    assert by_xla["loss"] < by_xla["first_loss"]
    assert by_xla["ratio"] > 1.2
