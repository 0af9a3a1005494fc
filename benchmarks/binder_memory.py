"""Does each lesson fit on Binder? The memory of JupyterLab and its kernels while a lesson runs.

    python benchmarks/binder_memory.py          # every lesson; needs Chromium
    python benchmarks/binder_memory.py 09 11    # these; others stay as they were measured

A real JupyterLab runs each lesson from the first cell to the last, in a real browser, which is not
counted: on Binder, it runs on the reader's computer. Counted are the server, the kernel and what
they start, each page of memory once (Pss of Linux, every 0.15 s). A session on Binder may use 2 GB:
the server gets a control group with this limit, so that the kit sees it and Linux enforces it. That
needs Linux and an administrator. Each lesson begins with an empty cache of the kit, as on Binder.
"""

import json
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import psutil
from keeping import RESULTS, keep

from kit.experiments import lessons

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent / "tests"))
EVERY_S, PATIENCE_S = 0.15, 1_500
LIMIT_BYTES = 2_000_000_000
GROUPS = Path("/sys/fs/cgroup")


def memory_of(process):
    """Bytes of a process; memory that several processes share is divided among them."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def limit_memory(process):
    """Put a process, and all that it will start, into a new control group; return the group."""
    first = (GROUPS / "memory").is_dir()  # cgroup v1
    group = (GROUPS / "memory" if first else GROUPS) / f"binder-{process.pid}"
    group.mkdir()
    name = "memory.limit_in_bytes" if first else "memory.max"
    (group / name).write_text(str(LIMIT_BYTES))
    (group / "cgroup.procs").write_text(str(process.pid))
    return group


def kills(group):
    """How many processes Linux has ended because the group's memory was used up."""
    files = [group / "memory.oom_control", group / "memory.events"]
    text = "".join(path.read_text() for path in files if path.exists())
    return int(text.partition("oom_kill ")[2].split()[0])


class Peak(threading.Thread):
    """The most memory that a process and all that it started have used together."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.ended = server, threading.Event()
        self.found = {"peak_bytes": 0, "server_bytes": 0, "processes": 0}

    def run(self):
        while not self.ended.wait(EVERY_S):
            parts = list(map(memory_of, [self.server, *self.server.children(recursive=True)]))
            if sum(parts) > self.found["peak_bytes"]:
                numbers = (sum(parts), parts[0], sum(part > 0 for part in parts))
                self.found = dict(zip(self.found, numbers, strict=True))


def measure(number, lab, browser, server, group):
    """Run a lesson in JupyterLab; its peak, and how many cells failed or processes were killed."""
    from browser import open_notebook, run_all

    before = kills(group)
    page, notebook = browser.new_page(), lab.notebook(f"{number}-*.ipynb")
    page.set_default_timeout(PATIENCE_S * 1_000)  # other work may stop the browser for minutes
    open_notebook(page, lab, notebook)
    peak = Peak(server)
    peak.start()
    cells = run_all(page, notebook, patience_s=PATIENCE_S)
    peak.ended.set()
    peak.join()
    failed = [each for cell in cells for each in cell["outputs"] if each["output_type"] == "error"]
    page.close()
    lab.end_kernels()
    shutil.rmtree(os.environ["KIT_CACHE"], ignore_errors=True)
    return peak.found | {"failed_cells": len(failed), "killed": kills(group) - before}


def main(numbers):
    from browser import running_chromium, running_lab

    stored = RESULTS / "binder_memory.json"
    found = json.loads(stored.read_text("utf-8"))["lessons"] if stored.exists() else {}
    folder = Path(tempfile.mkdtemp())
    os.environ["KIT_CACHE"] = str(folder / "cache")
    with running_lab(folder) as lab:
        (server,) = psutil.Process().children()
        group = limit_memory(server)
        with running_chromium() as browser:
            for number in numbers or [path.name[:2] for path in lessons()]:
                found[number] = measure(number, lab, browser, server, group)
                keep("binder_memory", limit_bytes=LIMIT_BYTES, lessons=dict(sorted(found.items())))
    group.rmdir()
    shutil.rmtree(folder)


def table():
    """The table of docs/install.md."""
    record = json.loads((RESULTS / "binder_memory.json").read_text("utf-8"))
    found = record["lessons"]
    print(
        "| lesson | most memory | of it the server | with Binder's limit |\n" + "| --- " * 4 + "|"
    )
    for n, each in found.items():
        peak, server = (f"{each[key] / 1e6:,.0f} MB" for key in ("peak_bytes", "server_bytes"))
        print(f"| {n} | {peak} | {server} | {'yes' if 'killed' in each else 'no'} |")
    bad = [n for n, each in found.items() if each["failed_cells"] or each.get("killed")]
    missing = [path.name[:2] for path in lessons() if path.name[:2] not in found]
    unmeasured = f" Not measured yet: {', '.join(missing)}." if missing else ""
    number, most = max(found.items(), key=lambda item: item[1]["peak_bytes"])
    print(
        f"\nLesson {number} takes most: {most['peak_bytes'] / 1e6:,.0f} MB. Cells that failed, or "
        f"processes that were ended, in: {', '.join(bad) or 'no lesson'}.{unmeasured} "
        f"{record['machine']['cpu']}, {record['date']}, beside other work; Pss, every {EVERY_S} s."
    )


if __name__ == "__main__":
    table() if sys.argv[1:] == ["table"] else main(sys.argv[1:])
