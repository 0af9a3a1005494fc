"""Make the kit's environment from the lock, and open JupyterLab in it.

    python3 tools/environment.py lab                 what `make lab` does
    python3 tools/environment.py install lab test    the folder .venv, with these extras
    python3 tools/environment.py here lab            the same, into this Python (Binder, conda)
    python3 tools/environment.py lock                renew constraints.txt

It uses the standard library only, since nothing is installed yet when it runs. You can interrupt
and repeat it: a stamp inside .venv, written last, lists what is installed, and uv and pip keep what
they find.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
LOCK = ROOT / "constraints.txt"
STAMP = ENVIRONMENT / "kit-installed.json"
NEEDED_PYTHON = (3, 11)
# Extras of packages whose files are enough: installed without the libraries that they ask for.
FILES_ONLY = {"pretrained"}
LAB = ["lab", "edge", "serve", "drift", "pretrained"]


class Problem(Exception):
    """A problem for a person to solve: what was found, what is needed, what to do."""


# --- The Python and the folder -------------------------------------------------------------


def check_python(version):
    """Raise unless the Python `version` (a tuple) can run the kit."""
    if version >= NEEDED_PYTHON:
        return
    newer = [name for name in ("python3.13", "python3.12", "python3.11") if shutil.which(name)]
    todo = f"run `make lab PYTHON={newer[0]}`" if newer else "install a newer Python, then repeat"
    raise Problem(f"This is Python {version[0]}.{version[1]}; the kit needs 3.11 or later: {todo}.")


def python_in(folder):
    """Return the path of the Python inside the virtual environment `folder`."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_folder(folder):
    """Make the virtual environment `folder`, unless one with a working pip is there."""
    python = python_in(folder)
    if python.exists() and succeeds([python, "-m", "pip", "--version"]):
        return
    say(f"Making a virtual environment: {folder}")
    try:
        import ensurepip  # noqa: F401 - Debian and Ubuntu ship it apart from Python
    except ImportError:
        raise Problem(
            "This Python has no `ensurepip`, but a new environment needs it to get pip. "
            "On Debian or Ubuntu, run `sudo apt install python3-venv`, then repeat."
        ) from None
    # clear: an attempt may have been cut short; links: the base Python may be updated in place.
    venv.create(folder, clear=True, with_pip=True, symlinks=os.name != "nt")


# --- What is installed, what is needed -------------------------------------------------------


def wanted():
    """Return what pyproject.toml says about the package: its dependencies and extras."""
    import tomllib  # here, because an older Python must get as far as check_python

    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def digest():
    """Return a hash of everything that decides what to install."""
    text = LOCK.read_text("utf-8") + json.dumps(wanted())
    text += str(ROOT)  # a moved folder needs the kit installed again
    return hashlib.sha256(text.encode()).hexdigest()


def installed_extras():
    """Return the extras that the stamp lists; `None` if it is missing or out of date."""
    try:
        record = json.loads(STAMP.read_text())
        return set(record["extras"]) if record["digest"] == digest() else None
    except (OSError, ValueError, KeyError):  # no stamp, or an incomplete one
        return None


def ensure(extras):
    """Make .venv hold the kit with at least these extras; return its Python."""
    check_python(sys.version_info[:2])
    python, there = python_in(ENVIRONMENT), installed_extras()
    if there is not None and there >= set(extras) and python.exists():
        say(f"The environment is ready: {ENVIRONMENT}")
        return python
    make_folder(ENVIRONMENT)
    extras = sorted(set(extras) | (there or set()))
    STAMP.unlink(missing_ok=True)
    install(python, extras)
    STAMP.write_text(json.dumps({"digest": digest(), "extras": extras}))
    return python


# --- Installing --------------------------------------------------------------------------------


def install(python, extras):
    """Install the locked torch for this computer, then the kit and all other packages."""
    pinned = re.search(r"^torch==([\w.]+)", LOCK.read_text(), re.MULTILINE).group(1)
    pip(python, "--quiet", "uv")
    if installed_version(python, "torch") == pinned:
        say(f"torch {pinned} is already installed")
    else:
        install_torch(python, pinned)
    say(f"Installing the kit with {', '.join(extras) or 'no extras'}, at the locked versions")
    for extra in sorted(FILES_ONLY & set(extras)):
        uv_or_pip(python, "--no-deps", *wanted()["optional-dependencies"][extra])
    extras = [extra for extra in extras if extra not in FILES_ONLY]
    uv_or_pip(python, "--editable", f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT))


def install_torch(python, pinned):
    """Install PyTorch's own build for this computer; if that fails, the build that pip finds."""
    backend = torch_backend()
    if backend:
        # pip sees one build of each version: on Linux, the one for CUDA. uv knows where PyTorch
        # keeps the others.
        say(f"Looking for PyTorch's own build of torch {pinned} (backend: {backend})")
        command = uv_command(python, "--torch-backend", backend, f"torch=={pinned}")
        if succeeds([*command, "--dry-run"]) and subprocess.call(command, env=uv_settings()) == 0:
            return
        say("PyTorch's own build cannot be reached: installing the build that pip finds")
        if backend == "cpu":
            say("(if that is the CUDA build, it works without a GPU but takes some gigabytes)")
    say(f"Installing torch {pinned}")
    uv_or_pip(python, "torch")


def torch_backend():
    """Return the build for uv: "cpu", "auto" (fits the GPU), or None if pip's build is right."""
    if sys.platform == "darwin":
        return None
    if shutil.which("nvidia-smi") and succeeds(["nvidia-smi"]):
        return "auto"
    return "cpu" if sys.platform == "linux" else None


def uv_command(python, *arguments):
    """Return the command by which uv installs under the lock."""
    target = ["--python", str(python), "--constraint", str(LOCK)]
    return [str(python), "-m", "uv", "pip", "install", *target, *arguments]


def uv_settings():
    """Return an environment in which uv gives up quickly if it cannot connect."""
    return {**os.environ, "UV_HTTP_CONNECT_TIMEOUT": "5", "UV_HTTP_RETRIES": "1"}


# uv does not read pip's settings, so these are passed on. Where pip has others, pip installs.
PIP_TO_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}
ONLY_PIP_NEEDS = {"cache-dir", "default-timeout", "disable-pip-version-check", "retries", "timeout"}


def pip_settings_for_uv(listed):
    """Translate what `pip config list` prints; `None` if uv would miss something."""
    found = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        name, values = name.rpartition(".")[2], ast.literal_eval(value).split()
        if name in PIP_TO_UV:  # what the environment says comes first, and counts
            between = "," if name == "find-links" else " "
            found.setdefault(PIP_TO_UV[name], between.join(values))
        elif name not in ONLY_PIP_NEEDS:
            return None
    return {**found, "UV_INDEX_STRATEGY": "unsafe-best-match"}  # as pip: no index comes first


def uv_or_pip(python, *arguments):
    """Install by uv, which fetches many packages at a time; by pip if uv does not succeed."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "config", "list"], capture_output=True, text=True
    )
    settings = pip_settings_for_uv(listed.stdout)
    if settings is not None:
        command = uv_command(python, *arguments)
        if subprocess.call(command, env={**uv_settings(), **settings}) == 0:
            return
        say("uv did not succeed (see above): trying with pip")
    pip(python, *arguments)


def pip(python, *arguments):
    """Run `pip install` under the lock; Python compiles each file when it is first imported."""
    command = [str(python), "-m", "pip", "install", "--no-compile"]
    command += ["--constraint", str(LOCK), *arguments]
    if subprocess.call(command) != 0:
        raise Problem(
            f"pip failed (its messages are above): {' '.join(command)}\n"
            "Packages that were installed are kept. Solve the problem that pip names, then run the "
            "same command again."
        )


def installed_version(python, package):
    """Return the version of `package` for `python` without its build (+cpu, +cu130), or None."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    return answer.stdout.strip().split("+")[0] or None


# --- JupyterLab --------------------------------------------------------------------------------


def open_lab(python, *options):
    """Become `kit lab`, so that Ctrl-C reaches JupyterLab alone."""
    command = [str(python), "-m", "kit", "lab", *options]
    if os.name == "nt":  # there, exec would return to the prompt at once
        sys.exit(subprocess.call(command))
    os.execv(command[0], command)


# --- The lock ----------------------------------------------------------------------------------

LOCK_HEAD = """\
# The lock: the versions that the tests ran with, for every system and Python >= 3.11. `make lock`
# writes it; the version of torch is chosen in pyproject.toml, under [tool.uv]. CUDA's packages are
# left out: each build of torch (CPU, CUDA) names the ones that it needs.
"""


def renew_lock():
    """Write constraints.txt with the newest versions that fit together."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--all-extras"]
    command += ["--python-version", "3.11", "--no-annotate", "--no-header", "--quiet"]
    answer = subprocess.run(
        [*command, "pyproject.toml"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    if answer.returncode != 0:
        raise Problem("uv found no versions that fit together (see above); the lock is unchanged.")
    lines = [line for line in answer.stdout.splitlines() if not re.match(r"(nvidia|cuda)-", line)]
    LOCK.write_text(LOCK_HEAD + "\n".join(lines) + "\n")
    say(f"{LOCK.name}: {len(lines)} packages; now run `make test`")


# --- The command line --------------------------------------------------------------------------


def say(line):
    """Print a line and flush it, so that it also appears at once in a file."""
    print(line, flush=True)


def succeeds(command):
    """Return whether a command succeeds, without showing its output."""
    done = subprocess.run([str(part) for part in command], capture_output=True, env=uv_settings())
    return done.returncode == 0


def main():
    """Do what the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("lab", help="make .venv if it is missing, then run `kit lab`")
    for name, text in (("install", "make .venv"), ("here", "install into this Python")):
        command = commands.add_parser(name, help=f"{text}, with these extras")
        command.add_argument("extras", nargs="*")
    commands.add_parser("lock", help="renew constraints.txt")
    arguments, more = parser.parse_known_args()
    if more and arguments.command != "lab":
        parser.error(f"unknown arguments: {' '.join(more)}")

    if arguments.command == "lab":
        open_lab(ensure(LAB), *more)
    elif arguments.command == "install":
        ensure(arguments.extras)
    elif arguments.command == "here":
        check_python(sys.version_info[:2])
        install(Path(sys.executable), arguments.extras)
    else:
        renew_lock()


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(f"\n{problem}")
    except KeyboardInterrupt:
        sys.exit("\nStopped. Run the same command again to continue.")
