"""Imports the kit once, then forks itself for each command: a fork takes milliseconds.

A line of JSON asks for a command; the answer is the number of its process. The command belongs to
the process that asked, since this one and the process between end or step aside.
"""

import atexit
import ctypes
import json
import os
import runpy
import signal
import sys
import time
import traceback

DEATH_SIGNAL = 1  # prctl(2): sent when the parent ends


def main() -> None:
    """Read a line for each command until nobody holds the input."""
    import kit.cli.grade
    import kit.cli.main
    import kit.cli.sweep
    import kit.experiments.cluster
    import kit.experiments.recording
    import kit.experiments.sweeping
    import kit.training
    import kit.workloads  # noqa: F401

    for late in ("papermill.execute", "papermill.clientwrap", "distributed", "uvicorn"):
        try:
            __import__(late)
        except ImportError:  # an extra that is not installed
            print(f"without {late}", file=sys.stderr)
    print("ready", flush=True)
    for line in sys.stdin:
        reading, writing = os.pipe()
        between = os.fork()
        if not between:
            begin({**json.loads(line), "between": os.getpid()}, writing)
        os.close(writing)
        os.waitpid(between, 0)
        print(os.read(reading, 20).decode(), flush=True)
        os.close(reading)


def begin(order: dict, writing: int) -> None:
    """In the process between: fork the command, say its number, end."""
    child = os.fork()
    if child:
        os.write(writing, b"%d" % child)
        os._exit(0)
    os.close(writing)
    os._exit(run(order))


def run(order: dict) -> int:
    """Be that command, as a shell would start it; its exit code."""
    os.setsid()
    # The process between ends now. From then on, the command ends with the one that asked for it.
    while os.getppid() == order["between"]:
        time.sleep(0.001)
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    os.chdir(order["folder"])
    os.environ.update(order["environment"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, path in enumerate((None, order["out"], order["errors"])):
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.dup2(nothing if path is None else os.open(path, flags), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        execute(order["words"])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code


def execute(words: list[str]) -> None:
    """`kit …`, `-m module …` or `file.py …`."""
    if words[0] == "kit":
        from kit.cli.main import main as kit_main

        kit_main(words[1:], prog_name="kit")
    elif words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    main()
