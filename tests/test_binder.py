"""binder/ as Binder reads it: what it would install is the lock, with a small CPU-only torch."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import environment
import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = environment.ROOT
KIT = "train-infer-kit"
LIMIT_BYTES = 2e9  # what the issue of Binder's image may grow by

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Binder is Linux")


@pytest.fixture(scope="module")
def dockerfile():
    """Return the recipe that Binder would build, as its own tool prints it."""
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", str(ROOT)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def postbuild(dockerfile, tmp_path_factory):
    """Run the recipe's own lines; return what pip said, its last report, and the image's prefix.

    pip is the real one, told through its environment to resolve and to install nothing.
    """
    prefix = tmp_path_factory.mktemp("prefix")
    settings = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NB_PYTHON_PREFIX": str(prefix),
        "PIP_DRY_RUN": "1",
        "PIP_REPORT": str(prefix / "report.json"),
        "PIP_NO_BUILD_ISOLATION": "0",  # pip's way to say: no isolation; so no network
    }
    run = subprocess.run(
        ["bash", "-ec", "\n".join(our_lines(dockerfile))],
        cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return run.stdout, json.loads((prefix / "report.json").read_text()), prefix


def our_lines(dockerfile):
    """Return the commands that the recipe runs in the repository, after it was copied."""
    after = dockerfile.partition("COPY --chown=0:0 src/")[2]
    return re.findall(r"^RUN (.*binder/.*)$", after, re.MULTILINE)


def closure(name, extras=frozenset(), found=None):
    """Return the installed distributions that `name` with these extras needs, itself included."""
    found = {} if found is None else found
    key = canonicalize_name(name)
    if (key, extras) in found:
        return found
    found[key, extras] = distribution(name)
    for text in found[key, extras].requires or []:
        need = Requirement(text)
        wanted = need.marker is None or any(
            need.marker.evaluate({"extra": extra}) for extra in (extras or {""})
        )
        if wanted:
            closure(need.name, frozenset(need.extras), found)
    return found


@pytest.fixture(scope="module")
def parts(postbuild):
    """Return name -> distribution for all that Binder gets, read from this environment."""
    (asked,) = re.findall(r"^Installing the kit with (.*), at", postbuild[0], re.MULTILINE)
    extras = frozenset(asked.split(", "))
    found = closure(KIT, extras - environment.FILES_ONLY)
    listed = environment.wanted()["optional-dependencies"]
    alone = [
        Requirement(t).name for extra in extras & environment.FILES_ONLY for t in listed[extra]
    ]
    return {name: one for (name, _), one in found.items()} | {
        canonicalize_name(name): distribution(name) for name in alone
    }


def test_the_recipe_has_the_tested_python_and_installs_only_by_our_script(dockerfile):
    asked = (ROOT / "binder/runtime.txt").read_text().strip().removeprefix("python-")
    assert tuple(map(int, asked.split("."))) >= environment.NEEDED_PYTHON
    assert f"environment-2epy-2d{asked.replace('.', '-2e')}" in dockerfile
    assert our_lines(dockerfile) == ["chmod +x binder/postBuild", "./binder/postBuild"]
    assert "pip install" not in dockerfile


def test_it_would_change_nothing_in_an_environment_made_from_the_lock(postbuild):
    said, report, prefix = postbuild
    version = report["install"][0]["metadata"]["version"]
    assert re.findall(r"^Would install (.*)$", said, re.MULTILINE) == [f"{KIT}-{version}"]
    assert (prefix / "share/jupyter/lab/settings/overrides.json").is_file()


def test_every_part_has_the_version_of_the_lock(parts):
    lines = environment.LOCK.read_text().splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    locked = {
        canonicalize_name(pin.name): pin.specifier
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }
    ours = {name for name in parts if name != KIT and not name.startswith(("nvidia-", "cuda-"))}
    assert {"jupyterlab", "torch", "sympy"} <= ours  # the walk went all the way down
    assert ours <= locked.keys()
    assert {name for name in ours if parts[name].version not in locked[name]} == set()


def test_torch_is_looked_for_among_pytorchs_cpu_builds():
    if environment.torch_backend() == "auto":
        pytest.skip("this machine has an NVIDIA GPU; Binder has none")
    pinned = environment.installed_version(sys.executable, "torch")
    command = environment.uv_command(
        sys.executable, "--torch-backend", environment.torch_backend(), f"torch=={pinned}"
    )
    run = subprocess.run(
        [*command, "--dry-run", "--reinstall-package", "torch"],
        capture_output=True, text=True, env=environment.uv_settings(),
    )  # fmt: skip
    # Where PyTorch's index cannot be reached, uv says what it went for.
    assert f"torch=={pinned}+cpu" in run.stderr or "whl/cpu/torch" in run.stderr


@pytest.mark.skipif(bool(torch.version.cuda), reason="the torch here is CUDA's; Binder's is not")
def test_the_image_grows_by_less_than_2_gb(parts):
    files = (file for part in parts.values() for file in part.files or [])
    sizes = {path: path.stat().st_size for file in files if (path := Path(file.locate())).is_file()}
    assert sum(sizes.values()) > 5e8  # torch alone is more: the files were found
    assert sum(sizes.values()) < LIMIT_BYTES
    assert not [name for name in parts if name.startswith(("nvidia-", "cuda-"))]
