"""`kit release`: write hand-outs as a folder or a zip, and links that open them in one click."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from kit.classroom.cells import read_notebook
from kit.classroom.handout import Handout, student_version
from kit.core.errors import BadValue
from kit.core.files import NOTEBOOKS, atomic_write
from kit.experiments.execution import find_notebook

BINDER = "https://mybinder.org/v2"
PICTURE = re.compile(r"\]\((pictures/[\w.-]+)\)")


@dataclass(frozen=True)
class Release:
    """What was written for a class."""

    notebooks: tuple[Path, ...]
    links: dict[str, str]  # by what they open
    archive: Path | None = None

    def __repr__(self) -> str:
        files = [str(self.archive)] if self.archive else [str(path) for path in self.notebooks]
        return "\n".join([*files, *(f"{name}: {link}" for name, link in self.links.items())])


def release(
    names: Sequence[str],
    out: Path,
    *,
    course: str = "",
    due: str = "",
    packed: bool = False,
    repository: str = "",
    branch: str = "main",
    hub: str = "",
) -> Release:
    """Write student versions of lessons into a folder.

    Parameters
    ----------
    names
        Numbers of lessons, such as "02", or paths of notebooks.
    course, due
        Shown at the top of each notebook; the deadline as students should read it.
    packed
        Also write all of it as a zip, beside the folder.
    repository, branch
        The address of the repository in which the folder will be: it gives links for Binder.
    hub
        The address of a JupyterHub with nbgitpuller: it gives links for it.

    Raises
    ------
    UnknownName
        No lesson has that name: the message lists similar ones.
    BadValue
        No lesson is named, or an address is not one.
    """
    if not names:
        raise BadValue("kit release: needs the number of a lesson, such as 02.")
    paths = [find_notebook(name) for name in names]
    for address in filter(None, (repository, hub)):
        _check_address(address)
    numbers = tuple(path.name[:2] for path in paths)
    written = []
    for path in paths:
        notebook = read_notebook(path)
        handout = Handout(path.name[:2], course, due, numbers)
        written.append(_write(student_version(notebook, handout), out / path.name))
        _copy_pictures(notebook, path.parent, out)
    shutil.copyfile(NOTEBOOKS / "glossary.md", out / "glossary.md")
    links = _links(written, repository, branch, hub)
    if links:
        _write_text(out / "links.md", _links_page(links))
    return Release(tuple(written), links, _pack(out) if packed else None)


def _write(notebook: dict[str, Any], path: Path) -> Path:
    return _write_text(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> Path:
    with atomic_write(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def _copy_pictures(notebook: dict[str, Any], source: Path, out: Path) -> None:
    for cell in notebook["cells"]:
        text = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        for name in PICTURE.findall(text) if cell["cell_type"] == "markdown" else ():
            if (source / name).is_file():
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, out / name)


def _pack(out: Path) -> Path:
    """The folder as a zip beside it; the same files give the same bytes."""
    archive = out.with_name(f"{out.name}.zip")
    with atomic_write(archive) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(each for each in out.rglob("*") if each.is_file()):
            member = zipfile.ZipInfo(f"{out.name}/{path.relative_to(out).as_posix()}")
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            file.writestr(member, path.read_bytes())
    return archive


# --- Links ---------------------------------------------------------------------------------------


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadValue(f"{address}: needs an address that begins with https://.")


def _links(paths: Sequence[Path], repository: str, branch: str, hub: str) -> dict[str, str]:
    found = {}
    for path in paths:
        folder = path.parent.name if path.is_absolute() else path.parent.as_posix()
        inside = f"{folder}/{path.name}".removeprefix("./")
        if repository:
            found[f"{path.name[:2]} on Binder"] = binder_link(repository, branch, inside)
        if repository and hub:
            link = nbgitpuller_link(hub, repository, branch, inside)
            found[f"{path.name[:2]} by nbgitpuller"] = link
    return found


def binder_link(repository: str, branch: str, path: str) -> str:
    """The address that opens a notebook of a repository on Binder.

    >>> binder_link("https://github.com/you/class", "main", "class/02-a.ipynb")
    'https://mybinder.org/v2/gh/you/class/main?urlpath=lab/tree/class/02-a.ipynb'
    """
    parts = urlsplit(repository.removesuffix(".git"))
    if parts.netloc == "github.com":
        where = f"gh{parts.path.rstrip('/')}"
    elif parts.netloc == "gitlab.com":
        where = f"gl/{quote(parts.path.strip('/'), safe='')}"
    else:
        where = f"git/{quote(repository, safe='')}"
    return f"{BINDER}/{where}/{quote(branch, safe='')}?urlpath=lab/tree/{quote(path)}"


def nbgitpuller_link(hub: str, repository: str, branch: str, path: str) -> str:
    """The address that copies a repository into a student's account of a JupyterHub and opens it.

    >>> nbgitpuller_link("https://hub.example", "https://github.com/you/ml", "main", "a.ipynb")
    'https://hub.example/hub/user-redirect/git-pull?repo=https%3A%2F%2Fgithub.com%2Fyou%2Fml&branch=main&urlpath=lab%2Ftree%2Fml%2Fa.ipynb'
    """
    folder = urlsplit(repository.removesuffix(".git")).path.rstrip("/").rpartition("/")[2]
    asked = {"repo": repository, "branch": branch, "urlpath": f"lab/tree/{folder}/{path}"}
    return f"{hub.rstrip('/')}/hub/user-redirect/git-pull?{urlencode(asked)}"


def _links_page(links: dict[str, str]) -> str:
    lines = [f"- [{name}]({link})" for name, link in links.items()]
    return "\n".join(["# Links to the lessons", "", *lines, ""])
