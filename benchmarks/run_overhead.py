"""What `kit run` costs beyond bare nbclient, on a notebook that takes twenty seconds.

    python benchmarks/run_overhead.py

The notebook only sleeps, so all else is overhead. Both start a kernel, run the cells and write
the executed notebook, in interleaved pairs in random order:

per_run     the call alone, `kit.experiments.run` ÷ nbclient's, in this process: what each run of a
            sweep or a course costs; it checks parameters, waits for its turn, keeps a record
command     the whole command, `kit run` ÷ a script of nbclient, with Python's start and all
            imports: what is paid once
"""

import random
import subprocess
import sys
import tempfile
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import nbformat
import numpy as np
from keeping import Parts, keep
from nbclient import NotebookClient

from kit.core.statistics import bootstrap
from kit.experiments import run

PAIRS, CELLS, CELL_S = 3, 10, 2.0
SCRIPT = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[2])
"""


def sleeping(path, cells=CELLS):
    """Writes a notebook of cells that sleep, with a parameter as every notebook of the kit."""
    parameters = nbformat.v4.new_code_cell("n: int = 1", metadata={"tags": ["parameters"]})
    cell = f"import time\ntime.sleep({CELL_S})"
    cells = [parameters, *(nbformat.v4.new_code_cell(cell) for _ in range(cells))]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, path)
    return path


def bare(path, output):
    """Runs it as one would by hand."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, kernel_name="python3").execute()
    nbformat.write(notebook, output)


def seconds(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def command(*words):
    return subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True)


def pair(kits, others):
    """Seconds of both, one after the other; which goes first is drawn."""
    times = {which: seconds((kits, others)[which]) for which in random.sample([0, 1], 2)}
    return [times[0], times[1]]


def main(pairs=PAIRS):
    parts = Parts("run_overhead", pairs=pairs)
    with tempfile.TemporaryDirectory() as folder:
        path, output = sleeping(Path(folder) / "sleeping.ipynb"), Path(folder) / "out.ipynb"
        run(sleeping(Path(folder) / "first.ipynb", cells=1), output)  # imports; files are read
        ways = {
            "call": (lambda: run(path, output), lambda: bare(path, output)),
            "command": (
                lambda: command("-m", "kit", "run", path, "--out", output),
                lambda: command("-c", SCRIPT, path, output),
            ),
        }
        calls, commands = (
            np.array([parts.once(f"{way} {n}", partial(pair, *both)) for n in range(pairs)])
            for way, both in ways.items()
        )
    keep(
        "run_overhead",
        per_run=bootstrap(calls[:, 0] / calls[:, 1], unit="×"),
        command=bootstrap(commands[:, 0] / commands[:, 1], unit="×"),
        kit_run_s=float(np.median(calls[:, 0])),
        nbclient_s=float(np.median(calls[:, 1])),
        kit_command_s=float(np.median(commands[:, 0])),
        nbclient_command_s=float(np.median(commands[:, 1])),
        versions={name: version(name) for name in ("ipykernel", "nbclient", "papermill")},
        conditions=f"{pairs} pairs of a notebook of {CELLS} cells that sleep {CELL_S} s each",
    )
    parts.complete()


if __name__ == "__main__":
    sys.exit(main())
