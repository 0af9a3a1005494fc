"""The environment: made once from the lock, repaired when it is half made, opened without a box."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import tomllib
import urllib.error
import urllib.request
from importlib.metadata import distributions

import environment
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kit.cli.lab import lab_command, lab_environment
from kit.core.files import NOTEBOOKS

ROOT = environment.ROOT


@pytest.fixture
def project_environment():
    """Skip where the tests run in another environment: making .venv takes minutes."""
    if environment.python_in(environment.ENVIRONMENT).parent.parent.samefile(sys.prefix):
        return
    pytest.skip(f"runs in {environment.ENVIRONMENT}; this is {sys.prefix}")


def locked():
    """Return the lock's lines as requirements."""
    lines = environment.LOCK.read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


# --- The lock ----------------------------------------------------------------------------------


def test_the_lock_pins_names_to_versions_and_nothing_else():
    for pin in locked():
        assert [clause.operator for clause in pin.specifier] == ["=="], pin
        assert not pin.url and not pin.extras, pin  # pip refuses extras in constraints


def test_the_lock_holds_what_pyproject_asks_for_and_the_chosen_torch():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = settings["project"]["optional-dependencies"].values()
    asked = {Requirement(text).name for text in settings["project"]["dependencies"]}
    asked |= {Requirement(text).name for group in extras for text in group}
    assert asked <= {pin.name for pin in locked()}
    assert set(settings["tool"]["uv"]["constraint-dependencies"]) <= {str(pin) for pin in locked()}


def test_what_is_installed_is_what_the_lock_says():
    pins = {
        canonicalize_name(pin.name): pin.specifier
        for pin in locked()
        if pin.marker is None or pin.marker.evaluate()
    }
    here = [sysconfig.get_path("purelib")]  # sys.path may hold what other packages carry along
    other = {
        f"{each.name} {each.version}, not {pins[canonicalize_name(each.name)]}"
        for each in distributions(path=here)
        if each.version not in pins.get(canonicalize_name(each.name), [each.version])
    }
    assert not other, "run `make test`, which installs the locked versions"


# --- Made once, repaired, refused ----------------------------------------------------------------


@pytest.mark.alone
def test_a_second_run_installs_nothing(project_environment):
    extras = environment.installed_extras()
    assert extras, "the environment is older than the lock or pyproject.toml: run `make test`"
    stamped = environment.STAMP.stat().st_mtime_ns
    start = time.perf_counter()
    run = subprocess.run(
        [sys.executable, ROOT / "tools/environment.py", "install", *extras],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert time.perf_counter() - start < 2  # seconds; about 0.3 on two idle cores
    assert run.stdout.splitlines() == [f"The environment is ready: {environment.ENVIRONMENT}"]
    assert environment.STAMP.stat().st_mtime_ns == stamped


def test_another_lock_or_half_a_stamp_counts_as_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "STAMP", tmp_path / "stamp.json")
    assert environment.installed_extras() is None
    record = json.dumps({"digest": environment.digest(), "extras": ["lab"]})
    environment.STAMP.write_text(record[:-9])
    assert environment.installed_extras() is None
    environment.STAMP.write_text(record)
    assert environment.installed_extras() == {"lab"}

    altered = tmp_path / "constraints.txt"
    altered.write_text(environment.LOCK.read_text().replace("tqdm==", "tqdm==0."))
    monkeypatch.setattr(environment, "LOCK", altered)
    assert environment.installed_extras() is None


def test_a_cut_short_installation_is_taken_up_again(project_environment, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "STAMP", tmp_path / "stamp.json")  # as if never written
    monkeypatch.setenv("PIP_DRY_RUN", "1")  # pip resolves, and leaves this environment as it is
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")  # pip's way to say: yes, no isolation

    monkeypatch.setenv("PIP_REQUIREMENT", str(tmp_path / "missing.txt"))
    with pytest.raises(environment.Problem, match="run the same command again"):
        environment.ensure(["lab"])
    assert not environment.STAMP.exists()

    monkeypatch.delenv("PIP_REQUIREMENT")
    environment.ensure(["lab"])
    assert environment.installed_extras() == {"lab"}


def test_uv_gets_pips_settings_or_leaves_it_to_pip():
    listed = [
        ":env:.find-links='/one /two'",
        r"global.extra-index-url='\nfile:///a\nfile:///b'",
        "global.find-links='/three'",
        "global.timeout='60'",
    ]
    assert environment.pip_settings_for_uv("\n".join(listed)) == {
        "UV_FIND_LINKS": "/one,/two",
        "UV_INDEX": "file:///a file:///b",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert environment.pip_settings_for_uv("global.require-hashes='true'") is None


def test_what_uv_refuses_pip_installs(monkeypatch, capfd):
    monkeypatch.setattr(environment, "pip_settings_for_uv", lambda listed: {})
    only_pip = "--no-input"  # uv has no such option
    environment.uv_or_pip(sys.executable, only_pip, "--dry-run", "--no-index", "pip")
    shown = capfd.readouterr()
    assert "uv did not succeed" in shown.out and "already satisfied: pip" in shown.out


def test_a_half_made_folder_is_made_again_and_a_whole_one_kept(tmp_path):
    folder = tmp_path / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "leftover").touch()
    environment.make_folder(folder)
    assert not (folder / "leftover").exists()
    assert environment.succeeds([environment.python_in(folder), "-m", "pip", "--version"])

    (folder / "kept").touch()
    environment.make_folder(folder)
    assert (folder / "kept").exists()


def test_an_old_python_is_told_what_to_do():
    environment.check_python((3, 11))
    with pytest.raises(environment.Problem) as told:
        environment.check_python((3, 9))
    given, needed = "This is Python 3.9", "needs 3.11 or later"
    assert given in str(told.value) and needed in str(told.value)
    assert "make lab PYTHON=" in str(told.value) or "install a newer Python" in str(told.value)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pip's own build is the right one")
@pytest.mark.parametrize(("exit_code", "backend"), [(0, "auto"), (9, "cpu")])
def test_torch_is_chosen_by_whether_the_driver_answers(tmp_path, monkeypatch, exit_code, backend):
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert environment.torch_backend() == backend


# --- The commands and the door -------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_make_without_a_target_lists_them_all():
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    text = (ROOT / "Makefile").read_text()
    targets = next(line for line in text.splitlines() if line.startswith(".PHONY:")).split()[1:]
    assert [line.split()[1] for line in shown.splitlines()] == targets
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, check=True)


def test_jupyterlab_takes_our_kernel_and_asks_nothing(project_environment, tmp_path):
    decoy = tmp_path / ".local/share/jupyter/kernels/python3/kernel.json"
    decoy.parent.mkdir(parents=True)
    decoy.write_text(json.dumps({"argv": ["false"], "display_name": "not ours"}))
    command = lab_command(ROOT, NOTEBOOKS, ["--no-browser", "--IdentityProvider.token=test"])
    settings = {**lab_environment(), "HOME": str(tmp_path)}
    server = subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True)
    try:
        address = next(line.split()[-1] for line in server.stderr if "http://127.0.0.1" in line)
        base = address.partition("/lab")[0]
        kernels = fetch(f"{base}/api/kernelspecs")
        news = fetch(f"{base}/lab/api/settings/@jupyterlab/apputils-extension:notification")
    finally:
        server.terminate()
        server.communicate(timeout=20)
    assert kernels["default"] == "python3"
    assert kernels["kernelspecs"]["python3"]["spec"]["display_name"] == "Python 3 (ipykernel)"
    assert news["schema"]["properties"]["fetchNews"]["default"] == "false"


def fetch(address, patience_s=20):
    """Return the JSON at `address`; the server names it a moment before it listens there."""
    request = urllib.request.Request(address, headers={"Authorization": "token test"})
    end = time.monotonic() + patience_s
    while True:
        try:
            with urllib.request.urlopen(request, timeout=patience_s) as answer:
                return json.load(answer)
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
