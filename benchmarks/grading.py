"""How long `kit grade` takes for a large class: 300 hand-ins of lesson 02, 46 kinds, none the same.

python benchmarks/grading.py
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from keeping import keep

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import hand_ins

from kit.classroom.grading import grade

N = 300


def write_class(folder):
    """Each kind in turn, no two files the same; what to expect of each student."""
    kinds = list(hand_ins.kinds(hand_ins.handed_out()).items())
    expected = {}
    for i in range(N):
        kind, (content, status, right) = kinds[i % len(kinds)]
        student = f"{i:03} {kind}"
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        if data:  # an empty file stays empty
            data += b" " * (i + 1)
        (folder / student).mkdir()
        (folder / student / "02.ipynb").write_bytes(data)
        expected[student] = (status, right)
    return len(kinds), expected


def main():
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name) / "class", Path(name) / "grades"
        folder.mkdir()
        kinds, expected = write_class(folder)
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            book = grade(folder, "02", out, jobs=2)
            seconds.append(time.perf_counter() - began)
    found = {row.student: (row.status, row.right) for row in book.rows}
    wrong = sorted(student for student in expected if found.get(student) != expected[student])
    keep(
        "grading",
        hand_ins=N,
        kinds=kinds,
        limit_s=20.0,
        first_run_s=seconds[0],
        second_run_s=seconds[1],
        rows=len(found),
        not_as_expected=wrong,
    )


if __name__ == "__main__":
    sys.exit(main())
