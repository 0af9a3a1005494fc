"""`kit.serve`: a real server in a process of its own, its start, its answers and its end."""

import http.client
import json
import os
import signal
import socket
import threading
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import kit
from kit.core.errors import BadValue, CheckpointRefused, NotSupported, UnknownName
from kit.serving import Server, serve
from kit.serving.packing import pack
from kit.serving.server import _locked_log, _remove_abandoned_folders
from kit.serving.unpacking import default_example, unpack

PATIENCE_S = 60.0  # for what takes moments on a free machine


def ask(server: Server, method: str, path: str, body: object = None, **headers: str):
    """The status, the headers and the body of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
    with closing(connection):
        data = json.dumps(body).encode() if body is not None else None
        connection.request(method, path, data, headers)
        reply = connection.getresponse()
        text = reply.read()
        kind = reply.headers["content-type"]
        return reply, json.loads(text) if kind == "application/json" else text


def tensor(rows: torch.Tensor, **more: object) -> dict:
    data = {"name": "input", "shape": list(rows.shape), "datatype": "FP32"}
    return {"inputs": [{**data, "data": rows.flatten().tolist()}], **more}


def infer(server: Server, rows: torch.Tensor, **more: object):
    return ask(server, "POST", f"/v2/models/{server.settings.name}/infer", tensor(rows, **more))


def until(what, patience_s: float = PATIENCE_S) -> None:
    ends = time.monotonic() + patience_s
    while not what():
        assert time.monotonic() < ends, "waited too long"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return kit.models.MLP()


@pytest.fixture(scope="module")
def server(model):
    with serve(model, name="digits", max_batch=8) as running:
        yield running


# --- Answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", kit.models.FAMILIES)
def test_a_model_of_each_family_is_served_without_an_example(family):
    """A new family needs a line in `SHAPES`, or its checkpoints could not be served."""
    of_family = kit.models.build(family, {}).eval()
    (row,) = default_example(of_family).values()
    assert len(of_family(torch.from_numpy(row))) == 1


def test_the_server_computes_what_predict_does(server, model):
    rows = torch.rand(3, 64)
    reply, told = infer(server, rows, id="a")
    assert reply.status == 200
    assert told["id"] == "a"
    assert told["outputs"][0]["shape"] == [3, 10]
    assert told["outputs"][0]["data"] == kit.predict(model, rows).flatten().tolist()


def test_requests_at_the_same_time_get_their_own_answers(server, model):
    rows = torch.rand(24, 64)
    found: dict[int, list] = {}

    def one(i: int) -> None:
        found[i] = infer(server, rows[i : i + 1])[1]["outputs"][0]["data"]

    threads = [threading.Thread(target=one, args=(i,)) for i in range(len(rows))]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE_S)
    expected = kit.predict(model, rows)
    torch.testing.assert_close(torch.tensor([found[i] for i in range(len(rows))]), expected)


def test_metadata_say_what_goes_in_and_out(server):
    _, told = ask(server, "GET", "/v2/models/digits")
    assert told == {
        "name": "digits",
        "platform": "pytorch",
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 10]}],
    }
    assert ask(server, "GET", "/v2")[1]["extensions"] == ["binary_tensor_data", "schedule_policy"]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/digits/ready"])
def test_a_running_server_is_healthy(server, path):
    assert ask(server, "GET", path)[0].status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models/other", 404),
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/digits/versions/1/infer", 404),
        ("GET", "/v2/models/..%2F..%2Fetc%2Fpasswd", 404),
        ("GET", "/v2/models/digits/infer", 405),
        ("DELETE", "/v2/health/live", 405),
    ],
)
def test_every_error_is_json_with_a_sentence(server, method, path, status):
    reply, told = ask(server, method, path, {})
    assert reply.status == status
    assert set(told) == {"error"}
    assert isinstance(told["error"], str)


def test_errors_under_v1_have_the_form_of_openai(server):
    reply, told = ask(server, "GET", "/v1/nothing")
    assert reply.status == 404
    assert told["error"]["type"] == "invalid_request_error"


def test_a_refused_request_says_why_and_shows_no_code(server):
    reply, told = infer(server, torch.rand(1, 63))
    assert reply.status == 400
    assert "[-1, 64]" in told["error"]
    assert "Traceback" not in told["error"] and ".py" not in told["error"]


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost", 200), ("[::1]:80", 200), ("[::1]", 200), ("127.0.0.9", 200), ("a.org:1", 421)],
)
def test_only_a_host_of_this_computer_is_served_without_a_token(server, host, status):
    """A web page could lead its own name to this server, and would read the replies."""
    reply, told = ask(server, "GET", "/v2/models/digits", host=host)
    assert reply.status == status
    assert status == 200 or "token" in told["error"]


def test_metrics_count_what_was_asked(server):
    before = server.metrics()
    infer(server, torch.rand(2, 64))
    infer(server, torch.rand(2, 63))
    after = server.metrics()
    new = {name: after[name] - before.get(name, 0) for name in after}
    assert new["kit_requests_total{code=200}"] == 1
    assert new["kit_requests_total{code=400}"] == 1
    assert new["kit_batch_size_sum"] == 2
    assert new["kit_batch_size_count"] == new["kit_predict_seconds_count"] == 1
    assert after["kit_requests_waiting"] == after["kit_requests_running"] == 0
    _, text = ask(server, "GET", "/metrics")
    assert b"# TYPE kit_requests_waiting gauge" in text  # what Kubernetes' gateway asks for


def test_a_running_server_changes_its_settings(server):
    try:
        server.change(max_batch=1)
        assert infer(server, torch.rand(2, 64))[0].status == 400
        assert infer(server, torch.rand(1, 64))[0].status == 200
        with pytest.raises(kit.errors.UnknownName, match="max_wait_s"):
            server.change(max_wait=1)
        with pytest.raises(BadValue, match="max_batch=0"):
            server.change(max_batch=0)
    finally:
        server.change(max_batch=8)
    assert infer(server, torch.rand(2, 64))[0].status == 200


def test_a_server_restarts_at_its_address_with_other_settings(model):
    with serve(model, max_batch=4) as server:
        first, url = server.process.pid, server.url
        with pytest.raises(UnknownName, match="wokers"):
            server.restart(wokers=2)
        with pytest.raises(BadValue, match="workers"):
            server.restart(workers=0)
        assert server.process.pid == first and server.process.poll() is None
        server.restart(max_batch=2)
        assert (server.url, server.process.poll()) == (url, None) and server.process.pid != first
        assert infer(server, torch.rand(2, 64))[0].status == 200
        assert infer(server, torch.rand(3, 64))[0].status == 400


def test_the_parts_of_a_request_are_measured(server):
    parts = server.request_parts(torch.rand(1, 64), n=10)
    assert list(parts.measurements) == ["connect", "HTTP", "parse", "queue", "predict", "reply"]
    assert all(len(m.times_s) == 10 and min(m.times_s) > 0 for m in parts.measurements.values())
    assert parts["predict"].conditions.threads == 1


# --- Starting ------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such locks")
def test_the_folder_of_a_server_that_was_killed_is_removed_and_of_a_living_one_is_not(
    server, tmp_path, monkeypatch
):
    """Where the command was killed with all that it started, nobody could remove the folder."""
    abandoned, other = (tmp_path / f"kit-serve-{name}" for name in ("a", "b"))
    for folder in (abandoned, other):
        folder.mkdir()
        (folder / "log.txt").touch()
    (tmp_path / "kit-serve-living").symlink_to(server._folder)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with _locked_log(other):
        _remove_abandoned_folders()
        assert not abandoned.exists() and other.exists()
    monkeypatch.setattr("tempfile.tempdir", str(server._folder.parent))
    _remove_abandoned_folders()
    assert server._folder.exists()


def test_a_port_that_is_in_use_is_named(server, model):
    with pytest.raises(BadValue, match=rf"{server.port}.*port=0"):
        serve(model, port=server.port)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"host": "0.0.0.0"}, "needs a token"),
        ({"host": "192.168.1.7"}, "needs a token"),
        ({"host": "0.0.0.0", "token": "short"}, "at least 16"),
        ({"name": "../model"}, "letters"),
        ({"workers": 0}, "workers=0"),
        ({"deadline_s": -1}, "deadline_s=-1"),
        ({"max_wait_s": float("nan")}, "max_wait_s"),
        ({"max_waiting": "many"}, "auto"),
        ({"protect": ("everything",)}, "protect"),
        ({"port": 70_000}, "65,535"),
    ],
)
def test_wrong_settings_are_refused_before_a_process_starts(model, given, why):
    with pytest.raises((BadValue, kit.errors.UnknownName), match=why):
        serve(model, **given)


@pytest.mark.parametrize("given", [7, None, {}, nn.Linear])
def test_what_is_not_a_model_is_refused(given):
    with pytest.raises(BadValue, match="needs a model or the path"):
        serve(given)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "model.kit"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(BadValue, match="not a"):
        serve(path)
    with pytest.raises(CheckpointRefused, match="no such file"):
        serve(tmp_path / "missing.kit")


def test_a_token_is_asked_for_everything_but_health(model, tmp_path):
    token = "a-token-of-more-than-16-characters"
    with serve(kit.save(tmp_path / "model.kit", model), token=token) as guarded:
        assert ask(guarded, "GET", "/v2/health/ready")[0].status == 200
        for path in ("/v2/models/model", "/metrics", "/v1/models"):
            reply, told = ask(guarded, "GET", path)
            assert reply.status == 401
            assert "Bearer" in str(told["error"])
        assert infer(guarded, torch.rand(1, 64))[0].status == 401
        wrong = ask(guarded, "GET", "/metrics", Authorization=f"Bearer {token[:-1]}")
        assert wrong[0].status == 401
        right = ask(guarded, "GET", "/metrics", Authorization=f"Bearer {token}")
        assert right[0].status == 200
        assert guarded.metrics()["kit_requests_waiting"] == 0
        assert guarded.request_parts(n=10)["predict"].n == 10
        folder = guarded._folder
        assert os.name != "posix" or not folder.stat().st_mode & 0o077
        names = {path.name for path in folder.iterdir()}
        assert names == {"log.txt", "manifest.json", "model.kit", "settings.json"}
    assert not folder.exists()
    assert guarded.process.returncode == 0
    with pytest.raises(kit.errors.KitError, match="has ended"):
        guarded.metrics()


# --- Going away, and ending ----------------------------------------------------------------------


STEPS = 10_000  # of a recurrent network, one after the other: a fraction of a second


@pytest.fixture(scope="module")
def slow():
    """One request at a time, whose length decides how long it takes; the last test stops it."""
    torch.manual_seed(0)
    model = kit.models.RNN(kit.models.RNNConfig(features=1, hidden=16))
    with serve(model, max_batch=1, max_waiting=100, deadline_s=PATIENCE_S) as running:
        yield running


def inside(server: Server) -> float:
    found = server.metrics()
    return found["kit_requests_waiting"] + found["kit_requests_running"]


def test_a_client_that_went_away_is_not_computed_for(slow):
    body = json.dumps(tensor(torch.zeros(1, STEPS, 1))).encode()
    head = "POST /v2/models/model/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    request = (head % len(body)).encode() + body
    address = ("127.0.0.1", slow.port)
    with socket.create_connection(address) as first, socket.create_connection(address) as second:
        for connection in (first, second):
            connection.sendall(request)
        with socket.create_connection(address) as third:
            third.sendall(request)
            until(lambda: inside(slow) == 3)
        until(lambda: slow.metrics().get("kit_shed_total{reason=gone}") == 1)
        for connection in (first, second):
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
    until(lambda: slow.metrics()["kit_requests_total{code=200}"] == 2)
    assert slow.metrics()["kit_batch_size_sum"] == 2  # and not three


def test_sigterm_finishes_what_is_inside_and_refuses_what_comes(slow):
    found = []
    rows = torch.zeros(1, STEPS, 1)
    asking = [threading.Thread(target=lambda: found.append(infer(slow, rows))) for _ in range(4)]
    for each in asking:
        each.start()
    until(lambda: inside(slow) == 4)
    slow.process.send_signal(signal.SIGTERM)
    until(lambda: ask(slow, "GET", "/v2/health/ready")[0].status == 503)
    assert ask(slow, "GET", "/v2/health/live")[0].status == 200  # alive, so it is not killed
    refused, told = infer(slow, rows[:, :8])
    assert refused.status == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["connection"] == "close"
    assert "stops" in told["error"]
    for each in asking:
        each.join(PATIENCE_S)
    assert [reply.status for reply, _ in found] == [200] * 4
    answers = [told["outputs"][0]["data"] for _, told in found]
    assert answers == answers[:1] * 4
    assert slow.process.wait(PATIENCE_S) == 0
    with pytest.raises(OSError):
        ask(slow, "GET", "/v2/health/live")


# --- How a model travels -------------------------------------------------------------------------


def travelled(model, example, folder: Path, **options):
    """The model as a worker has it, from the files that were written for it."""
    folder.mkdir(exist_ok=True)
    pack(model, example, folder, **options)
    return unpack(folder, "model")


@pytest.mark.parametrize("family", sorted(kit.models.FAMILIES))
def test_each_family_of_the_kit_travels_without_an_example(family, tmp_path):
    model = kit.models.build(family, {})
    there = travelled(model, None, tmp_path)
    rows = there.rows(2)["input"]
    expected = kit.predict(model, torch.from_numpy(rows))
    np.testing.assert_array_equal(there.predict({"input": rows})["output"], expected.numpy())


@pytest.mark.parametrize("form", ["half", "channels_last", "onnx", "openvino"])
def test_a_techniques_form_travels(form, tmp_path, vision):
    technique = kit.techniques.get(form)
    missing = [module for module in technique.needs if find_spec(module) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    inputs = vision.example(16)[0]
    other = technique(kit.models.CNN(), inputs)
    there = travelled(other, inputs, tmp_path)
    expected = kit.predict(other, inputs).numpy()
    np.testing.assert_array_equal(there.predict({"input": inputs.numpy()})["output"], expected)


@pytest.mark.slow
def test_a_program_of_executorch_travels(tmp_path):
    """Its exporter takes a quarter of a minute, so a file of a few layers is enough."""
    if find_spec("executorch") is None:
        pytest.skip("executorch is not installed")
    inputs = torch.rand(2, 4)
    other = kit.techniques.executorch(nn.Linear(4, 2), inputs)
    there = travelled(other, inputs, tmp_path)
    expected = kit.predict(other, inputs).numpy()
    np.testing.assert_array_equal(there.predict({"input": inputs.numpy()})["output"], expected)


def test_a_module_of_the_users_own_travels_as_a_graph(tmp_path):
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    there = travelled(model, torch.rand(1, 4), tmp_path)
    for rows in (1, 2, 5):
        inputs = torch.rand(rows, 4)
        found = there.predict({"input": inputs.numpy()})["output"]
        np.testing.assert_allclose(found, kit.predict(model, inputs).numpy(), rtol=1e-5, atol=1e-6)


class Pair(nn.Module):
    """Two inputs, and two outputs by name."""

    def forward(self, left, right):
        return {"sum": left + right, "difference": left - right}


@pytest.mark.parametrize(
    "example",
    [
        (torch.ones(1, 2), torch.ones(1, 2)),
        {"right": torch.ones(1, 2), "left": torch.ones(1, 2)},
    ],
)
def test_several_inputs_travel_by_name(example, tmp_path):
    there = travelled(Pair(), example, tmp_path)
    assert {spec.name for spec in there.inputs} == {"left", "right"}
    given = {"left": np.float32([[5, 5]]), "right": np.float32([[2, 3]])}
    found = there.predict(given)
    np.testing.assert_array_equal(found["sum"], [[7, 8]])
    np.testing.assert_array_equal(found["difference"], [[3, 2]])


def test_an_exported_file_travels_with_its_digest(tmp_path):
    if any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        pytest.skip("the extra edge is not installed")
    inputs = torch.rand(4, 64)
    form = kit.techniques.onnx(kit.models.MLP(), inputs)
    path = kit.techniques.write(form, tmp_path / "digits.onnx")
    there = travelled(path, None, tmp_path / "server")  # its file says what goes in
    expected = kit.predict(form, inputs).numpy()
    np.testing.assert_array_equal(there.predict({"input": inputs.numpy()})["output"], expected)
    path.with_name("digits.onnx.sha256").unlink()
    with pytest.raises(CheckpointRefused, match="digest"):
        travelled(path, None, tmp_path / "other")


def test_a_module_without_an_example_says_what_to_do(tmp_path):
    with pytest.raises(BadValue, match="example=inputs"):
        travelled(nn.Linear(2, 2), None, tmp_path)


def test_a_graph_that_cannot_be_recorded_says_what_to_change(tmp_path):
    class Choosing(nn.Module):
        def forward(self, inputs):
            return inputs if inputs.sum() > 0 else -inputs

    with pytest.raises(NotSupported, match=r"no \.item\(\).* Use torch\.where and masks"):
        travelled(Choosing(), torch.ones(1, 2), tmp_path)
