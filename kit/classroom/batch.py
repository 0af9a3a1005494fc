"""Grade many files: several warm processes, only files that are new, one row for each.

Nothing in a file can stop the batch: a process that breaks is replaced, and its file gets a row
with the reason.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from kit import __version__
from kit.classroom.cells import NO_MEMORY
from kit.classroom.hand_ins import HandIn
from kit.classroom.limits import Limits, read_in_time
from kit.core.errors import NotSupported
from kit.core.files import atomic_write, read_file

PACKAGE = Path(__file__).parents[1]
PASSED_ON = ("PATH", "LANG", "LD_LIBRARY_PATH", "VIRTUAL_ENV")  # of the teacher's environment
START_S, ANSWER_S = 180.0, 900.0  # to import everything; for one file, with the lesson's own cells
CLOSE_S = 5.0
ISOLATION_IS_MISSING = (
    "This system cannot isolate other people's code: {}. Isolation needs Linux 5.12 or newer and "
    "permission to make namespaces: run it as an ordinary user of such a system, in a virtual "
    "machine, or in a container that allows them. With --unsafe, code runs with limits on time, "
    "memory and processes, but it can read your files, use the network and end your programs."
)


class WarmProcess:
    """One process that grades file after file; it is started again if it ends.

    Raises
    ------
    NotSupported
        The system cannot isolate code, and `unsafe` was not asked for.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        own = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        own |= {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
        own |= {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, "-m", "kit.classroom.warm_process"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, env=own, start_new_session=True, **pipes)  # type: ignore[call-overload]
        self.process = process
        self._write(self.settings)
        found = self._read(START_S)
        if found is None or found["not_isolated"]:
            self.close()
            reason = "the process that grades did not start" if found is None else ""
            said = ISOLATION_IS_MISSING.format(found["not_isolated"]) if found else reason
            raise NotSupported(said)
        return process

    def grade(self, path: Path) -> dict[str, Any]:
        """What was found in a file; the process is started again if it ends.

        A file that breaks it breaks it twice. Once may be the system, which needs memory.
        """
        for _ in range(2):
            self._write(str(path.resolve()))
            found: dict[str, Any] | None = self._read(ANSWER_S)
            if found is not None:
                return found
            self.close()
            self.process = self._started()
        return {"problem": "grading it broke the grader's process", "exercises": []}

    def _write(self, value: Any) -> None:
        assert self.process.stdin
        with suppress(OSError):  # it has ended: reading says so
            self.process.stdin.write(json.dumps(value).encode() + b"\n")
            self.process.stdin.flush()

    def _read(self, most_s: float) -> Any:
        """The next line; None if there is none."""
        assert self.process.stdout
        pipe, left_s, data = self.process.stdout.fileno(), most_s, b""
        while not data.endswith(b"\n"):
            part, left_s = read_in_time(pipe, left_s)
            if not part:
                return None
            data += part
        return json.loads(data)

    def close(self) -> None:
        """End the process and all that it started."""
        import psutil

        with suppress(OSError, subprocess.TimeoutExpired):
            self.process.stdin.close()  # type: ignore[union-attr]
            self.process.wait(CLOSE_S)  # it ends by itself, and removes its folders
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    child.kill()
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()
        self.process.wait()


def judge_all(
    hand_ins: Sequence[HandIn],
    notebook: Path,
    store: Path,
    *,
    hidden: Sequence[Path] = (),
    unsafe: bool = False,
    jobs: int = 1,
    limits: Limits | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """What was found in each hand-in, in their order; results in `store` are used again.

    Parameters
    ----------
    notebook
        The lesson as it was handed out.
    hidden
        Folders that the students' code must not see.
    """
    limits = limits or Limits()
    about = [notebook.name[:2], version(notebook), asdict(limits), unsafe]
    keys = [_key(each, about) for each in hand_ins]
    files = {key: store / f"{key}.json" for key in keys if key}
    found = {key: json.loads(path.read_bytes()) for key, path in files.items() if path.is_file()}
    missing = {key: each for key, each in zip(keys, hand_ins, strict=True) if key not in found}
    missing.pop("", None)
    settings = {"lesson": notebook.name[:2], "notebook": str(notebook), "unsafe": unsafe}
    settings |= {"limits": asdict(limits), "hidden": [str(path.resolve()) for path in hidden]}
    for n, (key, row) in enumerate(_fresh(missing, settings, jobs), 1):
        found[key] = row
        if row["problem"] != NO_MEMORY:  # that says nothing about the file
            with atomic_write(files[key]) as draft:
                draft.write_text(json.dumps(row), encoding="utf-8")
        say(f"{n} of {len(missing)}: {missing[key].name}")
    return [found[key] if key else _refused(each) for key, each in zip(keys, hand_ins, strict=True)]


def _fresh(
    missing: dict[str, HandIn], settings: dict[str, Any], jobs: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Grade what is new, each as soon as a process is free."""
    if not missing:
        return
    n = min(jobs, len(missing))
    with _processes(settings, n) as free, ThreadPoolExecutor(n) as pool:

        def graded(item: tuple[str, HandIn]) -> tuple[str, dict[str, Any]]:
            process = free.get()
            try:
                return item[0], process.grade(item[1].path)
            finally:
                free.put(process)

        yield from pool.map(graded, missing.items())


@contextmanager
def _processes(settings: dict[str, Any], n: int) -> Iterator[SimpleQueue[WarmProcess]]:
    free: SimpleQueue[WarmProcess] = SimpleQueue()
    started: list[WarmProcess] = []
    try:
        for _ in range(n):
            started.append(WarmProcess(settings))
            free.put(started[-1])
        yield free
    finally:
        for process in started:
            process.close()


def version(notebook: Path) -> str:
    """A digest of all that decides a grade: the lesson, its checks, and this code."""
    files = [*(PACKAGE / "course" / "exercises").glob("*.py"), *Path(__file__).parent.glob("*.py")]
    parts = [__version__.encode(), *(path.read_bytes() for path in sorted([*files, notebook]))]
    return sha256(b"\0".join(parts)).hexdigest()


def _key(hand_in: HandIn, about: list[Any]) -> str:
    digest = "" if hand_in.problem else hand_in.digest()
    return sha256(json.dumps([digest, about]).encode()).hexdigest()[:32] if digest else ""


def _refused(hand_in: HandIn) -> dict[str, Any]:
    """The row of a file that is not opened."""
    if hand_in.problem:
        return {"problem": hand_in.problem, "exercises": []}
    if hand_in.path.is_symlink():
        return {"problem": "it is a link, and links are not followed", "exercises": []}
    from kit.experiments.untrusted_notebooks import NOTEBOOK_BYTES

    try:
        read_file(hand_in.path, NOTEBOOK_BYTES)
    except OSError as error:
        reason = str(error).removeprefix(f"{hand_in.path} ")
        return {"problem": error.strerror or f"it {reason}", "exercises": []}
    return {"problem": "it cannot be read", "exercises": []}
