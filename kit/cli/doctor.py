"""What this computer is, what is installed, what will not work here, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import click

from kit.cli.main import show
from kit.core.units import words

DISTRIBUTION = "train-infer-kit"
DOORS = ("edge", "openvino", "executorch", "cluster", "test")
LESSON_BYTES = 1.5 * 2**30  # what a lesson may take, plus room for JupyterLab below
LAB_BYTES = 0.5e9


@click.command()
def doctor() -> None:
    """Say what this computer is, what is installed, and what will not work here."""
    findings = examine()
    for finding in findings:
        show(finding)
    sys.exit(any(finding.blocks for finding in findings))


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, what was found, and what to do if that is not enough."""

    name: str
    found: str
    ok: bool = True
    todo: str = ""
    blocks: bool = False  # whether a lesson cannot run because of it

    def __str__(self) -> str:
        mark = "ok " if self.ok else "NO " if self.blocks else "-- "
        return f"{mark} {self.name:<12} {self.found}{f'  → {self.todo}' if self.todo else ''}"


def examine() -> list[Finding]:
    """Ten findings, in the order in which things would fail."""
    return [look() for look in LOOKS]


def _python() -> Finding:
    found = f"{sys.version.split()[0]} in {sys.prefix}"
    ok = sys.version_info >= (3, 11)
    return Finding("Python", found, ok, "" if ok else "install Python 3.11 or newer", not ok)


def _processor() -> Finding:
    from kit.devices import machine

    m = machine()
    return Finding("processor", f"{m.cpu}: {words(m.cores_allowed)} of {m.cores_present} cores")


def _memory() -> Finding:
    from kit.devices import memory_allowed

    allowed = memory_allowed()
    ok = allowed >= LESSON_BYTES + LAB_BYTES
    todo = f"lessons need {words(LESSON_BYTES, 'B')} beside JupyterLab: allow more memory"
    return Finding("memory", f"{words(allowed, 'B')} allowed", ok, "" if ok else todo, not ok)


def _accelerator() -> Finding:
    from kit.devices import machine, present_devices

    best = present_devices()[0]
    if best.type == "cpu":
        return Finding("accelerator", "none", False, "all lessons run on the CPU; nothing to do")
    return Finding("accelerator", f"{machine().accelerator} ({best.type})")


def _kit() -> Finding:
    missing = _missing(lambda line: "extra ==" not in line)
    found = f"{_version(DISTRIBUTION)}, PyTorch {_version('torch')}"
    todo = f"missing {', '.join(missing)}: run make lab again" if missing else ""
    return Finding("kit", found, not missing, todo, bool(missing))


def _lab() -> Finding:
    return _door("lab", "JupyterLab", "jupyterlab", "run make lab again", blocks=True)


def _kernel() -> Finding:
    from kit.experiments.execution import KERNEL

    try:
        from jupyter_client.kernelspec import KernelSpecManager

        argv = KernelSpecManager().get_kernel_spec(KERNEL).argv
    except Exception as error:
        return Finding("kernel", f"none: {error}", False, "run make lab again", True)
    own = argv[0] in (sys.executable, "python", "python3") or argv[0].startswith(sys.prefix)
    todo = "" if own else "start JupyterLab with make lab, which chooses this environment's"
    return Finding("kernel", f"{KERNEL} → {argv[0]}", own, todo)


def _data() -> Finding:
    from kit.data import load_digits

    try:
        return Finding("data", repr(load_digits()).split(";")[0])
    except Exception as error:
        return Finding("data", f"{error}", False, "run make lab again", True)


def _lessons() -> Finding:
    from kit.experiments.execution import lessons
    from kit.experiments.parameters import declared

    found = lessons()
    try:
        count = sum(len(declared(path)) for path in found)
    except Exception as error:
        return Finding("lessons", f"{error}", False, "restore notebooks/ with git", True)
    todo = "" if found else "run this from a copy of the project that has notebooks/"
    return Finding("lessons", f"{len(found)} with {count} parameters", bool(found), todo, not found)


def _doors() -> Finding:
    closed = [door for door in DOORS if _missing_of(door)]
    opened = [door for door in DOORS if door not in closed]
    todo = f"pip install -c constraints.txt -e '.[{','.join(closed)}]' for the rest, if wanted"
    found = f"open: {', '.join(opened) or 'none'}; closed: {', '.join(closed) or 'none'}"
    return Finding("other doors", found, not closed, todo if closed else "")


def _door(extra: str, name: str, package: str, todo: str, blocks: bool) -> Finding:
    missing = _missing_of(extra)
    found = f"{_version(package)}" + (f", missing {', '.join(missing)}" if missing else "")
    return Finding(name, found, not missing, todo if missing else "", blocks and bool(missing))


def _missing_of(extra: str) -> list[str]:
    return _missing(lambda line: f"extra == '{extra}'" in line or f'extra == "{extra}"' in line)


def _missing(wanted: Callable[[str], bool]) -> list[str]:
    """The requirements of the kit that are not installed, among those wanted."""
    import re

    try:
        lines = [line for line in requires(DISTRIBUTION) or [] if wanted(line)]
    except PackageNotFoundError:
        return [DISTRIBUTION]
    names = [re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0] for line in lines]
    return [name for name in names if _version(name) == "not installed"]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


LOOKS: list[Callable[[], Finding]] = [
    _python,
    _processor,
    _memory,
    _accelerator,
    _kit,
    _lab,
    _kernel,
    _data,
    _lessons,
    _doors,
]
