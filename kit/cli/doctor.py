"""What this computer is, what is installed, what will not work here, and what to do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import click

from kit.cli.main import show
from kit.core.errors import DISTRIBUTION, ROOT, how_to_install
from kit.core.files import python_command
from kit.core.units import words

EXTRAS = (
    *("lab", "edge", "openvino", "executorch", "speech", "cluster", "serve", "drift"),
    *("pretrained", "docs", "test", "tpu"),
)
LESSON_BYTES = 1.5 * 2**30  # the memory of a lesson; JupyterLab's comes on top
LAB_BYTES = 0.5e9
TPU_PACKAGES = ("torch_tpu", "torch_xla")
AGAIN = "install the kit again (in a checkout: make lab)"


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, to attach to an issue.")
def doctor(as_json: bool) -> None:
    """Show what this computer is, what is installed and what will not work."""
    findings = examine()
    if as_json:
        text = json.dumps([asdict(finding) for finding in findings], indent=1)
        show(text.replace(str(Path.home()), "~"))  # the name of a person may be in it
    for finding in [] if as_json else findings:
        show(finding)
    sys.exit(any(finding.blocks for finding in findings))


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was checked, what was found, and what to do about it."""

    name: str
    found: str
    ok: bool = True
    todo: str = ""
    blocks: bool = False  # lessons cannot run because of it

    def __str__(self) -> str:
        mark = "ok " if self.ok else "NO " if self.blocks else "-- "
        return f"{mark} {self.name:<12} {self.found}{f'  → {self.todo}' if self.todo else ''}"


def examine() -> list[Finding]:
    """Ten findings, in the order in which problems would show."""
    here = (_python, _processor, _memory, _accelerator)
    installed = (_kit, _lab, _kernel, _data, _lessons, _extras)
    return [look() for look in (*here, *installed)]


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
    todo = f"a lesson needs {words(LESSON_BYTES, 'B')} besides JupyterLab: allow more memory"
    return Finding("memory", f"{words(allowed, 'B')} allowed", ok, "" if ok else todo, not ok)


def _accelerator() -> Finding:
    from kit.devices import backend_of, present_devices, tpu_chip

    best = present_devices()[0]
    if best.type != "cpu":
        backend = backend_of(best)
        memory = words(backend.memory_bytes, "B") if backend.memory_bytes else "memory unknown"
        dtypes = ", ".join(str(dtype).removeprefix("torch.") for dtype in backend.dtypes())
        found = f"{backend.name} ({best.type}), {memory}; {dtypes}; trains in {backend.precision}"
        return Finding("accelerator", found)
    chip = tpu_chip()
    there = [f"{name} {_version(name)}" for name in TPU_PACKAGES if _installed(name)]
    if chip and not there:
        todo = _to_add(["tpu"])
        return Finding("accelerator", f"{chip}, without a package for it", False, todo)
    if chip:
        todo = "see that it fits this PyTorch, and that no other program uses the TPU"
        return Finding("accelerator", f"{chip}, which {there[0]} cannot start", False, todo)
    if there:
        todo = "nothing to do without a TPU: all lessons run on the CPU"
        return Finding("accelerator", f"{there[0]} finds no TPU", False, todo)
    return Finding("accelerator", "none", False, "nothing to do: all lessons run on the CPU")


def _kit() -> Finding:
    missing = _missing(lambda line: "extra ==" not in line)
    found = f"{_version(DISTRIBUTION)}, PyTorch {_version('torch')}"
    todo = f"missing {', '.join(missing)}: {AGAIN}" if missing else ""
    return Finding("kit", found, not missing, todo, bool(missing))


def _lab() -> Finding:
    missing = _missing_of("lab")
    found = _version("jupyterlab") + (f", missing {', '.join(missing)}" if missing else "")
    return Finding("JupyterLab", found, not missing, AGAIN if missing else "", bool(missing))


def _kernel() -> Finding:
    from kit.experiments.execution import KERNEL

    try:
        from jupyter_client.kernelspec import KernelSpecManager

        argv = KernelSpecManager().get_kernel_spec(KERNEL).argv
    except Exception as error:
        return Finding("kernel", f"none: {error}", False, AGAIN, True)
    own = argv[0] in (sys.executable, "python", "python3") or argv[0].startswith(sys.prefix)
    todo = "" if own else "start JupyterLab with kit lab: it uses this environment's kernel"
    return Finding("kernel", f"{KERNEL} → {argv[0]}", own, todo)


def _data() -> Finding:
    from kit.data import load_digits

    try:
        return Finding("data", repr(load_digits()).split(";")[0])
    except Exception as error:
        return Finding("data", f"{error}", False, AGAIN, True)


def _lessons() -> Finding:
    from kit.experiments.execution import lessons
    from kit.experiments.parameters import declared

    found = lessons()
    try:
        count = sum(len(declared(path)) for path in found)
    except Exception as error:
        return Finding("lessons", f"{error}", False, f"restore the notebooks: {AGAIN}", True)
    todo = "" if found else f"the notebooks are missing: {AGAIN}"
    return Finding("lessons", f"{len(found)} with {count} parameters", bool(found), todo, not found)


def _extras() -> Finding:
    from kit.devices import tpu_chip

    # A package that only drives a TPU is missing where there is one.
    useful = [extra for extra in EXTRAS if extra != "tpu" or _installed("torch_tpu") or tpu_chip()]
    missing = [extra for extra in useful if _missing_of(extra)]
    installed = [extra for extra in useful if extra not in missing]
    found = f"installed: {', '.join(installed) or 'none'}; missing: {', '.join(missing) or 'none'}"
    return Finding("extras", found, not missing, _to_add(missing) if missing else "")


def _to_add(missing: list[str], root: Path = ROOT) -> str:
    """What adds these extras, to a checkout in the folder `root` or to an installed kit."""
    here = Path.cwd()
    checkout = (root / "pyproject.toml").is_file()
    where = root if checkout else here
    command = how_to_install(",".join(missing), root, python_command(where))
    place = "" if where == here else ", in the folder of the checkout"
    return f"to add them{place}: {command}"


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
    return [name for name in names if not _installed(name)]


def _installed(package: str) -> bool:
    return _version(package) != "not installed"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
