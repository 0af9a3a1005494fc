"""Published files: fetched once, checked against their digest, kept in the user's cache.

what happens                               what `fetch` does
a copy is kept, and its digest is right    it asks no server
a download broke off, or was killed        what came is in NAME.part; it asks for the rest
the server cannot do that, or has changed  it takes the whole anew
silence, a broken connection, overload     it tries again after a pause, then elsewhere
not there, not reachable, other bytes      it tries elsewhere
two processes want the same file           one fetches, the other waits

`KIT_MIRROR` is the URL of a folder that is asked first, laid out as `downloads` in the cache is:
where one person runs `python -m http.server` in that folder, a class needs no other server.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from kit.core.errors import BadValue, DownloadFailed
from kit.core.files import cache_folder, make_folder, open_without_links
from kit.core.units import words

# Why not pooch: it does most of this well, but a download that broke off begins again from
# nothing, which on a line that breaks every few minutes means never.
TIMEOUT_S = 15.0  # of silence, before and after the first byte
OTHER_S = 1800.0  # for another process that fetches the same file
PAUSES_S = (0.0, 1.0, 2.0)  # before each try at one place
BLOCK_BYTES = 1 << 16
MAY_PASS = {408, 416, 429, 500, 502, 503, 504}  # 416: see `_ask`


class File(NamedTuple):
    """A file that somebody publishes, and by what it is known."""

    name: str  # its path in the cache and on a mirror: "mnist/train-images-idx3-ubyte.gz"
    size_bytes: int
    digest: str  # "sha256:440f…": what `hashlib` calls the algorithm, then the digest in hex
    places: tuple[str, ...]  # URLs of folders that have it, in the order to ask them


class _Trouble(Exception):
    """Why a try failed, and whether another one at the same place may go better."""

    def __init__(self, why: object, may_pass: bool):
        super().__init__(str(why))
        self.may_pass = may_pass


def fetch(file: File, instead: str = "kit.data.load_digits()") -> Path:
    """The path of the file in the user's cache: whole, with the right digest.

    Raises
    ------
    DownloadFailed
        No place gave it, or it cannot be kept; the message says where and why, and what is there
        `instead`.
    """
    from filelock import FileLock, Timeout

    path = cache_folder() / "downloads" / file.name
    try:
        if not _right(path, file):  # before the lock: a shared cache may be one we cannot write to
            urls = _urls(file)
            make_folder(path.parent)
            with FileLock(f"{path}.lock", timeout=OTHER_S):
                if not _right(path, file):  # another process may have been quicker
                    _fetch(urls, file, path, instead)
    except Timeout as error:
        raise DownloadFailed(
            f"{file.name}: another process has held {path}.lock for {OTHER_S:.0f} s. If none is "
            f"fetching it, end that process and try again."
        ) from error
    except OSError as error:
        raise DownloadFailed(
            f"{file.name} cannot be kept in {path.parent}: {error.strerror or error}. "
            "KIT_CACHE names another folder."
        ) from error
    return path


def _urls(file: File) -> list[str]:
    mirror = os.environ.get("KIT_MIRROR", "").rstrip("/")
    if mirror and urlsplit(mirror).scheme not in ("http", "https", "file"):
        raise BadValue(f"KIT_MIRROR={mirror!r}: needs a URL, such as 'http://192.168.0.7:8000'.")
    own = [f"{mirror}/{file.name}"] if mirror else []
    return own + [place + Path(file.name).name for place in file.places]


def _fetch(urls: list[str], file: File, path: Path, instead: str) -> None:
    """Put the file at its path, from the first place that has it."""
    part, troubles = path.with_name(path.name + ".part"), {}
    for url in urls:
        for pause_s in PAUSES_S:
            time.sleep(pause_s)
            try:
                _receive(url, file, part)
            except _Trouble as trouble:
                troubles[url] = f"{urlsplit(url).netloc or url}: {trouble}"
                if not trouble.may_pass:
                    break
            else:
                os.replace(part, path)  # at once: nobody ever sees half a file
                _forget(part)
                return
    raise DownloadFailed(
        f"{file.name} ({words(file.size_bytes, 'B')}) could not be fetched: "
        f"{'; '.join(troubles.values())}. Try again later; {instead} comes with the kit."
    )


def _receive(url: str, file: File, part: Path) -> None:
    """One try to complete the part; what came is kept, unless it is wrong."""
    had = part.stat().st_size if part.exists() else 0
    if had < file.size_bytes:
        with _ask(url, part, had) as answer:
            if answer.status != 206:  # not the rest, but the whole
                _write(part, b"")
                _write(_mark(part), _validator(answer).encode("latin-1"))
            _append(answer, file, part)
    if not _right(part, file):
        _forget(part)
        # What we had may have been wrong, not what came now: then once more, from the start.
        raise _Trouble("other bytes came than were published", may_pass=had > 0)


def _ask(url: str, part: Path, had: int) -> Any:
    """A server's answer to: all that is not in the part, please."""
    request = Request(url, headers={"User-Agent": "train-infer-kit"})
    if had:
        request.add_header("Range", f"bytes={had}-")
        if _mark(part).exists() and (validator := _mark(part).read_text(encoding="latin-1")):
            request.add_header("If-Range", validator)  # if the file changed, then the whole
    try:
        return urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # there, the file ends before our part does
            _forget(part)
        raise _Trouble(f"HTTP {error.code} {error.reason}", error.code in MAY_PASS) from error
    except URLError as error:  # no such host, refused, a bad certificate, no way out
        raise _Trouble(error.reason, may_pass=False) from error
    except (OSError, HTTPException) as error:  # connected, and then silence or nonsense
        raise _Trouble(error, may_pass=True) from error


def _append(answer: Any, file: File, part: Path) -> None:
    from tqdm.auto import tqdm

    with open(part, "ab", opener=open_without_links) as kept:
        had = kept.tell()
        with tqdm(
            desc=part.stem,
            total=file.size_bytes,
            initial=had,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=not _watched(),
        ) as bar:
            for block in _blocks(answer, file.size_bytes - had):
                kept.write(block)
                bar.update(len(block))
        kept.flush()
        os.fsync(kept.fileno())  # once in its place, the file must survive a power cut


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb", opener=open_without_links) as file:
        file.write(content)


def _blocks(answer: Any, missing_bytes: int) -> Iterator[bytes]:
    """What the server sends, and not more than is missing."""
    while missing_bytes:
        try:
            block = answer.read1(min(BLOCK_BYTES, missing_bytes))
        except (OSError, HTTPException) as error:
            raise _Trouble(error, may_pass=True) from error
        if not block:
            raise _Trouble(f"broke off, {words(missing_bytes, 'B')} too early", may_pass=True)
        missing_bytes -= len(block)
        yield block


def _mark(part: Path) -> Path:
    """The file beside the part that holds by what the server knows this state of the file."""
    return part.with_suffix(".mark")


def _forget(part: Path) -> None:
    for path in (part, _mark(part)):
        path.unlink(missing_ok=True)


def _validator(answer: Any) -> str:
    """The entity tag if it is a strong one (RFC 9110, 13.1.5), else the date of change."""
    tag = answer.headers["ETag"] or ""
    return tag if tag.startswith('"') else answer.headers["Last-Modified"] or ""


def _right(path: Path, file: File) -> bool:
    """Whether the file is there, and has its digest."""
    if not path.is_file():
        return False
    algorithm, _, digest = file.digest.partition(":")
    with path.open("rb") as content:
        return hashlib.file_digest(content, algorithm).hexdigest() == digest


def _watched() -> bool:
    """Whether somebody sees a bar that moves: in a terminal, or in a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel") or sys.stderr.isatty()
