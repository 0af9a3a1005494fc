"""Replicas: several workers on one listening socket, `python -m kit.serving.supervisor FOLDER`.

The operating system gives each connection to a worker that is free to take it. A worker that dies
is started again; connections to the others are not touched. The supervisor imports no PyTorch.

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
import threading
import time
from pathlib import Path
from typing import Any

from kit.serving.processes import (
    bind,
    environment,
    first_report,
    remove_if_left,
    report_change,
    reports,
    start_log,
    watch_parent,
)
from kit.serving.settings import Settings

START_S = 600.0  # for loading and warming up
LOOK_S = 0.05
CHANGE_S = 5.0  # for a worker to obey new settings
QUICK_S = 5.0  # a worker that lives shorter than this did not start properly
MOST_QUICK = 5  # such deaths in a row, after which starting again does not help
log = logging.getLogger("kit.serving")


def main() -> None:
    """Run the workers until a signal to stop."""
    folder, parent = Path(sys.argv[1]), os.getppid()
    settings = Settings.read(folder)
    tell = reports()
    start_log(logging.INFO)
    code = Supervisor(folder, settings, bind(settings, tell)).run(tell)
    remove_if_left(folder, parent)
    sys.exit(code)


class Supervisor:
    """Starts the workers, replaces those that die, and stops them all."""

    def __init__(self, folder: Path, settings: Settings, listening: socket.socket):
        self.folder, self.settings, self.listening = folder, settings, listening
        self.counters = folder / "metrics"  # the workers count in files, see `metrics.py`
        shutil.rmtree(self.counters, ignore_errors=True)  # of workers before a restart
        self.counters.mkdir()
        self.workers: dict[subprocess.Popen[bytes], float] = {}  # and when each was started
        self.quick_deaths = 0
        self.stopping = threading.Event()

    def run(self, tell: Any) -> int:
        """Serve until a signal to stop; returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stopping.set())
        watch_parent(self.stopping.set, self.settings.drain_s, lambda: self._pass_on(tell))
        failed = self._start_all()
        if failed is None:
            tell({"port": self.listening.getsockname()[1]})
            while not self.stopping.wait(LOOK_S):
                self._replace_dead()
        else:
            tell(failed)
        return self._stop() or int(failed is not None or self.quick_deaths >= MOST_QUICK)

    def _start_all(self) -> dict[str, Any] | None:
        """Start all workers; what the first one that failed says."""
        started = [self._start() for _ in range(self.settings.workers)]
        for worker in started:
            report = first_report(worker.stdout, START_S, self.stopping)
            if "port" not in report:
                return report  # without "failed", the server gives the end of the log
        return None

    def _pass_on(self, tell: Any) -> None:
        """The settings in the folder have changed: each worker obeys them before we say so."""
        self.settings = Settings.read(self.folder)
        if all([report_change(worker, CHANGE_S) for worker in list(self.workers)]):
            tell({"changed": True})

    def _start(self) -> subprocess.Popen[bytes]:
        shared = self.listening.fileno()
        worker = subprocess.Popen(
            [sys.executable, "-m", "kit.serving.worker", str(self.folder), str(shared)],
            stdin=subprocess.PIPE,  # our end closes when we are gone: then the worker stops
            stdout=subprocess.PIPE,
            pass_fds=[shared],
            env=environment(self.settings) | {"PROMETHEUS_MULTIPROC_DIR": str(self.counters)},
        )
        self.workers[worker] = time.monotonic()
        return worker

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
                return self.stopping.set()
            self._start()

    def _forget(self, worker: subprocess.Popen[bytes]) -> None:
        """Its gauges are no longer true; what it counted stays in the sums."""
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.pid, str(self.counters))
        del self.workers[worker]
        for pipe in (worker.stdin, worker.stdout):
            if pipe:
                pipe.close()

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


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    main()
