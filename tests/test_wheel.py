"""The wheel is complete: it is built, installed into an empty environment, and used elsewhere."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


class Installed:
    """A Python with the kit's wheel; the kit's dependencies are those of the tests' own Python."""

    def __init__(self, folder: Path):
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        build = ["hatchling", "build", "--target", "wheel", "--directory", str(folder)]
        subprocess.run([sys.executable, "-m", *build], cwd=ROOT, capture_output=True, check=True)
        (wheel,) = folder.glob("*.whl")
        venv.create(folder / "venv", symlinks=os.name != "nt")
        self.python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        install = ["--python", str(self.python), "install", "--no-deps", "--no-index", str(wheel)]
        subprocess.run([sys.executable, "-m", "pip", *install], capture_output=True, check=True)
        # Torch is not downloaded again. The line adds no checkout: `.pth` files there are not read.
        (self.purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    @property
    def purelib(self) -> Path:
        (found,) = (self.python.parents[1]).glob("**/site-packages")
        return found

    def run(self, *words: str) -> subprocess.CompletedProcess:
        """What `python …` answers in a folder that is not the project's."""
        own = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "KIT_FOLDER"))}
        command = [str(self.python), *words]
        return subprocess.run(command, cwd=self.elsewhere, env=own, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


def test_the_kit_is_the_wheels_and_says_that_it_has_types(installed):
    told = installed.run("-c", "import kit; print(kit.__file__)").stdout.strip()
    assert Path(told).parents[1].samefile(installed.purelib)
    assert (Path(told).parent / "py.typed").is_file()


def test_the_wheel_holds_every_file_of_the_package_and_the_lessons(installed):
    listed = ["git", "ls-files", "-z", "kit", "notebooks"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    names = [name for name in names if name and (ROOT / name).exists()]
    assert len(names) > 200
    wanted = [name.replace("notebooks/", "kit/notebooks/", 1) for name in names]
    assert not [name for name in wanted if not (installed.purelib / name).is_file()]


def test_a_lesson_runs_without_a_checkout(installed):
    small = ["-p", "steps", "40", "-p", "model_name", "mlp"]
    answer = installed.run("-m", "kit", "run", "01", *small, "--out", "01.ipynb")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("01-what-changes-when-a-model-learns: ")
    assert nbformat.read(installed.elsewhere / "01.ipynb", as_version=4).cells


def test_the_lessons_are_copied_and_changed_files_stay(installed):
    first = installed.run("-m", "kit", "lab", "mine", "--copy-only")
    assert first.returncode == 0 and first.stderr == "The lessons are in mine\n", first.stderr
    mine = installed.elsewhere / "mine"
    lesson = mine / "03-can-you-trust-your-stopwatch.ipynb"
    assert lesson.is_file() and (mine / "experiments" / "recorded" / "eight").is_dir()
    assert (mine / "solutions" / "00.py").is_file() and not list(mine.rglob("__pycache__"))
    lesson.write_text("my answers")
    again = installed.run("-m", "kit", "lab", "mine", "--copy-only")
    assert again.stderr.splitlines()[0].endswith(
        f"you have changed it: {Path('mine') / lesson.name}"
    )
    assert lesson.read_text() == "my answers"
