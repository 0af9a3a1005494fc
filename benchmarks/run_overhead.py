"""What `kit run` costs beyond bare nbclient, on a notebook that works for twenty seconds.

    python benchmarks/run_overhead.py          # three minutes, on a machine left alone
    python benchmarks/run_overhead.py table    # the saved figures

The notebook only sleeps, so all else is overhead. Both start a kernel, run the cells and write
the executed notebook, in interleaved pairs in random order. The cells of a pair sleep for half a
second together, so there is time for many pairs. What a run took beyond that sleep is added to
twenty seconds of work, for both, before the ratio is taken.

per_run     the call alone, `kit.experiments.run` ÷ nbclient's, in this process: what each run of a
            sweep or a course costs; it checks parameters, waits for its turn, keeps a record
command     the whole command, `kit run` ÷ a script of nbclient, with Python's start and all
            imports: what is paid once
"""

import json
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
from keeping import RESULTS, Parts, keep
from nbclient import NotebookClient

from kit.core.statistics import Estimate, bootstrap, median
from kit.core.units import words
from kit.experiments import run

PAIRS, CELLS, CELL_S = 16, 10, 0.05
WORK_S = 20.0  # of the notebook that the ratios are for: half as long as a lesson
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


def figures(name, taken):
    """What (n, 2) seconds of the kit and of nbclient tell."""
    beyond = np.array(taken) - CELLS * CELL_S
    ratio = (WORK_S + beyond[:, 0]) / (WORK_S + beyond[:, 1])
    return {
        name: bootstrap(ratio, unit="×"),
        f"{name}_added_s": median(beyond[:, 0] - beyond[:, 1], "s"),
        f"{name}_kit_beyond_s": float(np.median(beyond[:, 0])),
        f"{name}_nbclient_beyond_s": float(np.median(beyond[:, 1])),
    }


def table():
    """The saved figures in a sentence for the call, and one for the command."""
    kept = json.loads((RESULTS / "run_overhead.json").read_text(encoding="utf-8"))
    lines = []
    for name, label in (("per_run", "`kit.experiments.run`"), ("command", "the command `kit run`")):
        ratio, added = (Estimate(**kept[key]) for key in (name, f"{name}_added_s"))
        lines.append(
            f"- {label} takes {ratio} of nbclient's time for a notebook that works for "
            f"{words(kept['work_s'], 's')}: it adds {added} to "
            f"{words(kept[f'{name}_nbclient_beyond_s'], 's')} beyond the work."
        )
    where = f"Measured on {kept['machine']['cpu']}, {kept['date']}"
    return "\n".join([*lines, "", f"{where}; {kept['conditions']}."])


def main(pairs=PAIRS):
    parts = Parts("run_overhead", pairs=pairs)
    with tempfile.TemporaryDirectory() as folder:
        path, output = sleeping(Path(folder) / "sleeping.ipynb"), Path(folder) / "out.ipynb"
        run(sleeping(Path(folder) / "first.ipynb", cells=1), output)  # imports; files are read
        ways = {
            "per_run": (lambda: run(path, output), lambda: bare(path, output)),
            "command": (
                lambda: command("-m", "kit", "run", path, "--out", output),
                lambda: command("-c", SCRIPT, path, output),
            ),
        }
        found = {}
        for way, both in ways.items():
            taken = [parts.once(f"{way} {n}", partial(pair, *both)) for n in range(pairs)]
            found |= figures(way, taken)
    keep(
        "run_overhead",
        **found,
        work_s=WORK_S,
        versions={name: version(name) for name in ("ipykernel", "nbclient", "papermill")},
        conditions=f"{pairs} pairs of a notebook of {CELLS} cells that sleep {CELL_S} s each",
    )
    parts.complete()


if __name__ == "__main__":
    print(table()) if sys.argv[1:] == ["table"] else main()
