"""Where a benchmark's figures go: results/<name>.json, with the machine, versions and commit.

    python benchmarks/keeping.py    # which commit made each result

keep             the figures of this machine
keep_of_gpu      those of its GPU, whose name is part of the file's
Parts            the parts of a long run, kept as they are measured: a run that ended early goes on
keep_parts       a run of such parts, each a function that returns figures
origins          a table of all results: the commit that made each, and if its script has changed
sizes_asked      the command line of the scripts that measure GPTs of several sizes on a GPU
"""

import argparse
import ast
import hashlib
import json
import re
import subprocess
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import date
from pathlib import Path

import torch

import kit
from kit.core.files import atomic_write

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results"
PRINTING = ("table", "tables", "markdown", "main", "short")  # functions that measure nothing


def keep(name, **figures):
    """Write the figures (estimates as their dicts) and print them."""
    record = {
        "date": date.today().isoformat(),
        "commit": commit(),
        "script": fingerprint(script_of(name).read_text(encoding="utf-8")),
        "machine": asdict(kit.machine()),
        **plain(figures),
    }
    write(RESULTS / f"{name}.json", record)
    for key, value in figures.items():
        print(f"{key}: {value}")


def plain(value):
    """The figures as JSON has them: estimates as their dicts."""
    if isinstance(value, kit.statistics.Estimate):
        return value.to_dict()
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def write(path, record):
    """Write the record as JSON; a full disk or a kill leaves the file as it was."""
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class Parts:
    """The parts of a long run, each kept as soon as it is measured.

    Start the script again after it ended early: the parts that were kept are not measured again.
    They are forgotten if the script or the conditions have changed, or when the run is complete.
    """

    def __init__(self, name, **conditions):
        self.path = RESULTS / "unfinished" / f"{name}.json"
        self.of = plain(conditions) | {"script": fingerprint(script_of(name).read_text("utf-8"))}
        self.kept = {}
        with suppress(OSError, ValueError):
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            self.kept = stored["parts"] if stored["of"] == self.of else {}

    def once(self, part, measure):
        """The part as it was kept, or measured now and kept: plain JSON, estimates as dicts."""
        if part not in self.kept:
            self.kept[part] = plain(measure())
            write(self.path, {"of": self.of, "parts": self.kept})
        return self.kept[part]

    @contextmanager
    def each_call(self, script, **functions):
        """Meanwhile, each call of these functions of a script (a module) is a part.

        `functions` has, by name, what makes a part's name of the arguments. Calls that are named
        alike are counted: the third of them is the third one that was kept.
        """
        before, calls = {name: getattr(script, name) for name in functions}, Counter()

        def kept(name):
            def call(*given):
                part = f"{name} {functions[name](*given)}"
                calls[part] += 1
                return self.once(f"{part} {calls[part]}", lambda: before[name](*given))

            return call

        for name in functions:
            setattr(script, name, kept(name))
        try:
            yield
        finally:
            for name, function in before.items():
                setattr(script, name, function)

    def complete(self):
        """Forget the parts: the result is kept."""
        self.path.unlink(missing_ok=True)


def keep_parts(name, parts, **figures):
    """Measure each part, kept as soon as it is measured; then write all figures together.

    `parts` are functions by name. `figures` are those that need no measurement; another value of
    one of them begins a new run.
    """
    run, found = Parts(name, machine=kit.machine().cpu, **figures), {}
    for part, measure in parts.items():
        found |= run.once(part, measure)
    keep(name, **found, **figures)
    run.complete()


# --- Which code made a result --------------------------------------------------------------------


def script_of(name):
    """The script whose name begins the result's: "serving_steady" is by serving.py."""
    made = [path for path in FOLDER.glob("*.py") if f"{name}_".startswith(f"{path.stem}_")]
    return max(made, key=lambda path: len(path.stem))


def commit():
    """The commit that is checked out; "+" after it: files had changed since."""
    with suppress(OSError, subprocess.CalledProcessError):
        ask = ["git", "-C", str(FOLDER), "describe", "--always", "--exclude", "*", "--dirty=+"]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    return None


def fingerprint(source):
    """A hash of what a script measures.

    Imports, comments, docstrings and line breaks do not count, nor do its tables and command line.
    """
    page = ast.parse(source)
    page.body = [node for node in page.body if not isinstance(node, ast.If)]  # its command line
    return hashlib.sha256(repr(measuring(page)).encode()).hexdigest()[:16]


def measuring(code):
    """A syntax tree as nested lists, without what measures nothing.

    `ast.dump` would write the same tree in other ways in other versions of Python.
    """
    if isinstance(code, list):
        return [measuring(node) for node in code if not measures_nothing(node)]
    if not isinstance(code, ast.AST):
        return code
    fields = [(name, value) for name, value in ast.iter_fields(code) if value not in (None, [])]
    return [type(code).__name__, *((name, measuring(value)) for name, value in fields)]


def measures_nothing(node):
    """Whether it is an import, a docstring, or a function that only shows figures."""
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return (
        docstring
        or isinstance(node, ast.Import | ast.ImportFrom)
        or getattr(node, "name", None) in PRINTING
    )


def origins():
    """A table in Markdown: the day and commit of each result, and whether its script changed."""
    lines = ["| result | measured | commit | its script since |", "| --- " * 4 + "|"]
    for path in sorted(RESULTS.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        now = fingerprint(script_of(path.stem).read_text(encoding="utf-8"))
        since = "the same" if record.get("script") == now else "**changed**"
        lines.append(f"| {path.stem} | {record['date']} | {record.get('commit')} | {since} |")
    return "\n".join(lines)


def keep_of_gpu(stem, **figures):
    """Write and print the figures of the GPU that is here."""
    name = torch.cuda.get_device_name()
    told = {"gpu": name, "cuda": torch.version.cuda, **figures}
    keep(f"{stem}_" + re.sub(r"[^a-z0-9]+", "-", name.lower()), **told)


def sizes_asked(about, sizes):
    """(names of the sizes to measure, whether only to try it small), from the command line."""
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--size", choices=sizes, action="append", help="may be given again")
    parser.add_argument("--small", action="store_true", help="tiny, on the CPU; keeps nothing")
    asked = parser.parse_args()
    return asked.size or list(sizes), asked.small


if __name__ == "__main__":
    print(origins())
