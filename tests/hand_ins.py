"""Hand-ins of lesson 02 as a class sends them: right, wrong, damaged and malicious.

`write_class` writes one file of each kind; `EXPECTED` says what the gradebook must say about it.
"""

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kit.classroom.cells import read_notebook
from kit.classroom.handout import Handout, student_version
from kit.experiments.execution import find_notebook

LESSON = "02"
WEIGHTS = 'weights = 4 * 26_122\nanswer = {"weights": weights, "gradients": weights,\n'
RIGHT = {
    "02-account": f"""{WEIGHTS}    "optimizer": 2 * weights, "activations": 42_500}}
kit.check("02-account", answer)""",
    "02-mlp-flops": """from itertools import pairwise


def flops(batch, sizes):
    return sum(2 * batch * a * b for a, b in pairwise(sizes))


kit.check("02-mlp-flops", flops)""",
}
WRONG = {
    "02-account": RIGHT["02-account"].replace("42_500", "42_317"),
    "02-mlp-flops": RIGHT["02-mlp-flops"].replace("2 * batch", "3 * batch"),
}
CHECK = '\nkit.check("02-account", answer)'
Notebook = dict[str, Any]


def handed_out() -> Notebook:
    """The lesson as a student gets it."""
    return student_version(read_notebook(find_notebook(LESSON)), Handout(LESSON, "Measuring"))


def code(source: str) -> Notebook:
    """A code cell."""
    empty = {"outputs": [], "execution_count": None, "metadata": {}}
    return {"cell_type": "code", "source": source, **empty}


def text_of(cell: Notebook) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def solved(base: Notebook, **answers: str) -> Notebook:
    """A copy with these answers: `account=…, mlp_flops=…`; the other exercise is right."""
    given = RIGHT | {f"02-{name.replace('_', '-')}": value for name, value in answers.items()}
    made = copy.deepcopy(base)
    for cell in made["cells"]:
        for id, source in given.items():
            if cell["cell_type"] == "code" and f'"{id}"' in text_of(cell):
                cell["source"] = source
    return made


def place(made: Notebook, id: str = "02-account") -> int:
    """Where the exercise's cell stands."""
    return next(i for i, cell in enumerate(made["cells"]) if f'check("{id}"' in text_of(cell))


# --- What goes wrong without bad intent ----------------------------------------------------------


def reordered(base: Notebook) -> Notebook:
    made = solved(base, mlp_flops='kit.check("02-mlp-flops", flops)')
    made["cells"].reverse()
    made["cells"].append(code(RIGHT["02-mlp-flops"].split("\n\n\nkit")[0]))
    return made


def without_metadata(base: Notebook) -> Notebook:
    made = solved(base)
    cells = [{"cell_type": c["cell_type"], "source": text_of(c)} for c in made["cells"]]
    return {"cells": [{**c, "metadata": {}} for c in cells], "nbformat": 4, "nbformat_minor": 2}


def of_colab(base: Notebook) -> Notebook:
    made = solved(base)
    made["metadata"] = {"colab": {"provenance": []}, "kernelspec": {"name": "python3"}}
    for i, cell in enumerate(made["cells"]):
        cell["metadata"] = {"id": f"x{i}", "colab": {"base_uri": "https://localhost:8080/"}}
        cell["source"] = text_of(cell).splitlines(keepends=True)
    made["cells"].insert(1, code("!pip install train-infer-kit\n%matplotlib inline"))
    return made


def of_2013(base: Notebook) -> Notebook:
    cells = [{**c, "input": text_of(c)} for c in solved(base)["cells"]]
    for cell in cells:
        del cell["source"]
    return {"worksheets": [{"cells": cells}], "nbformat": 3, "metadata": {}}


def with_cells(base: Notebook, *sources: str, answers: dict[str, str] | None = None) -> Notebook:
    """Cells of the student's own before the first exercise."""
    made = solved(base, **(answers or {}))
    at = place(made)
    made["cells"][at:at] = [code(source) for source in sources]
    return made


def twice(base: Notebook) -> Notebook:
    """The cell was copied, and the copy is as it was handed out."""
    made = solved(base)
    made["cells"].append(code('answer = None\nkit.check("02-account", answer)'))
    return made


def of_another_version(base: Notebook) -> Notebook:
    made = solved(base)
    for cell in made["cells"]:
        cell["source"] = text_of(cell).replace('kit="0.1.0"', 'kit="0.0.3"')
    made["cells"].insert(9, code("x = kit.something_that_is_gone()"))
    return made


def with_outputs(base: Notebook, seconds: float, **answers: str) -> Notebook:
    """Records of measured times in the outputs."""
    made = solved(base, **answers)
    times = [seconds * n for n in (1.0123456789, 1.0321987654, 1.0987654321, 1.012121213)]
    data = {"application/vnd.kit+json": {"kind": "Measurement", "times_s": times}}
    said = {"application/vnd.kit+json": {"kind": "Checked", "right": True}}
    for cell in made["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"] = 1
            text = {"text/plain": ["02-account: right."], "text/html": "<b>✔ Right.</b>"}
            cell["outputs"] = [
                {"output_type": "display_data", "metadata": {}, "data": {**each, **text}}
                for each in (data, said)
            ]
    return made


# --- What somebody does on purpose ---------------------------------------------------------------

FORK_BOMB = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass" + CHECK
EVIL = {
    "endless loop": f"while True: pass{CHECK}",
    "endless output": f"while True: print('x' * 10_000){CHECK}",
    "fork bomb": FORK_BOMB,
    "10 GB": f"import numpy\nanswer = numpy.ones(10**10 // 8){CHECK}",
    "many small arrays": f"import torch\nx = []\nwhile True: x.append(torch.ones(2**22)){CHECK}",
    "shared memory": "import ctypes, mmap, os, time\nfor _ in range(4):\n    if os.fork() == 0:\n"
    "        m = mmap.mmap(-1, 600_000_000)\n"
    "        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(m)), 1, 600_000_000)\n"
    f"        time.sleep(60)\ntime.sleep(60){CHECK}",
    "a file without end": "f = open('x', 'wb')\nwhile True: f.write(bytes(2**20))" + CHECK,
    "ends itself": f"import os\nos._exit(0){CHECK}",
    "raises SystemExit": f"import sys\nsys.exit(0){CHECK}",
    "writes into every pipe": "import os\nfor n in range(3, 200):\n"
    "    try: os.write(n, b'x' * 64)\n"
    f"    except OSError: pass\nanswer = 1{CHECK}",
    "a large answer": f"answer = 'x' * 9_000_000{CHECK}",
    "a deep answer": f"answer = []\nfor _ in range(10**5): answer = [answer]{CHECK}",
    "patches the check": "kit.check = lambda *a, **k: print('02-account: right.')\nanswer = 1"
    "\nimport kit.course.exercises as e\ne.EXERCISES['02-account'] = lambda *a: None\n"
    f"e.check = e.checked_answer = lambda *a, **k: e.Checked('02-account', True){CHECK}",
    "equal to everything": "class Yes(dict):\n    __eq__ = lambda self, other: True\n"
    "    __hash__ = lambda self: 0\n    __iter__ = lambda self: iter(())\n"
    f"    __getitem__ = lambda self, key: Yes()\nanswer = Yes(){CHECK}",
    "a hostile repr": "class R:\n    def __repr__(self): raise SystemExit\n"
    f"    def __reduce__(self): return (print, ('x',))\nanswer = R(){CHECK}",
    "markup": "answer = {'<script>alert(1)</script>': '\\x1b[31m\\u202e'}" + CHECK,
}
# Ends in the list of what it was able to do; the gradebook shows the answer.
THIEF = """
import ctypes, os, signal, socket, subprocess, sys
done = []
system = ctypes.CDLL(None)
def attempt(what, call):
    try:
        if call() is not False:
            done.append(what)
    except BaseException:
        pass
attempt("read another hand-in", lambda: open({other!r}).read())
attempt("list the class", lambda: os.listdir({folder!r}))
attempt("read the solutions", lambda: open({solutions!r}).read())
attempt("write outside", lambda: open({outside!r}, "w").write("x"))
attempt("write into the kit", lambda: open(os.path.join(os.path.dirname(kit.__file__), "x"), "w"))
attempt("write into the system", lambda: open("/usr/x", "w"))
attempt("reach a port", lambda: socket.create_connection(("127.0.0.1", {port}), 2))
attempt("read the environment", lambda: "SECRET_OF_THE_TEACHER" in str(
    [dict(os.environ), open("/proc/self/environ").read()]))
attempt("see other processes", lambda: [n for n in os.listdir("/proc") if n.isdigit()] != ["1"])
attempt("signal the parent", lambda: os.kill(os.getppid(), 0) if os.getppid() else False)
attempt("become root", lambda: os.setuid(0) or os.getuid() == 0)
attempt("read the password file", lambda: open("/etc/shadow").read())
attempt("trace", lambda: open("/proc/1/mem", "r+b") if os.getpid() != 1 else False)
attempt("memory that no process maps", lambda: os.memfd_create("x"))
attempt("memory of System V", lambda: system.shmget(0, ctypes.c_size_t(4096), 0o1600) >= 0)
attempt("a namespace of its own", lambda: system.unshare(0x10000000) == 0)
attempt("a call by another name", lambda: system.syscall(0x40000000 + 39) >= 0)
attempt("the host of a virtual machine", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("packets", lambda: socket.socket(16, socket.SOCK_RAW))
attempt("100,000 files", lambda: [open(f"f{{n}}", "w").close() for n in range(100_000)])
answer = done
kit.check("02-account", answer)
"""
KILLS = (
    "import os, signal\nfor pid in (os.getppid(), 0, -1):\n    try: os.kill(pid, signal.SIGTERM)"
)
KILLS += "\n    except OSError: pass\n" + RIGHT["02-account"]


def kinds(base: Notebook) -> dict[str, tuple[Any, str, int]]:
    """Kind -> (what is written, the status that it must get, right answers)."""
    account, build = WRONG["02-account"], WRONG["02-mlp-flops"]
    made: dict[str, tuple[Any, str, int]] = {
        "both right": (solved(base), "graded", 2),
        "one wrong": (solved(base, mlp_flops=build), "graded", 1),
        "both wrong": (solved(base, account=account, mlp_flops=build), "graded", 0),
        "untouched": (base, "untouched", 0),
        "another order": (reordered(base), "graded", 2),
        "no metadata": (without_metadata(base), "graded", 2),
        "of Colab": (of_colab(base), "graded", 2),
        "of 2013": (of_2013(base), "graded", 2),
        "another kit": (of_another_version(base), "graded", 2),
        "a copied cell": (twice(base), "graded", 2),
        "a cell that is no Python": (with_cells(base, "what is this?", "def f(:"), "graded", 2),
        "a loop elsewhere": (with_cells(base, "while True: pass"), "graded", 2),
        "an error elsewhere": (with_cells(base, "1 / 0"), "graded", 2),
        "two cells for an answer": (
            with_cells(
                base,
                "w = 104_488",
                answers={"account": RIGHT["02-account"].replace("4 * 26_122", "w")},
            ),
            "graded",
            2,
        ),
        "built in steps": (
            with_cells(
                base,
                "answer = {}",
                "answer['weights'] = answer['gradients'] = 104_488",
                "answer.update(optimizer=208_976, activations=42_500)",
                answers={"account": CHECK.strip()},
            ),
            "graded",
            2,
        ),
        "magics": (
            solved(base, account="%%time\n%precision 3\n" + RIGHT["02-account"]),
            "graded",
            2,
        ),
        "half a cell": (
            solved(base, mlp_flops="def flops(batch, sizes:\n  kit.check("),
            "graded",
            1,
        ),
        "an error first": (solved(base, account="1 / 0\n" + RIGHT["02-account"]), "graded", 1),
        "an unknown name": (solved(base, account="answer = nobody" + CHECK), "graded", 1),
        "the call is gone": (solved(base, account="answer = 1"), "graded", 1),
        "forged outputs": (
            with_outputs(base, 3.1e-4, account=account, mlp_flops=build),
            "graded",
            0,
        ),
        "empty": (b"", "not graded", 0),
        "half a file": (json.dumps(base)[:20_000].encode(), "not graded", 0),
        "a list": (b"[1, 2]", "not graded", 0),
        "deep JSON": (b"[" * 200_000, "not graded", 0),
        "no cells": ({"cells": [], "metadata": {}}, "not graded", 0),
        "foreign": ({"cells": [code("import pandas")], "metadata": {}}, "not graded", 0),
        "cells of nonsense": (
            {"cells": [1, None, {"cell_type": 3}], "metadata": 4},
            "not graded",
            0,
        ),
        "huge": (b'{"cells": ["' + b"x" * 21_000_000 + b'"]}', "not graded", 0),
        "binary": (os.urandom(5_000), "not graded", 0),
    }
    evil = {name: (solved(base, account=source), "graded", 1) for name, source in EVIL.items()}
    return made | evil | {"kills": (solved(base, account=KILLS), "graded", 2)}


def write_class(folder: Path, write: Callable[[str], str] = lambda kind: f"{kind}/{kind}.ipynb"):
    """One hand-in of each kind; returns (status, right answers) by kind."""
    expected = {}
    for kind, (content, status, right) in kinds(handed_out()).items():
        path = folder / write(kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(data)
        expected[kind] = (status, right)
    return expected
