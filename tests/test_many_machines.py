"""More than one machine: what docs/many-machines/ gives to Ray Serve and to Kubernetes works.

The same questions of the Open Inference Protocol go to both: to the container's command from
kserve.yaml, started on this computer, and to Ray Serve, which runs ray_serve.py. Ray takes about 80
seconds of processor time, so its tests run only if KIT_TEST_RAY is set.
"""

import ast
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import psutil
import pytest
import torch
import yaml

import kit
from kit.serving.settings import Settings

ROOT = Path(__file__).parents[1]
FILES = ROOT / "docs" / "many-machines"
TOKEN = "a-token-of-more-than-16-characters"
INFER = "/v2/models/digits/infer"
KUBERNETES = "1.37"  # the schemas' version; `kubernetes-validate` has older ones, too
KSERVE = "0.21.0"
STOPS_S = 60.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="containers and Ray stop by signals"),
]
BY_RAY = pytest.mark.skipif(
    not os.environ.get("KIT_TEST_RAY"), reason="80 s of processor time: set KIT_TEST_RAY=1"
)


# --- What asks -----------------------------------------------------------------------------------


class Address:
    """A server, and the questions of the protocol."""

    def __init__(self, url: str):
        self.url = url

    def ask(self, path: str, body: bytes | None = None, token: str = TOKEN, **headers: str):
        """Status, headers and body of a reply."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        try:
            with urlopen(Request(self.url + path, body, headers), timeout=STOPS_S) as reply:
                return reply.status, reply.headers, reply.read()
        except HTTPError as refused:
            return refused.code, refused.headers, refused.read()

    def infer(self, rows: np.ndarray, **more: object):
        part = {"name": "input", "shape": list(rows.shape), "datatype": "FP32"}
        body = {"inputs": [{**part, "data": rows.tolist()}], **more}
        return self.ask(INFER, json.dumps(body).encode())


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return kit.models.MLP()


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory) -> Path:
    return kit.save(tmp_path_factory.mktemp("models") / "digits.kit", model)


# --- The container, without a container ----------------------------------------------------------


@pytest.fixture(scope="module")
def manifests() -> dict[str, dict]:
    documents = yaml.safe_load_all((FILES / "kserve.yaml").read_text(encoding="utf-8"))
    return {each["kind"]: each for each in documents}


@pytest.fixture(scope="module")
def predictor(manifests) -> dict:
    return manifests["InferenceService"]["spec"]["predictor"]


@pytest.fixture(scope="module")
def container(predictor) -> dict:
    (only,) = predictor["containers"]
    return only


@pytest.fixture(scope="module")
def process(container, checkpoint):
    """The container's own command, but with our checkpoint, on loopback and on a free port."""
    here = {"/models/model.kit": str(checkpoint), "0.0.0.0": "127.0.0.1", "8080": "0"}
    command = [sys.executable, "-m", "kit", *(here.get(word, word) for word in container["args"])]
    (variable,) = container["env"]
    environment = {**os.environ, variable["name"]: TOKEN}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.fixture(scope="module")
def pod(process) -> Address:
    found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
    assert found
    return Address(found[0])


# --- Ray Serve -----------------------------------------------------------------------------------

# Ray with little memory: no dashboard, no autoscaler, 80 MB for objects. The ports are given:
# otherwise Ray ends if it does not find them within a fixed 15 s (ray-project/ray#65983).
DRIVER = """
    import socket, sys
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster
    from ray_serve import build

    def free_port():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    agents = ("metrics_agent", "metrics_export", "dashboard_agent_listen", "runtime_env_agent")
    ports = {f"{name}_port": free_port() for name in agents}
    cluster = Cluster(initialize_head=True, head_node_args={
        "num_cpus": 2, "num_gpus": 0, "object_store_memory": 80 * 2**20, "no_monitor": True,
        "include_dashboard": False, "include_log_monitor": False, **ports,
    })
    ray.init(address=cluster.address, log_to_driver=False)
    http = {"host": "127.0.0.1", "port": free_port()}
    serve.start(proxy_location="HeadOnly", http_options=http)
    options = build.__annotations__["options"]  # Ray's command line finds the class there
    given = {"path": sys.argv[1], "name": "digits", "replicas": "2", "cpus": "0.5"}
    serve.run(build(options(**given)), name="digits")
    print(http["port"], flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()
"""


def install(python: list[str], *packages: str) -> None:
    """Install packages with uv; a registry that cannot be reached is a reason to skip."""
    command = [sys.executable, "-m", "uv", "pip", "install", *python, *packages]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        pytest.skip(f"{packages[0]} cannot be installed here: {' '.join(last)[:200]}")


@pytest.fixture(scope="session")
def ray_python(tmp_path_factory) -> Path:
    """A Python with Ray Serve of its own; PyTorch and the rest are those of the tests."""
    folder = tmp_path_factory.mktemp("ray") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    constraints = str(ROOT / "constraints.txt")
    install(["--python", str(python), "-c", constraints], "ray[serve]")
    # Without this package Ray leaves out its dashboard, and what reports to it.
    uninstall = [sys.executable, "-m", "uv", "pip", "uninstall", "--python", str(python)]
    subprocess.run([*uninstall, "aiohttp_cors"], check=True, capture_output=True)
    (packages,) = folder.glob("lib/*/site-packages")
    # Read after Ray's own packages; `.pth` files there are not read, so the kit is not among them.
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib"))
    return python


@contextlib.contextmanager
def ending_all(process: subprocess.Popen, folder: Path):
    """At the end, nothing that the process started is left, and neither is Ray's folder."""
    started = {}
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            started = {p.pid: p for p in psutil.Process(process.pid).children(recursive=True)}
        process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOPS_S)
        process.kill()
        process.wait()
        psutil.wait_procs(started.values(), 5)
        for each in started.values():
            with contextlib.suppress(psutil.NoSuchProcess):  # psutil knows a pid used again
                each.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ray_serve(checkpoint, ray_python):
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short path: it holds Unix sockets
    environment = {
        **os.environ,
        "HOME": str(folder),
        "KIT_SERVE_TOKEN": TOKEN,
        "PYTHONPATH": f"{FILES}{os.pathsep}{ROOT}",
        "RAY_AUTH_MODE": "disabled",  # all is on loopback, and no key file is left
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the switch for loopback, on Linux as well
        "RAY_TMPDIR": str(folder),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_raylet_start_wait_time_s": "120",
    }
    with (folder / "driver.txt").open("w") as log:
        running = subprocess.Popen(
            [str(ray_python), "-c", textwrap.dedent(DRIVER), str(checkpoint)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    with ending_all(running, folder):
        port = next((line for line in running.stdout if line.strip().isdigit()), None)
        if port is None:
            pytest.fail((folder / "driver.txt").read_text()[-3000:])
        yield Address(f"http://127.0.0.1:{int(port)}")


@pytest.fixture(params=["pod", pytest.param("ray_serve", marks=BY_RAY)])
def server(request) -> Address:
    return request.getfixturevalue(request.param)


# --- The same protocol ---------------------------------------------------------------------------


def test_the_server_is_alive_and_ready_without_a_token(server):
    assert server.ask("/v2/health/live", token="")[0] == 200
    status, _, body = server.ask("/v2/health/ready", token="")
    assert (status, json.loads(body)) == (200, {"ready": True})


def test_metadata_say_what_goes_in_and_out(server):
    told = json.loads(server.ask("/v2/models/digits")[2])
    assert told["inputs"] == [{"name": "input", "datatype": "FP32", "shape": [-1, 64]}]
    assert told["outputs"] == [{"name": "output", "datatype": "FP32", "shape": [-1, 10]}]
    assert json.loads(server.ask("/v2/models/digits/ready")[2])["ready"] is True


def test_predictions_are_those_of_kit_predict(server, model):
    rows = np.random.default_rng(0).random((3, 64), np.float32)
    status, _, body = server.infer(rows, id="a")
    told = json.loads(body)
    assert (status, told["id"], told["outputs"][0]["shape"]) == (200, "a", [3, 10])
    assert told["outputs"][0]["data"] == kit.predict(model, torch.from_numpy(rows)).ravel().tolist()


def test_tensors_travel_as_bytes_both_ways(server, model):
    rows = np.random.default_rng(1).random((2, 64), np.float32)
    size = {"binary_data_size": rows.nbytes}
    part = {"name": "input", "shape": [2, 64], "datatype": "FP32", "parameters": size}
    asked = {"inputs": [part], "parameters": {"binary_data_output": True}}
    head = json.dumps(asked).encode()
    length = {"Inference_Header_Content_Length": str(len(head))}
    status, headers, body = server.ask(INFER, head + rows.tobytes(), **length)
    assert status == 200
    found = np.frombuffer(body[int(headers["Inference-Header-Content-Length"]) :], np.float32)
    np.testing.assert_array_equal(found, kit.predict(model, torch.from_numpy(rows)).ravel())


@pytest.mark.parametrize(
    ("path", "body", "token", "status"),
    [
        ("/v2/models/other", None, TOKEN, 404),
        (INFER, b"{", TOKEN, 400),
        (INFER, b'{"inputs": []}', TOKEN, 400),
        (INFER, b"{}", "", 401),
        ("/metrics", None, "", 401),
    ],
)
def test_a_wrong_request_is_refused_with_a_sentence(server, path, body, token, status):
    found, _, reply = server.ask(path, body, token)
    assert found == status
    told = json.loads(reply)
    assert list(told) == ["error"]
    assert "Traceback" not in told["error"]


def test_metrics_have_the_gauge_of_the_queue(server):
    status, _, body = server.ask("/metrics")
    assert status == 200
    assert b"# TYPE kit_requests_waiting gauge" in body


@BY_RAY
def test_ray_gives_requests_to_both_replicas(ray_serve):
    sent = 100
    for _ in range(sent):
        ray_serve.infer(np.zeros((1, 64), np.float32))
    # Ray asks one of the replicas, and each counts its own requests only.
    texts = [ray_serve.ask("/metrics")[2].decode() for _ in range(10)]
    counts = [re.search(r'kit_requests_total{code="200".*} (\S+)', text) for text in texts]
    assert max(float(count[1]) for count in counts if count) < sent


# --- The manifest --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def schemas(tmp_path_factory) -> Path:
    """A folder with the schemas of Kubernetes, and with KServe's own description of its types."""
    folder = tmp_path_factory.mktemp("schemas")
    packages = ("kubernetes-validate", f"kserve=={KSERVE}")
    install(["--target", str(folder), "--no-deps"], *packages, "importlib_resources")
    return folder


@pytest.fixture(scope="session")
def validate(schemas):
    """Raises what a resource has that Kubernetes does not know, or lacks what it needs."""
    sys.path.append(str(schemas))
    try:
        import kubernetes_validate
    finally:
        sys.path.remove(str(schemas))
    return lambda resource: kubernetes_validate.validate(resource, KUBERNETES, strict=True)


@pytest.fixture(scope="session")
def kserve(schemas):
    """Field -> type of one of KServe's types; the package is not imported: it needs much more."""

    def fields(kind: str) -> dict[str, str]:
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower()
        text = (schemas / "kserve" / "models" / f"{name}.py").read_text(encoding="utf-8")
        values = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id in ("openapi_types", "attribute_map")
        }
        return {values["attribute_map"][k]: kind for k, kind in values["openapi_types"].items()}

    return fields


SCALARS = {"str": str, "int": int, "bool": bool}


def own(fields: dict[str, str], given: dict) -> set[str]:
    """The names of plain values that KServe describes; a wrong type or an unknown name fails."""
    assert given.keys() <= fields.keys()
    plain = {name for name in given if fields[name] in SCALARS}
    for name in plain:
        assert type(given[name]) is SCALARS[fields[name]], name
    return plain


def test_the_inference_service_has_only_fields_that_kserve_knows(manifests, predictor, kserve):
    service = manifests["InferenceService"]
    assert service["apiVersion"] == "serving.kserve.io/v1beta1"
    own(kserve("V1beta1InferenceService"), service)
    own(kserve("V1beta1InferenceServiceSpec"), service["spec"])
    plain = own(kserve("V1beta1PredictorSpec"), predictor)
    assert {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"} <= plain
    assert predictor["minReplicas"] <= predictor["maxReplicas"]


def pod_of(predictor: dict, kserve) -> dict:
    """The pod that KServe makes: fields of its own are left out, all others are Kubernetes'."""
    kserves = kserve("V1beta1ComponentExtensionSpec")
    spec = {name: value for name, value in predictor.items() if name not in kserves}
    metadata = {"name": "digits", "annotations": predictor["annotations"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def test_kubernetes_knows_every_field_of_the_pod(manifests, predictor, kserve, validate):
    validate(pod_of(predictor, kserve))
    validate(manifests["PodDisruptionBudget"])


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ("httpGet", "httpget"),
        ("terminationGracePeriodSeconds", "terminationGracePeriod"),
        ("runAsNonRoot", "runAsNoRoot"),
        ("containerPort: 8080", 'containerPort: "8080"'),
        ("secretKeyRef", "secretRef"),
    ],
)
def test_a_typing_error_in_the_manifest_would_be_found(where, wrong, kserve, validate):
    text = (FILES / "kserve.yaml").read_text(encoding="utf-8")
    assert where in text
    service = next(yaml.safe_load_all(text.replace(where, wrong)))
    with pytest.raises(Exception, match=wrong.split(":")[0].split()[0]):
        validate(pod_of(service["spec"]["predictor"], kserve))


def test_the_container_is_not_root_and_cannot_write(predictor, container):
    assert predictor["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    dockerfile = (FILES / "Dockerfile").read_text(encoding="utf-8")
    user = predictor["securityContext"]["runAsUser"]
    assert f"\nUSER {user}:" in dockerfile
    assert '\nENTRYPOINT ["kit"]' in dockerfile
    for path in re.findall(r"^COPY (?:--\S+ )*(\S+)", dockerfile, re.MULTILINE):
        assert "$" in path or (ROOT / path).is_file(), path


def test_the_server_may_listen_there_because_it_has_a_token(container):
    args = container["args"]
    host, port = (args[args.index(option) + 1] for option in ("--host", "--port"))
    assert Settings(host=host, port=int(port), token=TOKEN).host == "0.0.0.0"
    (listening,) = container["ports"]
    assert listening["containerPort"] == int(port)


def test_kubernetes_waits_until_the_server_has_drained(predictor, container):
    waits_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    most_s = waits_s + Settings().drain_s + 10  # `Server.stop` kills what hangs after that
    assert predictor["terminationGracePeriodSeconds"] > most_s


def test_what_kubernetes_and_prometheus_ask_is_answered(predictor, container, pod):
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container[probe]["httpGet"]
        assert asked["port"] == container["ports"][0]["containerPort"]
        assert pod.ask(asked["path"], token="")[0] == 200
    notes = predictor["annotations"]
    assert int(notes["prometheus.io/port"]) == container["ports"][0]["containerPort"]
    assert pod.ask(notes["prometheus.io/path"])[0] == 200


def test_sigterm_ends_the_container_with_code_0(process, pod):
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(STOPS_S) == 0
    assert time.monotonic() - began < STOPS_S
