"""How long a thousand executed notebooks take to read: a recorded lesson, pictures and all.

python benchmarks/collect_speed.py
"""

import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from keeping import keep

from kit.experiments import collect, lessons, write_report

COPIES = 1_000


def read(copies):
    """Copy lesson 01 that often, then collect its runs, its verdicts, and make the report."""
    lesson, told = lessons()[1], {}

    @contextmanager
    def timed(name):
        began, worked = time.perf_counter(), time.process_time()
        yield
        told[f"{name}_s"] = time.perf_counter() - began
        told[f"{name}_processor_s"] = time.process_time() - worked  # others do not lengthen it

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(lesson, folder / "run-0000.ipynb")
        with timed("imports_and_one"):
            collect(folder)
        for i in range(1, copies):
            shutil.copy(lesson, folder / f"run-{i:04}.ipynb")
        with timed("collect_runs"):
            runs = len(collect(folder))
        with timed("collect_verdicts"):
            verdicts = len(collect(folder, "Verdict"))
        with timed("report"):
            write_report(folder)
    size = lesson.stat().st_size
    return {"notebooks": runs, "notebook_bytes": size, "verdicts": verdicts, **told}


def main():
    keep("collect_speed", **read(COPIES))


if __name__ == "__main__":
    sys.exit(main())
