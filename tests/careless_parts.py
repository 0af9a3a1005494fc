"""Parts that lose something, leave something, or give up with a traceback: torture must say so.

Run as a program, it is `python tools/torture` with these parts beside those of the kit.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT)]

from torture import cells  # noqa: E402
from torture.__main__ import main  # noqa: E402
from torture.parts import Part  # noqa: E402

WRITER = """
import subprocess, sys, time
from pathlib import Path
path, log, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if kind == "leaves a process":
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
for n in range(4):
    with path.open("w") as file:
        file.write("begin" * 20_000 * (n + 1))  # more each time: a full disk is met
        file.flush()
        time.sleep(1.0 if n else 0.0)
        file.write(f"end {n}")
    log.open("a").write(f"{n}\\n")
"""


class Careless(Part):
    """Writes its only file in place, so a blow leaves half of it."""

    name = "writes in place"
    grace_s, span_s = 0.5, 0.1

    def prepare(self):
        self.script = self.place.home / "writer.py"
        self.script.write_text(WRITER)
        self.path, self.log = self.place.out / "file", self.place.home / "log"

    def words(self):
        return [str(self.script), str(self.path), str(self.log), self.name]

    def begun(self):
        """One file was complete, and the next one is half there for a second."""
        return self.log.exists() and not self.finished()

    def finished(self):
        there = self.path.exists() and "end" in self.path.read_text()
        return {"the file": 1} if there else {}

    def half(self):
        return [] if self.finished() else ["half a file"]


class LeavesAProcess(Careless):
    """Starts a program that nobody ends."""

    name = "leaves a process"


if __name__ == "__main__":
    cells.PARTS += [Careless, LeavesAProcess]
    cells.NAMES |= {Careless.name, LeavesAProcess.name}
    sys.exit(main())
