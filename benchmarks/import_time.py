"""What `import kit` adds to `import torch`, in fresh interpreters, and what its first use adds.

    python benchmarks/import_time.py          # a minute on a quiet machine
    python benchmarks/import_time.py table    # the saved figures

Each interpreter imports PyTorch, then the kit, then asks for the eight names that a first program
uses; the kit imports a name's files when it is first used. A run before them leaves Python's
compiled files behind. All three times are of one interpreter, so a slow moment changes no ratio
much.
"""

import json
import os
import subprocess
import sys

import numpy as np
from keeping import RESULTS, Parts, keep

from kit.core.statistics import Estimate, bootstrap
from kit.core.units import words

RUNS = 15
CODE = """
import json, time
started = time.perf_counter()
import torch
between = time.perf_counter()
import kit
imported = time.perf_counter()
for name in ("device", "workloads", "count", "predict", "train", "save", "measure", "compare"):
    getattr(kit, name)
used = time.perf_counter()
print(json.dumps([between - started, imported - between, used - between]))
"""


def seconds():
    """Seconds of PyTorch's import, of the kit's, and of the kit's with its first use."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}  # as on a reader's computer
    told = subprocess.check_output([sys.executable, "-c", CODE], text=True, env=environment)
    return json.loads(told)


def table():
    """The saved figures in a sentence."""
    kept = json.loads((RESULTS / "import_time.json").read_text(encoding="utf-8"))
    alone, used = (Estimate(**kept[f"{name}_ratio"]) for name in ("import", "first_use"))
    return (
        f"`import torch` and `import kit` together take {alone} of `import torch` alone, which "
        f"takes {words(kept['torch_s'], 's')}; with the first use of eight names, {used}. "
        f"{kept['conditions']}. Measured on {kept['machine']['cpu']}, {kept['date']}."
    )


def main(runs=RUNS):
    seconds()
    parts = Parts("import_time", runs=runs)
    taken = np.array([parts.once(f"run {number}", seconds) for number in range(runs)])
    torch_s, alone, used = taken.T
    keep(
        "import_time",
        import_ratio=bootstrap(1 + alone / torch_s, unit="×"),
        first_use_ratio=bootstrap(1 + used / torch_s, unit="×"),
        torch_s=float(np.median(torch_s)),
        import_s=float(np.median(alone)),
        first_use_s=float(np.median(used)),
        conditions=f"{runs} fresh interpreters, compiled files present",
    )
    parts.complete()


if __name__ == "__main__":
    print(table()) if sys.argv[1:] == ["table"] else main()
