"""The files that a class handed in: in folders by student, in one folder, or in a zip.

Every file is one hand-in, and a folder of a student without a notebook is one, too, so that nobody
is missing from the gradebook.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path, PurePosixPath

from kit.core.errors import BadValue
from kit.core.files import read_file
from kit.experiments.untrusted_notebooks import NOTEBOOK_BYTES, safe_line

FILES = 5_000
# Hidden files, those of systems, and the records of `kit class`, which class-results wants there.
NOT_HERE = re.compile(r"(^|/)(\.|__MACOSX|Thumbs\.db|(board\.jsonl|class\.json)$)")
COPY = re.compile(r"(\s*\(\d+\)|[-_ ]copy\d*|-checkpoint)$", re.IGNORECASE)
PLATFORM = re.compile(r"_\d+_assignsubmission_.*$")  # Moodle: NAME_12345_assignsubmission_file


@dataclass(frozen=True)
class HandIn:
    """A file that was handed in."""

    path: Path
    name: str  # below the folder
    student: str  # by the name of the folder or of the file
    modified: float  # seconds since 1970
    problem: str = ""  # why it is not a notebook

    def digest(self) -> str:
        """Of its content; empty if it cannot be read."""
        try:
            return sha256(read_file(self.path, NOTEBOOK_BYTES)).hexdigest()
        except OSError:
            return ""


def find_hand_ins(folder: Path) -> list[HandIn]:
    """All files of a folder, sorted by name; links are not followed.

    Raises
    ------
    BadValue
        There is no such folder, nothing is in it, or too much.
    """
    if not folder.is_dir():
        raise BadValue(f"{folder}: no such folder or zip; give one with what students handed in.")
    found = list(_below(folder, folder))
    if not found:
        raise BadValue(f"{folder}: nothing was handed in; it needs notebooks or folders of them.")
    return sorted(found, key=lambda each: each.name)


def _below(folder: Path, root: Path) -> Iterator[HandIn]:
    n = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(root).as_posix()
        if NOT_HERE.search(name):
            continue
        n += 1
        if n > FILES:
            raise BadValue(f"{root}: more than {FILES:,} files; grade a part of them at a time.")
        if path.is_symlink() or path.is_file():
            yield _hand_in(path, name)
        elif path.parent == root and not any(each.is_file() for each in path.rglob("*")):
            yield HandIn(path, name, _student(name + "/"), 0.0, "the folder has no file")


def _hand_in(path: Path, name: str) -> HandIn:
    problem = "" if path.suffix.lower() == ".ipynb" else f"it is not a notebook ({path.suffix})"
    return HandIn(path, safe_line(name, "name"), _student(name), path.lstat().st_mtime, problem)


def _student(name: str) -> str:
    """Who handed it in, by the folder, or else by the name of the file.

    >>> _student("Ada L_7_assignsubmission_file/02.ipynb"), _student("ada (1).ipynb")
    ('Ada L', 'ada')
    """
    first = PurePosixPath(name).parts[0]
    own = PLATFORM.sub("", first) if "/" in name else COPY.sub("", PurePosixPath(name).stem)
    return safe_line(own, "student", 100) or "unnamed"


def unpack(archive: Path, folder: Path) -> Path:
    """The files of a zip in a folder, with their times; what is too large stays empty.

    Raises
    ------
    BadValue
        It is not a zip, or it has too many files.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [m for m in packed.infolist() if not m.is_dir()]
            if len(members) > FILES:
                raise BadValue(f"{archive}: more than {FILES:,} files.")
            for member in members:
                _unpack_member(packed, member, folder)
    except (zipfile.BadZipFile, OSError) as error:
        raise BadValue(f"{archive} is not a zip that can be read: {error}.") from error
    return folder


def _unpack_member(packed: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Write one file; its name cannot lead out of the folder."""
    import os

    parts = [part for part in PurePosixPath(member.filename).parts if part not in ("..", "/", "")]
    if not parts or any(len(part) > 200 or "\x00" in part for part in parts):
        return
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with packed.open(member) as file:  # a bomb is larger than its header says
        data = file.read(NOTEBOOK_BYTES + 1)
    target.write_bytes(data)
    when = datetime(*member.date_time).timestamp()
    os.utime(target, (when, when))
