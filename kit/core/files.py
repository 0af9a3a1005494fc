"""Where the kit keeps what it need not fetch, make or measure twice, and how files get there.

Others may write to the same folder: a class shares a cache, a group the output of a sweep. So
what is read and written here goes through no link that somebody else has put there.
"""

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Windows has neither: there, making a link needs rights of its own.
NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def cache_folder() -> Path:
    """The kit's folder in the user's cache; `KIT_CACHE` names another place."""
    import platformdirs

    return Path(os.environ.get("KIT_CACHE") or platformdirs.user_cache_path("train-infer-kit"))


FOLDER = "KIT_FOLDER"  # in a kernel's environment: where the command was given


def from_here(path: str | Path) -> Path:
    """A path that the user gave, from the folder in which they gave it; kernels work elsewhere.

    Where there is nothing, the path is as it was given.
    """
    path = Path(path).expanduser()
    here = Path(os.environ.get(FOLDER, "")) / path
    try:
        return here if here.exists() else path
    except (OSError, ValueError):  # a name that no file can have: too long, with a zero in it
        return path


def made(folder: Path) -> Path:
    """The folder, made if it is missing; the kit's cache is made for its user alone.

    Raises
    ------
    PermissionError
        The path leads through a link of another user.
    """
    for part in (folder, *folder.parents):
        if _is_foreign(part):
            raise PermissionError(f"{part} is a link that another user has put there")
    root = cache_folder()
    if folder.is_relative_to(root):
        root.parent.mkdir(parents=True, exist_ok=True)
        root.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_foreign(path: Path) -> bool:
    """Whether it is a link that neither this user nor the system's administrator has made."""
    if not path.is_symlink():
        return False
    return hasattr(os, "geteuid") and path.lstat().st_uid not in (0, os.geteuid())


def private(folder: Path) -> Path:
    """The folder, made with mode 0700, in which no other user can write: for what will be run.

    Raises
    ------
    PermissionError
        It is a link, belongs to another user, or it or the folder around it is open to others.
    """
    made(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "geteuid"):  # Windows keeps a user's cache to that user
        own, around = folder.lstat(), folder.parent.stat()
        if stat.S_ISLNK(own.st_mode) or own.st_uid != os.geteuid():
            raise PermissionError(f"{folder} is a link, or belongs to another user")
        if own.st_mode & 0o022:
            raise PermissionError(f"{folder} can be written to by other users")
        if around.st_mode & 0o022 and not around.st_mode & stat.S_ISVTX:
            raise PermissionError(f"{folder.parent} can be written to by other users")
    return folder


def unfollowed(path: str, flags: int) -> int:
    """An `opener` for `open`: refuses a link, and does not wait at a pipe."""
    return os.open(path, flags | NO_LINK, 0o666)


def contents(path: Path, most_bytes: int | None = None) -> bytes:
    """The bytes of a file that others could have replaced.

    Raises
    ------
    OSError
        It is a link, no ordinary file, or larger than `most_bytes`.
    """
    with open(path, "rb", opener=unfollowed) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path} is not an ordinary file")
        if most_bytes is None:
            return file.read()
        if found.st_size > most_bytes:
            raise OSError(f"{path} has {found.st_size:,} bytes, more than {most_bytes:,}")
        return file.read(most_bytes)  # it may grow meanwhile


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A draft beside the place to write to; at the end it is flushed to the disk and moved there.

    So the place never holds half a file, and what was there stays if the writing fails. A link
    at the place is replaced, not followed.
    """
    made(path.parent)
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    os.close(unfollowed(str(draft), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
