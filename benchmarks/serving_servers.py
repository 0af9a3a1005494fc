"""The servers that `serving.py` compares: how each starts, what it is sent, what it replies.

KIT, BARE, PEERS   what can be started
running            a server in processes of its own, ready for requests; it ends with the block
wrk                answers per second that Debian's wrk counts
"""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import psutil
import torch
from safetensors.torch import save_file
from torch import nn

import kit
from kit.loadgen.http_requests import prepare
from kit.models import MLP, MLPConfig
from kit.serving.forking import end_fork_servers

FOLDER = Path(__file__).parent / "peers_serving"
MAX_BATCH, WAIT_S, DEADLINE_S = 32, 0.005, 0.25  # as in peers_serving/network.py
START_S, END_S = 90, 5
TYPES = {True: "application/json", False: "application/octet-stream"}


@dataclass(frozen=True)
class Server:
    """What can be started."""

    name: str
    package: str
    command: tuple[str, ...] = ()  # empty: the kit's own, started by kit.serve
    path: str = ""
    takes_json: bool = False
    small: bool = False  # the kit with the smallest model: what the server itself costs
    answers: bool = True  # with the model's logits


def _script(name):
    return (sys.executable, str(FOLDER / f"{name}_server.py"))


BENTOML = (sys.executable, "-m", "bentoml", "serve", "bentoml_server:Classifier")
KIT = Server("kit", "train-infer-kit")
SMALL = Server("kit, small model", "train-infer-kit", small=True)
BARE = Server("bare uvicorn", "uvicorn", _script("bare"), "/", answers=False)
PEERS = (
    Server("mosec", "mosec", _script("mosec"), "/inference"),
    Server("FastAPI, no batching", "fastapi", _script("fastapi"), "/predict"),
    Server("LitServe", "litserve", _script("litserve"), "/predict", takes_json=True),
    Server("BentoML", "bentoml", (*BENTOML, "--host", "127.0.0.1"), "/predict", takes_json=True),
)


def version_of(server):
    """The installed version; None if it is not installed."""
    if server in (KIT, SMALL):
        return kit.__version__
    try:
        return version(server.package)
    except PackageNotFoundError:
        return None


def big():
    """The model of all servers: 4.35 million parameters, 8 × 8 pixels in, 10 logits out."""
    kit.seed(0)
    return MLP(MLPConfig(hidden=2048)).eval()


class Running:
    """A server that runs: its address, what to send, and what it costs."""

    def __init__(self, server, url, pid, start_s, model, rows):
        self.server, self.url, self.pid, self.start_s = server, url, pid, start_s
        self._model, self._rows = model, rows
        self.sent = {"inputs": rows}
        if server.path:
            self.url += server.path
            self.sent = {"inputs": [_body(server, row) for row in rows]}
            self.sent["headers"] = {"Content-Type": TYPES[server.takes_json]}
        asked = {"model": None, "batch_size": 1, "deadline_s": None, "stream": None, "seed": 0}
        headers = self.sent.get("headers", {})
        self.target = prepare(self.url, self.sent["inputs"], **asked, max_tokens=1, headers=headers)

    def memory_bytes(self):
        """Of all its processes; a page that several share counts once (PSS)."""
        total = 0
        for process in _family(self.pid):
            with suppress(psutil.Error):
                full = process.memory_full_info()
                total += getattr(full, "pss", full.rss)
        return total

    def check(self):
        """Its logits are those of kit.predict."""
        wanted = kit.predict(self._model, torch.from_numpy(self._rows)).numpy()
        for request, logits in zip(self.target.requests[:4], wanted, strict=False):
            status, body = _ask(self.target, request)
            if status != 200:
                raise RuntimeError(f"{self.server.name}: {status}, {body[:200]!r}")
            if self.server.answers:
                np.testing.assert_allclose(_logits(body), logits, rtol=1e-3, atol=1e-4)


def _body(server, row):
    if server.takes_json:
        return json.dumps({"inputs": [row.ravel().tolist()]}).encode()
    return row.tobytes()


def _logits(body):
    """The last ten numbers of a reply, in JSON or raw."""
    return np.ravel(json.loads(body)) if body[:1] == b"[" else np.frombuffer(body[-40:], "<f4")


def _ask(target, request):
    """Status and body of one answer, on a new connection."""
    with socket.create_connection((target.host, target.port), timeout=10) as connection:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read()


# --- Start and stop ------------------------------------------------------------------------------


@contextmanager
def running(server, rows, deadline_s=DEADLINE_S):
    """Start a server and stop all its processes at the end, also after an error."""
    model = MLP().eval() if server.small else big()
    with (
        tempfile.TemporaryDirectory() as folder,
        _process(server, model, folder, deadline_s) as started,
    ):
        found = Running(server, *started, model, rows)
        found.check()
        yield found


@contextmanager
def _process(server, model, folder, deadline_s):
    """(address, process, seconds from its start until it is ready)."""
    began = time.perf_counter()
    if not server.command:
        settings = {"max_batch": MAX_BATCH, "max_wait_s": WAIT_S, "deadline_s": deadline_s}
        end_fork_servers()  # or only the first start would import PyTorch, as all others do
        began = time.perf_counter()
        with kit.serve(model, **settings, threads=1) as mine:
            taken_s, parent = time.perf_counter() - began, psutil.Process(mine.process.pid).ppid()
            # The process that it was forked from is part of it, with the memory that both share.
            yield mine.url, mine.process.pid if parent == os.getpid() else parent, taken_s
        return
    port, weights = _free_port(), Path(folder) / "weights.safetensors"
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    tensors = {f"{i}.{k}": v for i, layer in enumerate(layers) for k, v in _weights(layer)}
    save_file(tensors, weights)
    command = [*server.command, *(["--port", str(port)] if "bentoml" in server.command else [])]
    with (Path(folder) / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=FOLDER,
            env=_environment(port, weights, folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(process, port, server, Path(folder) / "log.txt")
            yield f"http://127.0.0.1:{port}", process.pid, time.perf_counter() - began
        finally:
            _end(process)


def _weights(layer):
    return [(name, value.detach()) for name, value in layer.named_parameters()]


def _environment(port, weights, folder):
    ours = {"PORT": str(port), "WEIGHTS": str(weights), "OMP_NUM_THREADS": "1"}
    bento = {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "True"}
    return {**os.environ, **ours, **bento, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(folder)}


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def _wait(process, port, server, log):
    """Until it answers its first request."""
    until, row = time.monotonic() + START_S, np.zeros(64, np.float32)
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            headers = {"Content-Type": TYPES[server.takes_json]}
            connection.request("POST", server.path, _body(server, row), headers)
            status = connection.getresponse().status
            connection.close()
            if status == 200:
                return
        time.sleep(0.02)
    said = log.read_text(encoding="utf-8", errors="replace")[-500:]
    raise RuntimeError(f"{server.name} does not answer: {said}")


def _family(pid):
    with suppress(psutil.Error):
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    return []


def _end(process):
    """Ask it to stop; then stop what is left, such as workers without a parent."""
    family = _family(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    _, left = psutil.wait_procs(family, END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for each in left:
        with suppress(psutil.Error):
            each.kill()
    process.wait()


# --- An independent client -----------------------------------------------------------------------


def wrk(found, users, seconds):
    """Good answers per second that wrk counts."""
    head, body = found.target.requests[0].split(b"\r\n\r\n", 1)
    lines = [line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:]]
    kept = {name: value for name, value in lines if name not in ("Host", "Content-Length")}
    headers = "".join(f'wrk.headers["{name}"] = "{value}"\n' for name, value in kept.items())
    text = "".join(f"\\{byte:03d}" for byte in body)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "POST"\n{headers}wrk.body = "{text}"\n')
        script.flush()
        url = f"http://{found.target.host}:{found.target.port}{found.target.path}"
        command = ["wrk", "-t1", f"-c{users}", f"-d{max(1, round(seconds))}s"]
        command += ["-s", script.name, url]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])
    sent = int(re.search(r"(\d+) requests in", told)[1])
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", told)
    return rate * (1 - int(bad[1]) / sent) if bad and sent else rate
