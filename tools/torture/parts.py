"""Parts of the kit whose work ends: what each keeps, how to start it, how it goes on.

`finished` is the promise. It names what nobody may lose, each with a number that must not become
smaller or a text that must not change. `half` names what is half there. `complete` says what is
wrong after the next start has ended.
"""

import hashlib
import json
import random
import sys
from pathlib import Path
from typing import ClassVar

from torture.children import ROOT, Child, Warm
from torture.places import Place


class Missed(Exception):
    """The work was over before the blow."""


LIMIT_S = 120.0  # for a command to do what takes it seconds
PYTHON_CELL = {"cell_type": "code", "outputs": [], "execution_count": None}


class Part:
    """A part of the kit in a place."""

    name = ""
    network = ""  # what it talks to, or why no network can stall
    grace_s = 20.0  # for processes of its own to notice that the command has gone
    computes = False  # whether it may use an accelerator
    span_s = 0.5  # the blow comes this long after the first results, at most
    alone = True  # whether two at once must leave the results of one

    def __init__(self, place: Place, warm: Warm, rng: random.Random):
        self.place, self.warm, self.rng = place, warm, rng

    def prepare(self) -> None:
        """Write what the command reads."""

    def words(self) -> list[str]:
        """The command."""
        raise NotImplementedError

    def start(self) -> Child:
        """Start the command."""
        return self.warm.start(self.place, self.words())

    def begun(self) -> bool:
        """Whether it has done something that it must not lose."""
        return bool(self.finished())

    def finished(self) -> dict[str, object]:
        """Name -> a number that never becomes smaller, or a text that never changes."""
        return {}

    def half(self) -> list[str]:
        """What is half there."""
        return []

    def complete(self) -> list[str]:
        """What is wrong after the command has done its work."""
        return []

    def drafts(self) -> list[str]:
        """Files that were being written, and that nobody will finish."""
        return [f"{p.name} is left" for p in sorted(self.place.out.rglob("*.part"))]

    def settle(self, child: Child) -> list[str]:
        """Wait for its end; what is wrong with it."""
        child.wait(LIMIT_S)
        problem = child.message_problem()
        return [problem] if problem else []

    def starts_read_only(self, child: Child) -> list[str]:
        """What is wrong with a start where nothing can be kept; nothing if it says why not."""
        child.wait(60)
        problem = child.message_problem() or ("" if child.code() else "it starts all the same")
        return [problem] if problem else []

    def go_on(self) -> tuple[list[str], str]:
        """Start the same command again: what is wrong at its end, and what it said."""
        child = self.start()
        if (code := child.wait(LIMIT_S)) != 0:
            return [f"the next start ended with {code}: {child.last_line()[:300]}"], ""
        return self.complete() + self.drafts(), child.last_line()

    def victims(self, child: Child) -> list[int]:
        """The processes of which one is killed."""
        return [child.pid]

    def close(self) -> None:
        """End what belongs to the part, and is not the command."""


# --- Training and checkpoints --------------------------------------------------------------------

WORKLOAD = """
import time, torch
from torch.nn.functional import cross_entropy
from kit.workloads import from_data

x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
y = (x[:, 0] > 0).long()

def loss(outputs, targets):
    time.sleep(0.02)
    return cross_entropy(outputs, targets)

def work():
    layers = torch.nn.Linear(8, 64), torch.nn.Dropout(0.1), torch.nn.Linear(64, 2)
    return from_data((x, y), (x, y), (x, y), model=lambda: torch.nn.Sequential(*layers), loss=loss)
"""
STEPS = 60


class Training(Part):
    """`kit train` with a checkpoint: it ends with the losses of a training that nothing stopped."""

    name = "training"
    computes = True
    expected: ClassVar[dict[str, list[float]]] = {}  # by a training in peace; for each Python

    def prepare(self):
        self.file = self.place.home / "mine.py"
        self.file.write_text(WORKLOAD)
        self.checkpoint, self.history = (
            self.place.out / "net" / name for name in ("model.kit", "history.json")
        )
        if self.warm.python not in self.expected:
            self._train_in_peace()

    def _train_in_peace(self):
        history = self.place.home / "peace.json"
        child = self.warm.start(self.place, [*self._words(), "--history", str(history)])
        assert child.wait(LIMIT_S) == 0, child.said
        self.expected[self.warm.python] = json.loads(history.read_text())["losses"]

    def _words(self):
        every = ["--steps", str(STEPS), "--evaluate-every", "4", "--device", "cpu"]
        return ["kit", "train", f"{self.file}:work", *every]

    def words(self):
        files = ["--checkpoint", str(self.checkpoint), "--history", str(self.history)]
        return [*self._words(), *files]

    def finished(self):
        steps = steps_in(self.checkpoint)
        return {"steps in the checkpoint": steps} if steps else {}

    def half(self):
        there = self.checkpoint.exists() and steps_in(self.checkpoint) is None
        return ["the checkpoint cannot be read"] * there

    def complete(self):
        losses = json.loads(self.history.read_text())["losses"]
        same = losses == self.expected[self.warm.python]
        return [] if same else [f"{len(losses)} losses are not those of a training in peace"]


def steps_in(path: Path) -> int | None:
    """The steps that a checkpoint holds, by a reader that is not the kit's; None: unreadable."""
    try:
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:end])
        about = json.loads(header["__metadata__"]["kit"])
        last = max(v["data_offsets"][1] for k, v in header.items() if k != "__metadata__")
        whole = len(data) == end + last
        return len(dict(about["state"]["pairs"])["losses"]) if whole else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


SAVER = """
import sys, torch, kit
from pathlib import Path
path, log, most = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
model = kit.models.MLP(kit.models.MLPConfig(hidden=700, layers=2))
weights = list(model.parameters())
if path.exists():
    weights = list(kit.load(path, model=model).model.parameters())
n = int(weights[0].flatten()[0])
assert all((each == n).all() for each in weights) or not path.exists(), "weights of two saves"
log.open("a").write(f"found {n if path.exists() else 0}\\n")
for n in range(n + 1 if path.exists() else 1, most + 1):
    with torch.no_grad():
        for each in weights:
            each.fill_(n)
    try:
        kit.save(path, model)
    except OSError as error:
        sys.exit(f"Error: {error}")
    log.open("a").write(f"saved {n}\\n")
"""


class Checkpoints(Part):
    """`kit.save` again and again in one file: it always holds one save, and never an older one."""

    name = "checkpoints"
    alone = False  # the last save counts, of whichever process
    most = 40

    def prepare(self):
        self.script, self.log = self.place.home / "saver.py", self.place.home / "log"
        self.script.write_text(SAVER)
        self.path = self.place.out / "a.kit"

    def words(self):
        return [str(self.script), str(self.path), str(self.log), str(self.most)]

    def _numbers(self, word):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [int(line.split()[1]) for line in lines if line.startswith(f"{word} ")]

    def finished(self):
        saved = self._numbers("saved")
        return {"the last save": max(saved)} if saved else {}

    def go_on(self):
        saved = max(self._numbers("saved"), default=0)
        problems, said = super().go_on()
        found = self._numbers("found")[-1]
        if not problems and self.alone_now and found < saved:
            problems.append(f"save {saved} had ended, and the file held {found}")
        return problems, said

    alone_now = True  # until a second process saves, too

    def complete(self):
        last = self._numbers("saved")[-1:]
        return [] if last == [self.most] else [f"the last save is {last}"]


# --- Sweeps --------------------------------------------------------------------------------------

SWEPT = [
    "n: int = 2  # 1..9; a number",
    "import json, os, time\nopen({log!r}, 'a').write(f'begin {n} {os.getpid()}\\n')",
    "for _ in range(6): time.sleep(0.05)",
    "n, 'has ended'",
]


def notebook(path: Path, cells: list[str], **metadata: object) -> Path:
    """Write a notebook whose first cell holds the parameters."""
    made = [
        {**PYTHON_CELL, "id": f"c{i}", "metadata": {}, "source": s} for i, s in enumerate(cells)
    ]
    made[0]["metadata"] = {"tags": ["parameters"]}
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    about = {"kernelspec": spec, **metadata}
    whole = {"cells": made, "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(whole))
    return path


class Sweep(Part):
    """`kit sweep`: a run that has ended is neither lost nor repeated."""

    name = "sweep"
    runs = (1, 2, 3)
    span_s = 1.5

    def prepare(self):
        self.log = self.place.home / "log"
        cells = [cell.replace("{log!r}", repr(str(self.log))) for cell in SWEPT]
        self.notebook = notebook(self.place.home / "short.ipynb", cells)
        self.grid = self.place.home / "grid.yaml"
        self.grid.write_text(f"grid: {{n: {list(self.runs)}}}")
        self.folder = self.place.out / "runs"

    def words(self):
        files = [str(self.notebook), str(self.grid), "--out", str(self.folder)]
        return ["kit", "sweep", *files, "--retry"]

    def begun(self):
        return self.log.exists()

    def finished(self):
        found = (p for p in self.folder.glob("*.ipynb") if ".failed." not in p.name)
        return {path.name: digest(path) for path in found}

    def half(self):
        return [f"{p.name} is not JSON" for p in self.folder.glob("*.ipynb") if not is_json(p)]

    def complete(self):
        done = self.finished()
        right = len(done) == len(self.runs)
        text = [(self.folder / name).read_text() for name in done]
        ended = all("has ended" in each.rpartition('"source"')[0] for each in text)
        failed = [f"{p.name} is left" for p in self.folder.glob("*.failed.ipynb")]
        return failed + ([] if right and ended else [f"{len(done)} of {len(self.runs)} runs"])


def digest(path: Path) -> str:
    """A digest of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def is_json(path: Path) -> bool:
    """Whether a file holds JSON from its begin to its end."""
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


class Record(Part):
    """`kit record`: a lesson holds its earlier outputs or new ones, and its stamp is right."""

    name = "recordings"
    span_s = 1.0

    def prepare(self):
        self.log = self.place.home / "log"
        begin = f"open({str(self.log)!r}, 'a').write('begin')\nimport time"
        cells = ["n: int = 2  # 1..9; a number", begin, "time.sleep(0.5)", "print('new', n)"]
        old = {"output_type": "stream", "name": "stdout", "text": "old 2\n"}
        self.path = notebook(self.place.out / "own.ipynb", cells)
        made = json.loads(self.path.read_text())
        made["cells"][-1] |= {"outputs": [old], "execution_count": 4}
        self.path.write_text(json.dumps(made))

    def words(self):
        return ["kit", "record", str(self.path)]

    def begun(self):
        return self.log.exists()

    def _shows(self):
        return "".join(json.loads(self.path.read_text())["cells"][-1]["outputs"][0]["text"])

    def finished(self):
        return {"a recording": 1 if self.path.exists() and self._shows() else 0}

    def half(self):
        return [] if is_json(self.path) and self._shows() else ["the lesson has no outputs"]

    def complete(self):
        shows = self._shows()
        return [] if shows == "new 2\n" else [f"the lesson shows {shows!r}"]


# --- Grading -------------------------------------------------------------------------------------


class Grading(Part):
    """`kit grade`: what was judged is not judged again, and each hand-in gets its row."""

    name = "grading"
    students = 4
    span_s = 1.0

    def prepare(self):
        sys.path.insert(0, str(ROOT / "tests"))
        import hand_ins

        self.folder, self.grades = self.place.home / "class", self.place.out / "grades"
        base = hand_ins.handed_out()
        for i in range(self.students):
            account = f"import time\ntime.sleep(0.3)  # {i}\n" + hand_ins.RIGHT["02-account"]
            path = self.folder / f"student-{i}" / "02.ipynb"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(hand_ins.solved(base, account=account)))

    def words(self):
        files = [str(self.folder), "--lesson", "02", "--out", str(self.grades)]
        return ["kit", "grade", *files, "--jobs", "1"]

    def victims(self, child):
        """The command, or the process that runs other people's code, or one of its own."""
        return [each.pid for each in child.family()]

    def finished(self):
        return {path.name: digest(path) for path in (self.grades / ".judged").glob("*.json")}

    def half(self):
        found = self.grades.rglob("*.json")
        return [f"{path.name} is not JSON" for path in found if not is_json(path)]

    def complete(self):
        rows = (self.grades / "gradebook.csv").read_text("utf-8-sig").splitlines()[1:]
        right = [row for row in rows if ",graded,2," in row]
        judged = len(self.finished())
        problems = [] if judged == self.students else [f"{judged} judgements of {self.students}"]
        return problems if len(right) == self.students else [*problems, f"rows: {rows}"[:300]]
