"""Kernels that start warm: one process imports PyTorch, and forks itself for each notebook.

A fresh kernel takes some four CPU seconds to import PyTorch, pandas, Matplotlib and IPython; the
gate starts dozens. Nothing of the kit is imported before the fork: each notebook does that, with
its own environment, folder and limits. Only Linux forks such a process safely; elsewhere kernels
start as ever, and `test_execution` has those that start as ever on Linux.

    pytest ──JUPYTER_PATH──> a program in place of the kernel ──socket──> the warm process
                              passes signals on, ends with it               forks the kernel
"""

import atexit
import gc
import json
import os
import signal
import socket
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

MESSAGE_BYTES = 2**17  # the arguments and the environment


@contextmanager
def running_warm_process(folder: Path):
    """The warm process; yields a function that makes a kernel spec, or None where none can run."""
    import subprocess

    if sys.platform != "linux":
        yield None
        return
    command = [sys.executable, __file__, "serve", str(folder / "socket")]
    environment = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    environment.pop("JPY_PARENT_PID", None)  # it would end with another parent
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes) as warm:
        assert warm.stdout.readline() == b"ready\n"
        yield lambda data_bytes=0: _kernel_spec(folder, data_bytes)
        warm.stdin.close()


def _kernel_spec(folder: Path, data_bytes: int) -> str:
    """A folder for JUPYTER_PATH whose kernel is a fork; it gets this much memory, if not 0."""
    argv = [sys.executable, "-IS", __file__, "connect", str(folder / "socket"), str(data_bytes)]
    spec = {"argv": [*argv, "-f", "{connection_file}"], "language": "python"}
    target = folder / str(data_bytes) / "kernels" / "python3" / "kernel.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps({**spec, "display_name": "Python 3 (ipykernel)"}))
    return str(folder / str(data_bytes))


def connect(address: str, data_bytes: str, *arguments: str) -> None:
    """Stand for a kernel: ask for a fork, pass signals on, end when it ends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as warm:
        warm.connect(address)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: warm.send(bytes([number])))
        request = json.dumps([arguments, os.getcwd(), dict(os.environ), int(data_bytes)])
        socket.send_fds(warm, [request.encode()], [0, 1, 2])
        parent = os.getppid()
        warm.settimeout(1)
        while os.getppid() == parent:  # as a kernel ends when its parent has died
            with suppress(TimeoutError):
                warm.recv(1)
                return


def serve(address: str) -> None:
    """Import what notebooks import, then fork for each request until nobody holds stdin."""
    import select

    import ipykernel.kernelapp  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pandas  # noqa: F401
    import torch._dynamo  # noqa: F401  # else the first optimizer would, in over a second

    # A collection in a kernel passes over what was imported. The kit collects before each timing,
    # and to look at all of PyTorch took it longer than many a timing.
    gc.freeze()
    gc.callbacks.append(freeze_survivors)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system buries kernels that ended
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen()
        print("ready", flush=True)
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            asked, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                become_kernel(asked)
                return
            asked.close()


def freeze_survivors(phase: str, info: dict[str, int]) -> None:
    """What is alive after a whole collection, the next ones pass over, too: it was imported since.

    The exporters' modules alone take as long to look at as PyTorch. A notebook lives a minute.
    """
    if phase == "stop" and info["generation"] == 2:
        gc.freeze()


def become_kernel(asked: socket.socket) -> None:
    """In the fork: take over what the other program has, and run the kernel as it would."""
    import resource
    import runpy
    import threading

    request, files, *_ = socket.recv_fds(asked, MESSAGE_BYTES, 3)
    arguments, folder, environment, data_bytes = json.loads(request)
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[1:], sys.path[0] = arguments, ""
    threading.Thread(target=obey, args=[asked], daemon=True).start()
    if data_bytes:
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    with suppress(SystemExit):
        runpy.run_module("ipykernel_launcher", run_name="__main__")
    end()


def end() -> None:
    """End as Python does, but do not take apart all that was imported: that takes over a second."""
    import threading

    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()  # what was registered: temporary folders, servers
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def obey(asked: socket.socket) -> None:
    """Signals that the other program passes on; once it is gone, end with all that was started."""
    while number := asked.recv(1):
        os.kill(os.getpid(), number[0])
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    {"serve": serve, "connect": connect}[sys.argv[1]](*sys.argv[2:])
