"""`kit.edge`: run a model in a fresh process, restricted, and read what it reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kit.checkpoints import save
from kit.core.checks import check_positive, check_share, check_whole
from kit.core.errors import BadValue, NotComparable, NotInstalled
from kit.deployment.core_share import PERIOD_S, core_share
from kit.deployment.edge_failure import failure
from kit.deployment.edge_result import EdgeRun
from kit.deployment.sessions import MODULES, OPENERS
from kit.deployment.timed_calls import COUNTERS
from kit.devices import machine
from kit.devices.energy import metered
from kit.devices.interference import between, reading
from kit.inference import Runtime

ROOT = Path(__file__).resolve().parents[2]  # the folder that holds `kit`
EXTRAS = {"onnxruntime": "edge", "openvino": "openvino", "openvino_bf16": "openvino"}
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
PATIENCE_S = 180.0  # beyond the planned time: on a busy machine, an import can take a minute
RESOLUTION_STEPS = 10  # a deadline has to be this many steps of the clock


def edge(
    model: nn.Module | str | Path,
    inputs: Tensor | np.ndarray,
    *,
    label: str = "",
    runtime: str | None = None,
    calls: int = 1_000,
    every_s: float | None = 0.001,
    deadline_s: float | None = None,
    memory_bytes: int | None = None,
    share: float | None = None,
    expected: Tensor | None = None,
    tolerance: float = 0.25,
    spin: bool = False,
) -> EdgeRun:
    """Run a model in a fresh process with one thread and, if it is exported, without PyTorch.

    Parameters
    ----------
    model
        An exported model, such as `kit.techniques.onnx` makes; the path of an .onnx file that you
        trust; or a model of the kit, which then runs in PyTorch, to compare with.
    inputs
        (B, …) as the model takes them. The process answers each once, which warms it up; then the
        timed calls take one of them each, in turn.
    label
        The name in tables; None: the file's, or that of the model.
    runtime
        Another runtime for an .onnx file: "openvino" or "openvino_bf16".
    calls, every_s
        How many calls are timed, and the seconds from one due moment to the next. None: each call
        follows the last one.
    deadline_s
        Within which an answer has to come, counted from its due moment.
    memory_bytes
        A limit on the process's private memory, before it imports the runtime (Linux).
    share
        Of one core: the process is stopped for the rest of each 100 ms (Linux).
    expected, tolerance
        What the trained model answers for the inputs, and how much an answer may differ, as a share
        of the largest. It shows that the file is an export of that model.
    spin
        Whether to wait in a loop for the next due moment. Calls then begin in time, and a core is
        busy.

    Raises
    ------
    BadValue
        A number is out of range; a deadline is too short for the clock; the memory limit is below
        what the runtime needs.
    NotInstalled, NotSupported
        The runtime is missing; or it lacks an operator of the model.
    NotComparable
        The answers are not those expected: the file is an export of another model.
    ShapeMismatch
        The file takes inputs of another shape.
    CallFailed
        The process failed for another reason.

    Explained in lesson 12.
    """
    _check(calls, every_s, deadline_s, memory_bytes, share)
    name, data = _opened(model, runtime)
    arrays = _arrays(inputs)
    settings = {"runtime": name, "calls": calls, "every_s": every_s, "spin": spin}
    # The start uses up its share of a core: the calls begin when that period is surely over.
    settings["settle_s"] = 2 * PERIOD_S if share else 0.0
    planned_s = calls * (every_s or 0.01) / (share or 1.0)
    with tempfile.TemporaryDirectory(prefix="kit-edge-") as place:
        folder = Path(place)
        model_bytes = _write(folder, data, arrays, {**settings, "memory_bytes": memory_bytes})
        before = reading(torch.device("cpu"))
        found = _run(folder, share, PATIENCE_S + planned_s)
        around = between(before, reading(torch.device("cpu")))
        if problem := failure(found, name, memory_bytes):
            raise problem
        outputs = np.load(folder / "outputs.npy", allow_pickle=False)
        columns = np.load(folder / "calls.npy", allow_pickle=False)
    if expected is not None:
        _check_expected(outputs, expected, tolerance)
    at = found["at"]
    return EdgeRun(
        label=label or _label(model),
        runtime=name,
        model_bytes=model_bytes,
        start_s=at["import"]["now_s"] - found["spawned_s"],
        import_s=at["load"]["now_s"] - at["import"]["now_s"],
        load_s=at["first"]["now_s"] - at["load"]["now_s"],
        first_s=at["answers"]["now_s"] - at["first"]["now_s"],
        **{key: tuple(column.tolist()) for key, column in zip(COUNTERS, columns, strict=True)},
        outputs=outputs,
        every_s=every_s,
        deadline_s=deadline_s,
        memory_bytes=memory_bytes,
        share=share,
        resident_bytes=at["end"].get("VmHWM"),
        private_bytes=at["end"].get("VmData"),
        threads=at["end"].get("Threads"),
        packages=installed_bytes(at["end"]["tops"]),
        kit_modules=tuple(at["end"]["kit"]),
        top_modules=tuple(at["end"]["tops"]),
        joules=found["joules"],
        meter=found["meter"],
        machine=repr(machine()),
        disturbed=around.doubts(1),
    )


def can_limit() -> bool:
    """Whether memory and the share of a core can be limited here: on Linux."""
    return sys.platform == "linux"


# --- What goes in --------------------------------------------------------------------------------


def _check(
    calls: int,
    every_s: float | None,
    deadline_s: float | None,
    memory_bytes: int | None,
    share: float | None,
) -> None:
    check_whole("calls", calls, 1, 1_000_000)
    if every_s is not None:
        check_positive("every_s", every_s, "seconds, a number")
    if deadline_s is not None:
        check_positive("deadline_s", deadline_s, "seconds, a number")
        step_s = time.get_clock_info("perf_counter").resolution
        if deadline_s < RESOLUTION_STEPS * step_s:
            raise BadValue(
                f"deadline_s={deadline_s:g}: this computer's clock moves in steps of {step_s:g} s, "
                f"so it cannot tell whether an answer was in time. Needs at least "
                f"{RESOLUTION_STEPS * step_s:g}."
            )
    if memory_bytes is not None:
        check_whole("memory_bytes", memory_bytes, 1_000_000, hint="It is in bytes: 120e6 is 120 MB")
    if share is not None and not 0.01 <= check_share("share", share) <= 1:
        raise BadValue(f"share={share:g}: needs a share of one core from 0.01 to 1.")
    if (memory_bytes or share) and not can_limit():
        raise BadValue("memory_bytes and share need Linux. Leave them out on this computer.")


def _opened(model: nn.Module | str | Path, runtime: str | None) -> tuple[str, bytes | nn.Module]:
    """The name of the runtime, and the bytes of the model's file, or the model of PyTorch."""
    data: Any
    if isinstance(model, (str, Path)):
        path = Path(model)
        if path.suffix != ".onnx" or not path.is_file():
            problem = "" if path.is_file() else "no such file; "
            raise BadValue(
                f"{path}: {problem}needs an .onnx file. "
                "Export one: kit.techniques.onnx(model, example)."
            )
        name, data = runtime or "onnxruntime", path.read_bytes()
    elif isinstance(model, Runtime) and hasattr(model, "data"):
        name, data = runtime or str(model.runtime), model.data
    elif isinstance(model, nn.Module):
        name, data = runtime or "pytorch", model
    else:
        raise BadValue(
            f"kit.edge: given a {type(model).__name__}: needs an exported model, such as "
            f"kit.techniques.onnx(model, example)."
        )
    if name not in OPENERS or (name == "pytorch") != isinstance(data, nn.Module):
        raise BadValue(f"runtime={name!r} cannot open this model here; there are: {[*OPENERS]}.")
    missing = [module for module in MODULES[name] if find_spec(module.split(".")[0]) is None]
    if missing:
        raise NotInstalled(f"the runtime {name!r}", missing, EXTRAS.get(name, name))
    return name, data


def _arrays(inputs: Tensor | np.ndarray) -> np.ndarray:
    array = inputs.detach().cpu().numpy() if isinstance(inputs, Tensor) else np.asarray(inputs)
    if array.ndim < 1 or not len(array):
        raise BadValue(f"inputs of shape {array.shape}: needs at least one example, (B, …).")
    return np.ascontiguousarray(array)


def _write(
    folder: Path, data: bytes | nn.Module, arrays: np.ndarray, settings: dict[str, Any]
) -> int:
    """Put everything into the folder that the process reads; the bytes of the model's file."""
    if isinstance(data, nn.Module):
        path = save(folder / "model.kit", data)
        n_bytes = path.stat().st_size
        (folder / "model").write_bytes(str(path).encode())
    else:
        n_bytes = (folder / "model").write_bytes(data)
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    np.save(folder / "inputs.npy", arrays, allow_pickle=False)
    return n_bytes


def _label(model: nn.Module | str | Path) -> str:
    return Path(model).stem if isinstance(model, (str, Path)) else type(model).__name__


# --- The process ---------------------------------------------------------------------------------


def _run(folder: Path, share: float | None, patience_s: float) -> dict[str, Any]:
    """What the process reported: its phases by name, its end, and the energy meanwhile."""
    inherited = os.environ.get("PYTHONPATH")
    paths = os.pathsep.join([str(ROOT), *([inherited] if inherited else [])])
    found: dict[str, Any] = {"at": {}, "joules": None, "meter": "", "spawned_s": time.monotonic()}
    with open(folder / "errors", "w+b") as errors, _process(folder, paths, errors) as process:
        timer = threading.Timer(patience_s, process.kill)
        timer.start()
        try:
            with core_share(process.pid, share):
                lines = _reports(process)
                _until(lines, found, "calls")
                with metered() as meter:
                    _until(lines, found, "end")
                found.update(joules=meter.joules, meter=meter.of)
                _until(lines, found, "done")
                process.stdout.close()  # type: ignore[union-attr]
                found["code"] = process.wait()
        finally:
            found["in_time"] = timer.is_alive()
            timer.cancel()
        errors.seek(0)
        found["stderr"] = errors.read().decode(errors="replace")
    return found


@contextmanager
def _process(folder: Path, paths: str, errors: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The process; it is killed if something goes wrong here."""
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, "1"), "PYTHONPATH": paths}
    command = [sys.executable, "-m", "kit.deployment.edge_process", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _reports(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """The process's lines; lines that a runtime prints are left out."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(b'{"at"'):
            yield json.loads(line)


def _until(lines: Iterator[dict[str, Any]], found: dict[str, Any], last: str) -> None:
    """Read reports up to one; or to the end, if the process ends before."""
    for report in lines:
        found["at"][report["at"]] = report
        if report["at"] in (last, "error"):
            return


# --- What comes out ------------------------------------------------------------------------------


def _check_expected(outputs: np.ndarray, expected: Tensor, tolerance: float) -> None:
    """Refuse the file of another model."""
    wanted = expected.detach().cpu().double().numpy()
    advice = "The file may be an export of another model: export this one again."
    if wanted.shape != outputs.shape:
        raise NotComparable(
            f"the answers have the shape {outputs.shape}, expected {wanted.shape}. {advice}"
        )
    gap = float(np.abs(outputs - wanted).max() / max(np.abs(wanted).max(), 1e-30))
    if not gap <= tolerance:
        raise NotComparable(
            f"the answers differ by {gap:.2g} of the largest; at most {tolerance:g} is allowed. "
            f"{advice}"
        )


def installed_bytes(modules: list[str]) -> dict[str, int]:
    """Installed bytes of the packages that contain these modules, by the name of the package."""
    owners = metadata.packages_distributions()
    names = {name for module in modules for name in owners.get(module, []) if module != "kit"}
    return {name: _size(name) for name in sorted(names)}


def _size(name: str) -> int:
    paths = (Path(str(file.locate())) for file in metadata.files(name) or ())
    return sum(path.stat().st_size for path in paths if path.is_file())
