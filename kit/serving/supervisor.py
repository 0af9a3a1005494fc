"""Replicas: several workers on one listening socket, `python -m kit.serving.supervisor FOLDER`.

The workers take connections in turns (see `fair_accept`). A worker that dies is started again;
connections to the others are not touched. The supervisor has a single thread and no model: so it
can be copied (see `forking`). By itself, it imports no PyTorch.

notebook ── stdin ──> supervisor ── stdin ──> workers     whose parent has gone, stops
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kit.serving.forking import Forked, forked
from kit.serving.processes import (
    Parent,
    Process,
    bind,
    environment,
    first_report,
    report_change,
    reports,
    start_log,
)
from kit.serving.settings import Settings

START_S = 600.0  # for loading and warming up
LOOK_S = 0.05
CHANGE_S = 5.0  # for a worker to obey new settings
QUICK_S = 5.0  # a worker that lives shorter than this did not start properly
MOST_QUICK = 5  # such deaths in a row, after which starting again does not help
COUNTERS = "PROMETHEUS_MULTIPROC_DIR"  # see `metrics.py`
log = logging.getLogger("kit.serving")


def main() -> None:
    """Run the workers until a signal to stop."""
    sys.exit(run(Path(sys.argv[1]), forks=False))


def run_server(folder: Path) -> int:
    """Serve the model in the folder, in a copy of a process that has imported what that needs."""
    if Settings.read(folder).workers > 1:
        return run(folder, forks=True)
    from kit.serving import worker

    return worker.run(folder)


def run(folder: Path, forks: bool) -> int:
    """Run the workers until a signal to stop; the exit code."""
    settings, parent = Settings.read(folder), Parent()
    tell = reports()
    start_log(logging.INFO)
    code = Supervisor(folder, settings, bind(settings, tell), parent, forks).run(tell)
    parent.remove_if_gone(folder)
    return code


class Supervisor:
    """Starts the workers, replaces those that die, and stops them all."""

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        listening: socket.socket,
        parent: Parent,
        forks: bool,
    ):
        self.folder, self.settings, self.listening = folder, settings, listening
        self.parent, self.forks = parent, forks
        self.counters = folder / "metrics"  # the workers count in files, see `metrics.py`
        shutil.rmtree(self.counters, ignore_errors=True)  # of workers before a restart
        self.counters.mkdir()
        self.workers: dict[Process, float] = {}  # and when each was started
        self.quick_deaths = 0
        self._stopped = False

    def run(self, tell: Any) -> int:
        """Serve until a signal to stop; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        failed = self._start_all()
        if failed is None:
            tell({"port": self.listening.getsockname()[1]})
            while not self.stopping():
                if self.parent.sent(LOOK_S):
                    self._pass_on(tell)
                self._replace_dead()
        else:
            tell(failed)
        return self._stop() or int(failed is not None or self.quick_deaths >= MOST_QUICK)

    def stop(self) -> None:
        """Stop at the next look."""
        self._stopped = True

    def stopping(self) -> bool:
        """Whether we were told to stop, or nobody needs us any more."""
        return self._stopped or self.parent.gone

    def _start_all(self) -> dict[str, Any] | None:
        """Start all workers; what the first one that failed says."""
        started = [self._start() for _ in range(self.settings.workers)]
        for worker in started:
            report = first_report(worker.stdout, START_S, self._stopping_at_start)
            if "port" not in report:
                return report  # without "failed", the server gives the end of the log
        return None

    def _stopping_at_start(self) -> bool:
        self.parent.sent(0)
        return self.stopping()

    def _pass_on(self, tell: Any) -> None:
        """The settings in the folder have changed: each worker obeys them before we say so."""
        self.settings = Settings.read(self.folder)
        if all([report_change(worker, CHANGE_S) for worker in list(self.workers)]):
            tell({"changed": True})

    def _start(self) -> Process:
        worker = self._forked() if self.forks else self._popened()
        self.workers[worker] = time.monotonic()
        return worker

    def _forked(self) -> Forked:
        def run_worker() -> int:
            os.environ[COUNTERS] = str(self.counters)
            from kit.serving import worker

            return worker.run(self.folder, self.listening)

        return forked(run_worker, close=self._close_pipes)

    def _close_pipes(self) -> None:
        """Of the other workers: a copy of us must not hold their input open."""
        for worker in self.workers:
            _close(worker)

    def _popened(self) -> subprocess.Popen[bytes]:
        shared = self.listening.fileno()
        return subprocess.Popen(
            [sys.executable, "-m", "kit.serving.worker", str(self.folder), str(shared)],
            stdin=subprocess.PIPE,  # our end closes when we are gone: then the worker stops
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=[shared],
            env=environment(self.settings) | {COUNTERS: str(self.counters)},
        )

    def _replace_dead(self) -> None:
        for worker, began in list(self.workers.items()):
            if worker.poll() is None:
                continue
            log.warning("worker %d ended with code %d", worker.pid, worker.returncode)
            self._forget(worker)
            lived_s = time.monotonic() - began
            self.quick_deaths = self.quick_deaths + 1 if lived_s < QUICK_S else 0
            if self.quick_deaths >= MOST_QUICK:
                log.error("workers end as soon as they start: giving up")
                return self.stop()
            self._start()

    def _forget(self, worker: Process) -> None:
        """Its gauges are no longer true; what it counted stays in the sums."""
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid, str(self.counters))
        del self.workers[worker]
        _close(worker)

    def _stop(self) -> int:
        """Drain all workers at the same time; 0 if each of them ended by itself."""
        self.listening.close()  # the workers have their own copies, and close them at the end
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        until = time.monotonic() + self.settings.drain_s + 5
        codes = []
        for worker in self.workers:
            try:
                codes.append(worker.wait(max(0.1, until - time.monotonic())))
            except subprocess.TimeoutExpired:
                worker.kill()
                codes.append(worker.wait())
        # A worker that was starting does not know the signal yet, and is ended by it.
        return int(any(code not in (0, -signal.SIGTERM) for code in codes))


def _close(worker: Process) -> None:
    for pipe in (worker.stdin, worker.stdout):
        if pipe:
            pipe.close()


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
