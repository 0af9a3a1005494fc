"""Real clients: `kit serve` from the command line, asked by curl and by Triton's own client."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import kit

PATIENCE_S = 120.0
pytestmark = pytest.mark.skipif(os.name != "posix", reason="ends the server by SIGTERM")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return kit.models.MLP()


@pytest.fixture(scope="module")
def process(model, tmp_path_factory) -> Iterator[subprocess.Popen]:
    """`kit serve` as a user types it; the last test stops it."""
    path = kit.save(tmp_path_factory.mktemp("served") / "digits.kit", model)
    command = [sys.executable, "-m", "kit", "serve", str(path), "--port", "0", "--name", "digits"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


@pytest.fixture(scope="module")
def url(process) -> str:
    told = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", told)
    assert found, process.stderr.read()
    return found[0]


def test_the_commands_of_the_readme_serve_a_text(tmp_path):
    """Train, serve and ask, as the README says, but for the port."""
    readme = (Path(kit.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    block = re.search(r"## Serve a model.*?```sh\n(.*?)```", readme, re.DOTALL)[1]
    train, serve, ask = block.replace(".venv/bin/kit", f"{sys.executable} -m kit").split("\n", 2)
    subprocess.run(shlex.split(train), cwd=tmp_path, check=True, capture_output=True)
    command = [*shlex.split(serve), "--port", "0"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        here = re.search(r"127\.0\.0\.1:\d+", running.stdout.readline())[0]
        words = shlex.split(ask.replace("127.0.0.1:8000", here).replace("\\\n", " "))
        assert words.pop(0) == "curl"
        (choice,) = json.loads(curl(*words))["choices"]
        assert len(choice["text"]) == 60 and choice["finish_reason"] == "length"
    finally:
        running.kill()
        running.communicate()


# --- curl ----------------------------------------------------------------------------------------


def curl(*words: str, data: bytes | None = None) -> bytes:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "--silent", "--show-error", "--max-time", str(PATIENCE_S), *words]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


def test_curl_asks_for_a_prediction(url, model):
    rows = torch.rand(2, 64)
    part = {"name": "input", "shape": [2, 64], "datatype": "FP32", "data": rows.tolist()}
    body = json.dumps({"inputs": [part]}).encode()
    told = json.loads(curl(f"{url}/v2/models/digits/infer", "--data", "@-", data=body))
    assert told["outputs"][0]["data"] == kit.predict(model, rows).flatten().tolist()


def test_curl_sees_health_and_errors(url):
    ready = curl(f"{url}/v2/health/ready", "--output", "-", "--write-out", " %{http_code}")
    assert ready == b'{"ready":true} 200'
    wrong = curl(f"{url}/v2/models/digits/infer", "--data", "{", "--write-out", " %{http_code}")
    body, _, status = wrong.rpartition(b" ")
    assert status == b"400"
    assert "JSON" in json.loads(body)["error"]


def test_curl_sends_a_large_body_in_two_steps(url):
    """With a large body, curl asks first: `Expect: 100-continue`."""
    rows = torch.rand(32, 64, dtype=torch.float64)  # as JSON, enough digits for a large body
    part = {"name": "input", "shape": [32, 64], "datatype": "FP32", "data": rows.tolist()}
    body = json.dumps({"inputs": [part]}).encode()
    assert len(body) > 30_000
    told = curl(
        f"{url}/v2/models/digits/infer",
        "--data-binary",
        "@-",
        "-H",
        "Expect: 100-continue",
        data=body,
    )
    assert json.loads(told)["outputs"][0]["shape"] == [32, 10]


# --- Triton's client -----------------------------------------------------------------------------

TRITON = """
import json, sys
import numpy as np
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

client = http.InferenceServerClient(sys.argv[1].removeprefix("http://"))
rows = np.load(sys.argv[2])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("digits")
told = {"server": client.get_server_metadata(), "model": client.get_model_metadata("digits")}
for binary_in in (True, False):
    for binary_out in (True, False):
        given = http.InferInput("input", list(rows.shape), "FP32")
        given.set_data_from_numpy(rows, binary_data=binary_in)
        asked = http.InferRequestedOutput("output", binary_data=binary_out)
        reply = client.infer("digits", [given], outputs=[asked], request_id="7", timeout=5_000_000)
        assert reply.get_response()["id"] == "7"
        told[f"{binary_in} {binary_out}"] = reply.as_numpy("output").tolist()
given = http.InferInput("input", list(rows.shape), "FP32")
given.set_data_from_numpy(rows)
told["by default"] = client.infer("digits", [given]).as_numpy("output").tolist()
errors = []
for name, model in (("input", "other"), ("wrong", "digits")):
    given = http.InferInput(name, list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    try:
        client.infer(model, [given])
    except InferenceServerException as error:
        errors.append([error.status(), error.message()])
told["errors"] = errors
print(json.dumps(told))
"""


@pytest.fixture(scope="session")
def triton(tmp_path_factory) -> Path:
    """A Python with Triton's client, in an environment of its own: it wants older packages."""
    folder = tmp_path_factory.mktemp("triton") / "environment"
    uv = [sys.executable, "-m", "uv", "--quiet"]
    python = folder / "bin" / "python"
    steps = (
        [*uv, "venv", "--python", sys.executable, str(folder)],
        [*uv, "pip", "install", "--python", str(python), "tritonclient[http]", "numpy"],
    )
    for step in steps:
        made = subprocess.run(step, capture_output=True, text=True, timeout=PATIENCE_S)
        if made.returncode:
            pytest.skip(f"tritonclient cannot be installed here: {made.stderr.strip()[-200:]}")
    return python


def test_tritons_client_talks_to_the_server(url, model, triton, tmp_path):
    import numpy as np

    rows = torch.rand(3, 64)
    np.save(tmp_path / "rows.npy", rows.numpy())
    command = [str(triton), "-c", TRITON, url, str(tmp_path / "rows.npy")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["server"]["name"] == "kit"
    assert told["model"]["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 64]}]
    expected = kit.predict(model, rows).tolist()
    for way in ("True True", "True False", "False True", "False False", "by default"):
        assert told[way] == expected, way
    (no_model, no_input) = told["errors"]
    assert no_model[0] == "404" and "'digits'" in no_model[1]
    assert no_input[0] == "400" and "'wrong'" in no_input[1]


# --- The end -------------------------------------------------------------------------------------


def test_the_command_ends_with_code_0_when_it_is_told_to_stop(url, process):
    process.terminate()
    assert process.wait(PATIENCE_S) == 0
    assert "Traceback" not in process.stderr.read()
