"""The kit's cache, and how files are read and written safely in folders that others share.

A class may share a cache, and a group may share the output of a sweep. So nothing here follows a
link that another user could have created.
"""

import glob
import os
import stat
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

# Windows has neither flag; there, creating a link needs special rights.
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_PACKAGE = Path(__file__).resolve().parents[1]
# The lessons travel with an installed package, inside it; in a checkout they stand beside it.
NOTEBOOKS = (_PACKAGE if (_PACKAGE / "notebooks").is_dir() else _PACKAGE.parent) / "notebooks"


def cache_folder() -> Path:
    """The kit's folder in the user's cache; the variable `KIT_CACHE` sets another folder."""
    import platformdirs

    return Path(os.environ.get("KIT_CACHE") or platformdirs.user_cache_path("train-infer-kit"))


COMMAND_FOLDER = "KIT_FOLDER"  # a kernel's variable: the folder in which the user gave the command


def user_path(path: str | Path) -> Path:
    """A path that the user gave, relative to the folder in which they gave the command.

    A notebook's kernel runs in another folder. If no such file exists, the path stays as given.
    """
    path = Path(path).expanduser()
    here = Path(os.environ.get(COMMAND_FOLDER, "")) / path
    try:
        return here if here.exists() else path
    except (OSError, ValueError):  # not a possible file name: too long, or with a null character
        return path


def python_command(folder: Path | None = None) -> str:
    """The Python that runs this, as the user can type it: below the folder, or "python".

    Without a folder it is the one in which the user typed the command.

    A path elsewhere would name folders of this computer in what people share.
    """
    with suppress(OSError, ValueError):  # a folder that was removed; a program elsewhere
        here = folder or os.environ.get(COMMAND_FOLDER) or os.getcwd()
        return str(Path(sys.executable).relative_to(here))
    return "python"


def make_folder(folder: Path) -> Path:
    """Create the folder if it is missing, and return it; only its user can read the kit's cache.

    Raises
    ------
    PermissionError
        The path goes through a link that another user created.
    """
    for part in (folder, *folder.parents):
        if _is_foreign(part):
            raise PermissionError(f"{part} is a link of another user: give a folder of your own")
    root = cache_folder()
    if folder.is_relative_to(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_foreign(path: Path) -> bool:
    """Whether it is a link that neither this user nor the administrator created."""
    if not path.is_symlink():
        return False
    return hasattr(os, "geteuid") and path.lstat().st_uid not in (0, os.geteuid())


def private_folder(folder: Path) -> Path:
    """Create a folder in which no other user can write, for files that will be executed.

    Raises
    ------
    PermissionError
        It is a link or belongs to another user, or others can write to it or to its parent.
    """
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "geteuid"):  # Windows already protects a user's cache from other users
        own, around = folder.lstat(), folder.parent.stat()
        if stat.S_ISLNK(own.st_mode) or own.st_uid != os.geteuid():
            raise PermissionError(f"{folder} is a link, or belongs to another user")
        if own.st_mode & 0o022:
            raise PermissionError(f"{folder} can be written to by other users")
        if around.st_mode & 0o022 and not around.st_mode & stat.S_ISVTX:
            raise PermissionError(f"{folder.parent} can be written to by other users")
    return folder


def open_without_links(path: str, flags: int) -> int:
    """An `opener` for `open` that refuses links and does not block on pipes."""
    return os.open(path, flags | NO_LINK, 0o666)


def read_file(path: Path, most_bytes: int | None = None) -> bytes:
    """The bytes of a file in a folder where others may write.

    Raises
    ------
    OSError
        It is a link, not a regular file, or larger than `most_bytes`.
    """
    with open(path, "rb", opener=open_without_links) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is not a regular file")
        if most_bytes is None:
            return file.read()
        if found.st_size > most_bytes:
            raise OSError(f"{path} has {found.st_size:,} bytes, more than {most_bytes:,}")
        return file.read(most_bytes)  # it may grow while it is read


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A draft to write to, next to the path; at the end it is flushed to disk and moved there.

    So the path never holds half a file, and an earlier file stays if writing fails. A link at
    that path is replaced, not followed. Drafts of processes that were killed are removed.
    """
    make_folder(path.parent)
    draft, lock = _new_draft(path)
    try:
        _remove_abandoned_drafts(path)
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        if lock is not None:
            os.close(lock)
        draft.unlink(missing_ok=True)


def _new_draft(path: Path) -> tuple[Path, int | None]:
    """An empty draft, and the open file that locks it; a lock ends with its process.

    Windows needs no lock, and could not move an open file: it does not delete what somebody writes.
    """
    while True:
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
        file = open_without_links(str(draft), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        if fcntl is None:
            os.close(file)
            return draft, None
        with suppress(OSError):  # a file system without locks: nobody can lock it, or remove it
            fcntl.flock(file, fcntl.LOCK_EX)
        if draft.exists():  # else somebody has taken it for abandoned before it was locked
            return draft, file
        os.close(file)


def _remove_abandoned_drafts(path: Path) -> None:
    """Remove the drafts of this path that no process locks: their writers were killed."""
    if fcntl is None:
        return
    for draft in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 32}.part"):
        with suppress(OSError):  # locked, or of another user: it stays
            file = os.open(draft, os.O_WRONLY | NO_LINK)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                draft.unlink()
            finally:
                os.close(file)
