"""Many processes from a notebook: `torchrun`, started, waited for and ended from one line.

What is defined in a notebook, other processes cannot see. So each is started as `kit train`, by
names and numbers, and what they have learnt comes back in a file.
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
from kit.core.errors import BadValue, KitError

if TYPE_CHECKING:
    from torch import nn

    from kit.training import History

GRACE_S = 40  # `torchrun` gives its processes 30 s to end before it kills them
LOCAL = ["--local-addr", "127.0.0.1"]


def torchrun(
    workload: str, *, processes: int = 2, checkpoint: str | Path | None = None, **options: Any
) -> tuple[nn.Module, History]:
    """The model and its history, trained by several processes of this computer together.

    Interrupting it ends them all; with a `checkpoint` the same line then goes on from there.
    They meet in a file of this user's and send their messages over the loopback interface: nobody
    else can reach them. `torchrun` by itself opens ports on all interfaces.

    Parameters
    ----------
    workload
        Its name, such as "language": each process makes data and model for itself.
    processes
        How many; one for each GPU, or a few for the cores of a CPU, which they share.
    checkpoint
        A file to keep model and training in, and to go on from; None: kept for this call alone.
    options
        Those of `kit train`: `model="gpt-small"`, `steps=100`, `lr`, `optimizer`, `sharded=True` …;
        what is left out is as the workload's recipe has it.

    Raises
    ------
    BadValue
        An option that there is not, or a value that it cannot have; nothing was started.
    KitError
        A process failed: with which error.

    Explained in lesson 08.
    """
    from kit.devices import cores_allowed

    check_whole("processes", processes)
    options["threads"] = options.get("threads") or max(1, int(cores_allowed()) // processes)
    with TemporaryDirectory() as name:
        folder = Path(name)
        kept = Path(checkpoint or folder / "model.kit").absolute()
        options |= {"checkpoint": kept, "history": folder / "history.json"}
        words = _words(workload, options)
        start = [*_meeting(folder), "--nproc-per-node", str(processes), "--log-dir", str(folder)]
        _follow(["torch.distributed.run", *start, "-m", "kit", "train", *words], folder, options)
        return _result(kept, folder / "history.json")


def _words(workload: str, options: dict[str, Any]) -> list[str]:
    """As one would type them after `kit train`, checked as they would be there."""
    import click

    from kit import workloads
    from kit.cli.commands import train

    workloads.get(workload)
    words = [workload]
    for name, value in options.items():
        if value is not None and value is not False:
            words.append(f"--{name.replace('_', '-')}")
            words += [] if value is True else [str(value)]
    try:
        train.make_context("train", list(words))
    except click.UsageError as error:
        raise BadValue(f"{error.format_message()} `kit train --help` lists the options.") from error
    return words


def _meeting(folder: Path) -> list[str]:
    """Where the processes meet: in a file that only this user can read; no port is opened for it.

    Nor is this machine's name looked up, which takes minutes where nobody knows it.
    """
    place = ["--rdzv-endpoint", str(folder / "meeting"), "--rdzv-id", "kit"]
    return ["--rdzv-backend", "c10d", "--rdzv-conf", "store_type=file", *place, *LOCAL]


def _surroundings(folder: Path, threads: int) -> dict[str, str]:
    """The environment of the processes: messages between them stay on this machine, too."""
    import psutil

    from kit.training.distributed import MEETING

    names = psutil.net_if_addrs().items()
    loopback = [name for name, known in names if any(one.address == "127.0.0.1" for one in known)]
    within = dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), *loopback[:1])
    return {
        **os.environ,
        **(within if loopback and os.name == "posix" else {}),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",  # that would be a port on all interfaces
        MEETING: str(folder / "store"),
        "OMP_NUM_THREADS": str(threads),  # unset, `torchrun` sets it, and says so
    }


def _follow(words: list[str], folder: Path, options: dict[str, Any]) -> None:
    """Run a module of Python until its end; an interruption ends it and all that it started."""
    told = folder / "told.txt"
    with told.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=_surroundings(folder, options["threads"]),
            start_new_session=True,  # Ctrl-C comes to us alone: they are told in their order
        )
        try:
            code = process.wait()
        except BaseException:
            _end(process)
            raise
    if code:
        raise KitError(f"the training failed: {_reason(folder, told.read_text(errors='replace'))}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask `torchrun` to end its processes and itself; whoever is left then is killed."""
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


def _reason(folder: Path, told: str) -> str:
    """The error of the process that failed first, as it noted it down, or the last words of all."""
    notes = sorted(folder.rglob("error.json"), key=lambda path: path.stat().st_mtime)
    if notes:
        return json.loads(notes[0].read_text())["message"]["message"]
    if "(SIGKILL)" in told:
        return "a process was killed (SIGKILL): by hand, or by the system for want of memory."
    return told.strip()[-1000:]


def _result(checkpoint: Path, history: Path) -> tuple[nn.Module, History]:
    """What the processes left: the model, and the history with all that it had there."""
    from kit.checkpoints import load
    from kit.inference import Score
    from kit.training import History

    kept, numbers = load(checkpoint), json.loads(history.read_text())
    state = kept.state or {}
    for name in ("losses", "reads"):
        numbers[name] = tuple(numbers[name])
    numbers["scores"] = tuple((at, Score(**score)) for at, score in state["scores"])
    return kept.model, History(**{**numbers, "losses": tuple(state["losses"]), "state": state})
