"""Train with several processes from a notebook: `torchrun`, started and ended by one line.

Other processes cannot see what a notebook defines. So each process runs `kit train` with names
and numbers, and the trained model comes back in a file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from kit.core.checks import check_whole
from kit.core.errors import KitError
from kit.experiments.training_job import check_options

if TYPE_CHECKING:
    from torch import nn

    from kit.training import History

GRACE_S = 40  # `torchrun` gives its processes 30 s to end before it kills them


def torchrun(
    workload: str, *, processes: int = 2, checkpoint: str | Path | None = None, **options: Any
) -> tuple[nn.Module, History]:
    """The model and its history, trained by several processes of this computer together.

    If you interrupt it, all processes end; with a `checkpoint`, the same line then continues.
    The processes meet in a private file and send messages over the loopback interface, so no
    other computer can connect. `torchrun` by itself opens ports on all interfaces.

    Parameters
    ----------
    workload
        Its name, such as "language": each process makes data and model for itself.
    processes
        How many: one for each GPU, or a few that share the cores of a CPU.
    checkpoint
        A file for model and training, from which a later call continues. None: no file is kept.
    options
        The options of `kit train`: `model="gpt-small"`, `steps=100`, `lr`, `optimizer`,
        `sharded=True` …. The workload's recipe replaces those that are missing.

    Raises
    ------
    UnknownName, BadValue
        The workload or option does not exist, or a value is not possible. No process has started.
    KitError
        A process failed: with which error.

    Explained in lesson 08.
    """
    from kit import workloads
    from kit.devices import cores_allowed

    workloads.get(workload)
    check_whole("processes", processes)
    options = {"threads": max(1, int(cores_allowed()) // processes)} | check_options(options)
    check_whole("threads", options["threads"])
    with TemporaryDirectory() as name:
        folder = Path(name)
        saved = Path(checkpoint or folder / "model.kit").absolute()
        options |= {"checkpoint": saved, "history": folder / "history.json"}
        words = _words(workload, options)
        start = [*_meeting(folder), "--nproc-per-node", str(processes), "--log-dir", str(folder)]
        _follow(["torch.distributed.run", *start, "-m", "kit", "train", *words], folder, options)
        return _result(saved, folder / "history.json")


def _words(workload: str, options: dict[str, Any]) -> list[str]:
    """The words of the command line after `kit train`."""
    words = [workload]
    for name, value in options.items():
        if value is not False:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else [str(value)]
    return words


def _meeting(folder: Path) -> list[str]:
    """The options by which the processes meet in a file that only this user can read.

    No port is opened for that. The name of this machine is not looked up either, which can take
    minutes in a network that does not know it.
    """
    place = ["--rdzv-endpoint", str(folder / "meeting"), "--local-addr", "127.0.0.1"]
    return ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file", "--rdzv-id", "kit", *place]


def _environment(folder: Path, threads: int) -> dict[str, str]:
    """The environment of the processes: their messages stay on this machine, too."""
    import psutil

    from kit.training.distributed import MEETING

    names = psutil.net_if_addrs().items()
    loopback = [name for name, all_ in names if any(a.address == "127.0.0.1" for a in all_)]
    local = dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), *loopback[:1])
    return {
        **os.environ,
        **(local if loopback and os.name == "posix" else {}),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # that would be a port on all interfaces
        MEETING: str(folder / "store"),
        "OMP_NUM_THREADS": str(threads),  # if it is not set, `torchrun` sets it with a warning
    }


def _follow(words: list[str], folder: Path, options: dict[str, Any]) -> None:
    """Run a Python module until it ends; an interruption ends it and all its processes."""
    log = folder / "log.txt"
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=_environment(folder, options["threads"]),
            start_new_session=True,  # Ctrl-C reaches only us: `_end` then stops them in order
        )
        try:
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    if code:
        raise KitError(f"the training failed: {_reason(folder, log.read_text(errors='replace'))}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask `torchrun` to end its processes and itself; kill those that remain."""
    import psutil

    started = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(GRACE_S)
    process.kill()
    process.wait()
    for child in started:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def _reason(folder: Path, log: str) -> str:
    """The error of the process that failed first, or the last lines of the log."""
    notes = sorted(folder.rglob("error.json"), key=lambda path: path.stat().st_mtime)
    if notes:
        return json.loads(notes[0].read_text())["message"]["message"]
    if "(SIGKILL)" in log:
        return "a process was killed (SIGKILL), by a person or because memory ran out."
    return log.strip()[-1000:]


def _result(checkpoint: Path, history: Path) -> tuple[nn.Module, History]:
    """The model and the complete history, from the files that the processes wrote."""
    from kit.checkpoints import load
    from kit.inference import Score
    from kit.training import History

    saved, numbers = load(checkpoint), json.loads(history.read_text())
    state = saved.state or {}
    numbers |= {"losses": tuple(state["losses"]), "reads": tuple(numbers["reads"]), "state": state}
    numbers["scores"] = tuple((at, Score(**score)) for at, score in state["scores"])
    return saved.model, History(**numbers)
