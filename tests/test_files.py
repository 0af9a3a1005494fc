"""Files in folders that others share: private where code is run, never through their links."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kit.core import files
from kit.core.files import (
    COMMAND_FOLDER,
    atomic_write,
    cache_folder,
    make_folder,
    private_folder,
    python_command,
    read_file,
)
from kit.data import cache as data_cache
from kit.devices import compiling, keep_programs, no_earlier_programs
from kit.devices.compiler import FOLDER

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has other permissions")


@pytest.mark.parametrize(
    ("program", "shown"),
    [
        ("here/.venv/bin/python3", ".venv/bin/python3"),
        ("elsewhere/bin/python3", "python"),
        ("", "python"),
    ],
)
def test_this_python_is_named_below_the_folder_of_the_command(
    tmp_path, monkeypatch, program, shown
):
    (tmp_path / "here" / "notebooks").mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", program and str(tmp_path / program))
    monkeypatch.chdir(tmp_path / "here" / "notebooks")  # as a kernel: the user's folder is given
    monkeypatch.setenv(COMMAND_FOLDER, str(tmp_path / "here"))
    assert python_command() == str(Path(shown))


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """A cache that is not there yet; new files may be changed by a group, as on many clusters."""
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "ünser cache" / "kit"))
    before = os.umask(0o002)
    yield tmp_path / "ünser cache" / "kit"
    os.umask(before)


@posix
def test_the_cache_is_made_for_its_user_alone(cache):
    data_cache.cached("ones", lambda: {"x": torch.ones(2)})
    assert mode(cache) == "0o700"


# --- Links ---------------------------------------------------------------------------------------


@posix
def test_a_kept_file_is_not_read_through_a_link(cache, tmp_path):
    data_cache.cached("ones", lambda: {"x": torch.ones(2)})
    path = cache / "data" / "ones.safetensors"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    again = data_cache.cached("ones", lambda: {"x": torch.zeros(2)})
    assert again["x"].tolist() == [0, 0]
    assert not path.is_symlink()  # what was made again is in its place
    assert data_cache._read(tmp_path / "elsewhere")["x"].tolist() == [1, 1]


@posix
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_file(tmp_path / "pipe")


@posix
def test_a_link_at_the_place_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out").symlink_to(tmp_path / "precious")
    with atomic_write(tmp_path / "out") as draft:
        draft.write_text("new")
    assert (tmp_path / "precious").read_text() == "mine"
    assert (tmp_path / "out").read_text() == "new" and not (tmp_path / "out").is_symlink()


@posix
def test_a_link_in_the_place_of_the_draft_is_refused(tmp_path, monkeypatch):
    """As if somebody had guessed its name."""
    monkeypatch.setattr(files.uuid, "uuid4", lambda: type("Guessed", (), {"hex": "guessed"}))
    (tmp_path / "out.guessed.part").symlink_to(tmp_path / "precious")
    with pytest.raises(FileExistsError), atomic_write(tmp_path / "out"):
        pass
    assert not (tmp_path / "precious").exists()


def test_the_name_of_a_draft_is_another_each_time(tmp_path):
    names = set()
    for _ in range(3):
        with atomic_write(tmp_path / "out") as draft:
            names.add(draft.name)
    assert len(names) == 3 and os.listdir(tmp_path) == ["out"]


WRITER = """
import sys, time
from pathlib import Path
from kit.core.files import atomic_write
with atomic_write(Path(sys.argv[1])) as draft:
    draft.write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


@posix
def test_the_draft_of_a_killed_process_is_removed_and_of_a_living_one_is_not(tmp_path):
    path = tmp_path / "out[1].kit"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"begun\n"
        for killed, drafts in ((False, 1), (True, 0)):
            if killed:
                writer.kill()
                writer.wait()
            with atomic_write(path) as draft:
                draft.write_text("new")
            assert len(list(tmp_path.glob("*.part"))) == drafts
    assert path.read_text() == "new"


@posix
def test_a_draft_that_is_taken_for_abandoned_before_it_is_locked_is_made_again(
    tmp_path, monkeypatch
):
    def late(file, how, lock=files.fcntl.flock):
        if not draft_removed:
            draft_removed.extend(tmp_path.glob("*.part"))
            draft_removed[0].unlink()
        lock(file, how)

    draft_removed = []
    monkeypatch.setattr(files.fcntl, "flock", late)
    with atomic_write(tmp_path / "out") as draft:
        draft.write_text("new")
    assert draft_removed and os.listdir(tmp_path) == ["out"]


@posix
def test_a_folder_that_another_user_has_linked_is_refused(tmp_path, monkeypatch):
    """The tests have one user: so the link is this user's, and the process another's."""
    (tmp_path / "real").mkdir()
    (tmp_path / "shared").symlink_to(tmp_path / "real")
    assert make_folder(tmp_path / "shared" / "a").is_dir()  # a link of your own
    owner = os.lstat(tmp_path / "shared").st_uid
    if owner == 0:
        os.lchown(tmp_path / "shared", 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(PermissionError, match="is a link of another user"):
        make_folder(tmp_path / "shared" / "b")
    assert os.listdir(tmp_path / "real") == ["a"]


@posix
def test_the_drafts_of_a_sweep_are_never_written_through_a_link(tmp_path):
    """The name was `.NAME.part.ipynb`: a link there led wherever its maker wanted."""
    import nbformat

    from kit.experiments.outputs import save_notebook

    (tmp_path / ".run.part.ipynb").symlink_to(tmp_path / "precious")
    (tmp_path / "precious").write_text("mine")
    notebook = nbformat.v4.new_notebook()
    assert save_notebook(notebook, tmp_path / "run.ipynb").is_file()
    assert (tmp_path / "precious").read_text() == "mine"


# --- Where compiled programs are kept ------------------------------------------------------------


@pytest.fixture
def unset(cache, monkeypatch):
    monkeypatch.setenv(FOLDER, "")  # so that it is put back after the test
    monkeypatch.delenv(FOLDER)
    return cache


def folder() -> Path:
    keep_programs()
    return Path(os.environ[FOLDER])


@posix
def test_compiled_programs_are_kept_where_nobody_else_can_write(unset):
    compiling()
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    assert Path(cache_dir()) == unset / f"compiled-{os.getuid()}"
    assert mode(Path(cache_dir())) == "0o700"


def test_earlier_programs_are_out_of_reach_for_a_while(unset):
    """Then the folder is what it was: not set, or the kit's."""
    for before in (None, "/of/my/own"):
        if before:
            os.environ[FOLDER] = before
        with no_earlier_programs():
            empty = folder()
            assert empty.is_dir() and not any(empty.iterdir()) and mode(empty) == "0o700"
        assert os.environ.get(FOLDER) == before and not empty.exists()


def test_a_place_that_the_user_has_set_is_left(unset, monkeypatch):
    monkeypatch.setenv(FOLDER, "/of/my/own")
    assert folder() == Path("/of/my/own")
    assert not unset.exists()


def spoil(cache: Path, how: str) -> None:
    place = cache / f"compiled-{os.getuid()}"
    if how == "a link":
        (cache / "theirs").mkdir(mode=0o700)
        place.symlink_to(cache / "theirs")
        return
    place.mkdir(mode=0o700)
    if how == "open to others":
        place.chmod(0o777)
    if how == "in a folder open to others":
        cache.chmod(0o777)


@posix
@pytest.mark.parametrize("how", ["a link", "open to others", "in a folder open to others"])
def test_a_place_where_others_can_put_programs_is_not_used(unset, how):
    unset.mkdir(parents=True)
    spoil(unset, how)
    with pytest.warns(UserWarning, match="stored for this process only"):
        used = folder()
    assert unset not in used.parents
    assert mode(used) == "0o700"
    used.rmdir()


@posix
def test_a_place_of_another_user_is_not_used(unset, monkeypatch):
    private_folder(unset / f"compiled-{os.getuid()}")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(UserWarning, match="belongs to another user"):
        folder().rmdir()


@posix
def test_a_shared_cache_that_keeps_its_users_apart_may_be_used(unset):
    unset.mkdir(parents=True)
    unset.chmod(0o1777)  # as the system's folder for temporary files
    assert folder() == unset / f"compiled-{os.getuid()}"


def test_a_home_that_cannot_be_written_to_is_no_reason_to_fail(unset):
    unset.parent.mkdir(parents=True)
    unset.write_text("no folder can be made here")
    used = folder()
    assert used.is_dir() and unset not in used.parents
    used.rmdir()


def test_a_folder_for_one_process_goes_with_it(unset):
    unset.parent.mkdir(parents=True)
    unset.write_text("no folder can be made here")
    code = f"import os, kit.devices as d; d.keep_programs(); print(os.environ['{FOLDER}'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() and not Path(run.stdout.strip()).exists()


def test_the_cache_is_where_it_says(cache):
    assert cache_folder() == cache
