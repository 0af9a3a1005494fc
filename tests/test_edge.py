"""A model in a small process: what it contains, what it reports, and each way in which it fails."""

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import kit
from kit.core.errors import BadValue, CallFailed, NotComparable, NotSupported, ShapeMismatch
from kit.core.results import RECORD
from kit.deployment import edge_table, published_table, real_time_factors
from kit.deployment.core_share import core_share, used_s
from kit.deployment.edge_failure import failure
from kit.deployment.published_devices import published_figures
from kit.deployment.sessions import OPENERS
from kit.deployment.small_process import edge
from kit.deployment.timed_calls import COUNTERS, timed_calls
from kit.inference import Runtime, predict
from kit.models import MLP, MLPConfig
from kit.techniques.runtimes import Exported, load_onnxruntime

helper = pytest.importorskip("onnx").helper
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and counters are Linux's")
BATCH, FEATURES, OUTPUTS = "batch", 4, 3
WEIGHTS = np.arange(FEATURES * OUTPUTS, dtype=np.float32).reshape(FEATURES, OUTPUTS)
INPUTS = torch.arange(8 * FEATURES, dtype=torch.float32).reshape(8, FEATURES) / 10


def onnx_file(operator: str = "MatMul", domain: str = "") -> bytes:
    """inputs (B, 4) @ weights (4, 3), with any operator in place of the product."""
    from onnx import TensorProto, numpy_helper

    node = helper.make_node(operator, ["inputs", "weights"], ["outputs"], domain=domain)
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("inputs", TensorProto.FLOAT, [BATCH, FEATURES])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, [BATCH, OUTPUTS])],
        [numpy_helper.from_array(WEIGHTS, "weights")],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def counting_file() -> bytes:
    """A model with a memory: it returns its input + its state, and the state + 1."""
    from onnx import TensorProto, numpy_helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["inputs", "state"], ["outputs"]),
            helper.make_node("Add", ["state", "one"], ["next_state"]),
        ],
        "graph",
        [value(name, TensorProto.FLOAT, [1, 1]) for name in ("inputs", "state")],
        [value(name, TensorProto.FLOAT, [1, 1]) for name in ("outputs", "next_state")],
        [numpy_helper.from_array(np.ones((1, 1), np.float32), "one")],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("edge") / "product.onnx"
    path.write_bytes(onnx_file())
    return path


@pytest.fixture(scope="module")
def run(path):
    expected = INPUTS @ torch.from_numpy(WEIGHTS)
    return edge(path, INPUTS, calls=700, every_s=None, deadline_s=1.0, expected=expected)


# --- What the process contains -------------------------------------------------------------------


def test_the_process_contains_no_pytorch_and_no_training(run):
    for name in ("torch", "kit.training", "kit.techniques", "kit.models", "kit.course", "scipy"):
        assert not run.imported(name), name
    assert run.imported("onnxruntime") and run.imported("kit.deployment.sessions")
    assert set(run.kit_modules) <= {
        *("kit", "kit.core", "kit.core.lazy", "kit.core.silence", "kit.deployment"),
        *("kit.deployment.sessions", "kit.deployment.timed_calls"),
    }


def test_its_packages_are_those_that_it_imported(run):
    assert {"onnxruntime", "numpy"} <= set(run.packages)
    assert "torch" not in run.packages and "setuptools" not in run.packages
    assert run.dependencies_bytes == sum(run.packages.values()) > 10_000_000


def test_pytorch_runs_beside_it_without_the_training_code():
    model = MLP(MLPConfig(features=4, hidden=4, classes=OUTPUTS))
    images = torch.rand(3, 1, 2, 2)
    beside = edge(model, images, calls=3, every_s=None, expected=predict(model, images))
    assert beside.runtime == "pytorch" and beside.imported("torch")
    assert not beside.imported("kit.training")
    torch.testing.assert_close(torch.from_numpy(beside.outputs), predict(model, images))


# --- What it reports -----------------------------------------------------------------------------


def test_it_answers_each_input_once_in_order(run):
    np.testing.assert_allclose(run.outputs, INPUTS.numpy() @ WEIGHTS, rtol=1e-6)


def test_its_phases_and_calls_add_up(run, path):
    phases = (run.start_s, run.import_s, run.load_s, run.first_s)
    assert all(phase > 0 for phase in phases) and run.ready_s == sum(phases)
    assert f"imports {kit.units.words(run.import_s, 's')}, opening" in run.table().details
    assert run.n == 700 and run.model_bytes == path.stat().st_size
    assert 0 < run.median_s <= run.worst_s < 1
    assert run.percentile(99).value <= run.worst_s
    assert run.missed().value == 0 < run.missed().high
    assert run.missed(1e-9).value == 1
    with pytest.raises(BadValue, match="no deadline"):
        dataclasses.replace(run, deadline_s=None).missed()


@linux
def test_its_memory_is_its_own(run):
    """Not that of the process which started it, which has PyTorch."""
    assert 10e6 < run.resident_bytes < 120e6
    assert run.threads <= 4 and run.private_bytes > 0


def test_a_result_says_what_was_restricted(run):
    assert run.restricted == "this computer, restricted to one thread"
    limited = dataclasses.replace(run, memory_bytes=120_000_000, share=0.25)
    assert limited.restricted.endswith("one thread, 120 MB of private memory, 25.0 % of a core")
    table = edge_table({"a": run, "b": limited})
    assert "No device was measured" in table.caption and len(table.rows) == 2
    assert "runtime" not in table.header and "Runtime: onnxruntime." in table.caption  # shared
    assert "runtime" in edge_table([run]).header
    with pytest.raises(BadValue, match="no runs"):
        edge_table([])


def test_a_result_is_its_own_record(run):
    record = run._repr_mimebundle_()[RECORD]
    assert record["kind"] == "EdgeRun" and record["has_pytorch"] is False
    assert len(record["times_s"]) == 700 and "outputs" not in record
    json.dumps(record)
    assert "slowest" in run.plot().caption
    none = dataclasses.replace(run, joules=None)
    assert none.joules_per_answer is None
    assert "energy per answer" not in none.table().header  # nobody knows it: no empty column
    assert dataclasses.replace(run, joules=7.0).joules_per_answer == pytest.approx(0.01)


def test_a_model_with_a_memory_gets_its_state_back(tmp_path):
    file = tmp_path / "counting.onnx"
    file.write_bytes(counting_file())
    found = edge(file, torch.zeros(5, 1), calls=1, every_s=None)
    assert found.outputs.flatten().tolist() == [0, 1, 2, 3, 4]


def test_a_pace_is_held():
    columns = dict(zip(COUNTERS, timed_calls(lambda i: None, 5, 0.01), strict=True))
    assert len(columns["times_s"]) == 5
    assert all(late < 0.5 for late in columns["late_s"])


def test_another_runtime_gives_the_same_answers(path, run):
    pytest.importorskip("openvino")
    other = edge(path, INPUTS, runtime="openvino", calls=2, every_s=None)
    assert not other.imported("torch") and not other.imported("openvino_telemetry")
    np.testing.assert_allclose(other.outputs, run.outputs, rtol=1e-5)


def test_a_program_of_executorch_brings_pytorch_along():
    """Its Python binding passes tensors of PyTorch: lesson 12 says so."""
    pytest.importorskip("executorch")
    model, images = MLP(MLPConfig(features=4, hidden=4, classes=OUTPUTS)), torch.rand(3, 1, 2, 2)
    small = kit.techniques.executorch(model.eval(), images)
    found = edge(small, images, calls=2, every_s=None, expected=predict(model, images))
    assert found.runtime == "executorch" and found.imported("torch")
    assert not found.imported("kit.training") and not found.imported("onnxruntime")
    with pytest.raises(BadValue, match="cannot open this model"):
        edge(small, images, runtime="pytorch", calls=1)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_session_says_what_the_file_takes(runtime):
    pytest.importorskip(runtime)
    session = OPENERS[runtime](onnx_file(), 1)
    assert session.shapes == ((None, FEATURES),) and session.dtypes == ("float32",)
    assert session.states() == []


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("shape", [(2, FEATURES + 1), (2, 1, FEATURES)])
def test_a_session_refuses_arrays_of_another_shape(runtime, shape):
    """Also without the checks in Python that ONNX Runtime would make at each call."""
    pytest.importorskip(runtime)
    session = OPENERS[runtime](onnx_file(), 1)
    with pytest.raises(Exception, match=r"(?i)dimension|rank|shape"):  # the runtime's own
        session.run(np.zeros(shape, np.float32))


# --- Why the slowest call was slow ---------------------------------------------------------------


def slow(run, **counters):
    """The run with a call 3 of 10 ms, which has these counters."""

    def at_3(values, value):
        return tuple(value if i == 3 else each for i, each in enumerate(values))

    counters = {"times_s": 0.01, "running_s": 0.01, **counters}
    quiet = dict.fromkeys(("taken_away", "waited", "page_faults", "collections"), (0.0,) * run.n)
    fast = {"times_s": (1e-5,) * run.n, "running_s": (1e-5,) * run.n, **quiet}
    return dataclasses.replace(run, **{k: at_3(v, counters.get(k, 0.0)) for k, v in fast.items()})


@pytest.mark.parametrize(
    ("counters", "cause"),
    [
        ({"running_s": 1e-3, "taken_away": 2}, "another program had the core for 9.00 ms (2 con"),
        ({"running_s": 1e-3, "waited": 1}, "the thread waited for 9.00 ms"),
        ({"running_s": 1e-3}, "without a context switch"),
        ({"collections": 1}, "Python collected garbage"),
        ({"page_faults": 7}, "took 7 pages of memory"),
        ({"taken_away": 1}, "ran all the time, but more slowly"),  # a switch that took no time
    ],
)
def test_the_cause_of_the_slowest_call_follows_from_its_counters(run, counters, cause):
    assert cause in slow(run, **counters).cause


def test_a_process_that_is_held_to_a_share_was_stopped_by_that(run):
    held = dataclasses.replace(slow(run, running_s=1e-3, taken_away=2), share=0.2)
    assert "share of a core was used up" in held.cause


def test_a_cause_that_is_not_counted_is_not_invented(run):
    unknown = dataclasses.replace(slow(run), running_s=(0.0,) * run.n)
    assert unknown.cause.startswith("not known")


def test_garbage_and_faults_are_counted_in_the_call_in_which_they_happen():
    import gc

    columns = timed_calls(lambda i: gc.collect() if i == 2 else None, 4, None)
    counted = dict(zip(COUNTERS, columns, strict=True))
    assert counted["collections"][2] >= 1 and sum(counted["collections"]) < 4
    assert gc.callbacks == [] or all(each.__name__ != "count" for each in gc.callbacks)


# --- Limits --------------------------------------------------------------------------------------


@linux
def test_too_little_memory_is_one_clear_error(path):
    with pytest.raises(BadValue, match=r"memory_bytes=20,000,000: onnxruntime ended .* Raise"):
        edge(path, INPUTS, calls=1, memory_bytes=20_000_000)


@linux
def test_enough_memory_is_enough(path, run):
    limited = edge(path, INPUTS, calls=2, every_s=None, memory_bytes=300_000_000)
    np.testing.assert_array_equal(limited.outputs, run.outputs)


@linux
def test_a_share_of_a_core_holds_a_busy_process():
    busy = [sys.executable, "-c", "while True: pass"]
    with subprocess.Popen(busy) as process:
        try:
            with core_share(process.pid, 0.2):
                before_s, began = used_s(process.pid), os.times().elapsed
                while os.times().elapsed - began < 1.0:
                    pass
                used = used_s(process.pid) - before_s
            elapsed = os.times().elapsed - began
            assert used < 0.5 * elapsed  # it would be all of it, or half beside other work
        finally:
            process.kill()


# --- Bad input -----------------------------------------------------------------------------------


def test_inputs_of_another_model_are_refused(path):
    with pytest.raises(ShapeMismatch, match=r"takes \(any, 4\) float32; given \(1, 5\)"):
        edge(path, torch.zeros(2, 5), calls=1)
    with pytest.raises(ShapeMismatch, match="float64"):
        edge(path, INPUTS.double(), calls=1)


def test_the_file_of_another_model_is_refused(path):
    with pytest.raises(NotComparable, match=r"answers differ by .* another model"):
        edge(path, INPUTS, calls=1, expected=INPUTS @ torch.ones(FEATURES, OUTPUTS))
    with pytest.raises(NotComparable, match=r"shape \(8, 3\), expected \(8, 2\)"):
        edge(path, INPUTS, calls=1, expected=torch.zeros(8, 2))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_operator_that_a_runtime_lacks_is_named(tmp_path, runtime):
    pytest.importorskip(runtime)
    file = tmp_path / "strange.onnx"
    file.write_bytes(onnx_file("Frobnicate"))
    with pytest.raises(NotSupported, match=r"Frobnicate.*Use another runtime"):
        edge(file, INPUTS, runtime=runtime, calls=1)


def test_a_file_that_is_no_model_is_refused(tmp_path):
    file = tmp_path / "noise.onnx"
    file.write_bytes(b"not a model")
    with pytest.raises(CallFailed, match="failed while it opened the model"):
        edge(file, INPUTS, calls=1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"deadline_s": 1e-12}, "clock moves in steps"),
        ({"deadline_s": 0}, "deadline_s=0"),
        ({"calls": 0}, "calls=0"),
        ({"every_s": -1}, "every_s=-1"),
        ({"memory_bytes": 120}, "120e6 is 120 MB"),
        ({"share": 0.001}, "from 0.01 to 1"),
        ({"share": 2}, "share=2"),
        ({"runtime": "pytorch"}, "cannot open this model"),
        ({"runtime": "tflite"}, "there are: "),
        ({"inputs": torch.zeros(0, FEATURES)}, "at least one example"),
    ],
)
def test_a_wrong_argument_is_refused_before_a_process_starts(path, wrong, said):
    with pytest.raises(BadValue, match=said):
        edge(path, **{"inputs": INPUTS, **wrong})


@pytest.mark.parametrize("model", ["nowhere.onnx", "model.pt2", 3])
def test_what_is_not_a_model_is_refused(model):
    with pytest.raises(BadValue, match=r"kit\.techniques\.onnx"):
        edge(model, INPUTS)


def test_a_process_that_takes_too_long_says_so():
    found = {"at": {"import": {}, "calls": {}}, "in_time": False, "code": -9}
    assert "took too long" in str(failure(found, "onnxruntime", None))
    found = {"at": {"import": {}}, "in_time": True, "code": -11, "stderr": "a\nlast words\n"}
    assert "while it imported the runtime: last words" in str(failure(found, "openvino", None))


# --- What stands beside it -----------------------------------------------------------------------


def test_published_figures_name_device_date_and_source():
    for figure in published_figures():
        assert 1e-4 < figure.seconds < 10 and len(figure.source) > 20
        # One may have been measured over years; a page without a date says when it was read.
        assert re.fullmatch(r"20\d\d( to 20\d\d)?|undated, read in 20\d\d", figure.date)
        assert (figure.latency_s is None) != (figure.answers_per_s is None)
    assert {"microcontroller", "phone"} <= {figure.kind for figure in published_figures()}
    assert "not measured here" in published_table().caption


def test_the_ways_that_the_benchmark_times_give_the_same_answer(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    benchmark = importlib.import_module("edge")
    data, example = onnx_file(), INPUTS[:1]
    model = Exported("onnxruntime", data, load_onnxruntime)
    found = {name: call() for name, call in benchmark.calls(model, data, example).items()}
    for name in ("edge_session", "session_run"):
        np.testing.assert_array_equal(found[name][0], found["kit_predict"].numpy())
    for name in ("edge", "keeping"):
        sys.modules.pop(name, None)


def test_real_time_is_time_taken_to_time_allowed():
    times = np.linspace(0.009, 0.011, 1_000)[np.random.default_rng(0).permutation(1_000)]
    found = real_time_factors({"camera": (times, 1 / 30), "control": (times[:50], 0.02)})
    assert found.factors["camera"].value == pytest.approx(0.3)
    assert found.late["camera"].high == pytest.approx(3.84 / 1_003.84, abs=1e-4)  # Wilson's
    assert found.most_late == found.late["control"]  # fewer answers: the same share is less sure
    assert found.least_in_time.low == pytest.approx(1 - found.most_late.high)
    assert [row[0] for row in found.table().rows] == ["camera", "control"]
    json.dumps(found.to_dict())
    for wrong in ({}, {"a": ([], 1.0)}, {"a": ([1.0], 0)}):
        with pytest.raises(BadValue):
            real_time_factors(wrong)


def test_late_answers_in_bursts_say_less_than_single_ones():
    single, burst = np.full(1_000, 0.01), np.full(1_000, 0.01)
    single[::50] = burst[500:520] = 0.1  # 20 late answers of 1,000 each
    apart, together = (real_time_factors({"a": (t, 0.05)}).most_late for t in (single, burst))
    assert apart.value == together.value == 0.02
    assert apart.high < 0.035 and together.high > 0.1


def test_the_voice_detector_hears_a_voice_and_no_silence():
    pytest.importorskip("silero_vad", reason="the extra `edge` has it")
    detector = kit.deployment.load_voice_detector()
    assert isinstance(detector, Runtime)
    silence = detector.windows(torch.zeros(16_000))
    assert silence.shape == (31, 576)
    assert predict(detector, silence).max() < 0.5
    voice = predict(detector, detector.windows(kit.deployment.babble(2.0)))
    assert (voice > 0.5).float().mean() > 0.5
    with pytest.raises(BadValue, match="windows of shape"):
        predict(detector, torch.zeros(2, 512))
    with pytest.raises(BadValue, match="at least 32 ms"):
        detector.windows(torch.zeros(100))
    run = edge(detector, silence, calls=5, every_s=None, expected=predict(detector, silence))
    assert not run.imported("torch") and not run.imported("silero_vad")
