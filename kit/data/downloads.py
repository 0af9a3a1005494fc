"""Downloads: each file is fetched once, checked against its digest, and saved in the user's cache.

what happens                               what `fetch` does
the cache has the file, digest correct     it uses no network
a download was interrupted                 the bytes so far are in NAME.part; it asks for the rest
the server cannot resume, or file changed  it downloads the complete file again
silence, a broken connection, overload     it tries again after a pause, then the next mirror
not found, not reachable, wrong digest     it tries the next mirror
two processes want the same file           one downloads, the other waits

`KIT_MIRROR` is the URL of a folder that is tried first, with the layout of `downloads` in the
cache. If one person runs `python -m http.server` in that folder, a class needs no other server.
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

# Why not pooch: it does most of this well, but an interrupted download starts from zero again. On
# a connection that breaks every few minutes, it would never finish.
TIMEOUT_S = 15.0  # of silence, before and after the first byte
LOCK_TIMEOUT_S = 1800.0  # for another process that downloads the same file
PAUSES_S = (0.0, 1.0, 2.0)  # before each try at one mirror
BLOCK_BYTES = 1 << 16
TEMPORARY = {408, 416, 429, 500, 502, 503, 504}  # HTTP codes worth another try; 416: see `_ask`


class File(NamedTuple):
    """A published file: its name, size, digest and mirrors."""

    name: str  # its path in the cache and on a mirror: "mnist/train-images-idx3-ubyte.gz"
    size_bytes: int
    digest: str  # "sha256:440f…": what `hashlib` calls the algorithm, then the digest in hex
    mirrors: tuple[str, ...]  # URLs of folders that have it, in the order to try them


class _TryFailed(Exception):
    """Why a try failed, and whether another try at the same mirror may succeed."""

    def __init__(self, why: object, temporary: bool):
        super().__init__(str(why))
        self.temporary = temporary


def fetch(file: File, instead: str = "kit.data.load_digits()") -> Path:
    """The path of the file in the user's cache, complete and with the right digest.

    Raises
    ------
    DownloadFailed
        No mirror delivered it, or it cannot be saved. The message says where and why, and what
        to use `instead`.
    """
    from filelock import FileLock, Timeout

    path = cache_folder() / "downloads" / file.name
    try:
        if not _is_intact(path, file):  # before the lock: a shared cache may be read-only
            urls = _urls(file)
            make_folder(path.parent)
            with FileLock(f"{path}.lock", timeout=LOCK_TIMEOUT_S):
                if not _is_intact(path, file):  # another process may have finished it
                    _fetch(urls, file, path, instead)
    except Timeout as error:
        raise DownloadFailed(
            f"{file.name}: another process has held {path}.lock for {LOCK_TIMEOUT_S:.0f} s. "
            f"End that process and try again."
        ) from error
    except OSError as error:
        raise DownloadFailed(
            f"{file.name} cannot be saved in {path.parent}: {error.strerror or error}. "
            "Set KIT_CACHE to another folder."
        ) from error
    except MemoryError as error:
        raise DownloadFailed(
            f"{file.name}: memory ran out. What has arrived is kept, and the next try goes on. End "
            f"other programs first."
        ) from error
    return path


def _urls(file: File) -> list[str]:
    mirror = os.environ.get("KIT_MIRROR", "").rstrip("/")
    if mirror and urlsplit(mirror).scheme not in ("http", "https", "file"):
        raise BadValue(f"KIT_MIRROR={mirror!r}: needs a URL, such as 'http://192.168.0.7:8000'.")
    own = [f"{mirror}/{file.name}"] if mirror else []
    return own + [folder + Path(file.name).name for folder in file.mirrors]


def _fetch(urls: list[str], file: File, path: Path, instead: str) -> None:
    """Save the file at its path, from the first mirror that has it."""
    part, troubles = path.with_name(path.name + ".part"), {}
    for url in urls:
        for pause_s in PAUSES_S:
            time.sleep(pause_s)
            try:
                _receive(url, file, part)
            except _TryFailed as trouble:
                troubles[url] = f"{urlsplit(url).netloc or url}: {trouble}"
                if not trouble.temporary:
                    break
            else:
                os.replace(part, path)  # atomic: nobody ever sees half a file
                _delete(part)
                return
    raise DownloadFailed(
        f"{file.name} ({words(file.size_bytes, 'B')}) could not be fetched: "
        f"{'; '.join(troubles.values())}. Try again later; {instead} comes with the kit."
    )


def _receive(url: str, file: File, part: Path) -> None:
    """One try to complete the part. The bytes stay for the next try, unless they are wrong."""
    had = part.stat().st_size if part.exists() else 0
    if had < file.size_bytes:
        with _ask(url, part, had) as answer:
            if answer.status != 206:  # not the rest, but the complete file
                _write(part, b"")
                _write(_version_file(part), _etag_or_date(answer).encode("latin-1"))
            _append(answer, file, part)
    part.stat()  # an OSError if it has gone with its disk: that is not the server's fault
    if not _is_intact(part, file):
        _delete(part)
        # The old part may have been wrong, not the new bytes: then try once more, from the start.
        raise _TryFailed(
            "its content differs from the published file (SHA-256), so it was deleted",
            temporary=had > 0,
        )


def _ask(url: str, part: Path, had: int) -> Any:
    """A server's response to a request for the bytes after the part."""
    request = Request(url, headers={"User-Agent": "train-infer-kit"})
    if had:
        request.add_header("Range", f"bytes={had}-")
        version = _version_file(part)
        if version.exists() and (validator := version.read_text(encoding="latin-1")):
            request.add_header("If-Range", validator)  # if the file has changed: all of it
    try:
        return urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        error.close()
        if error.code == 416:  # the server's file is shorter than our part
            _delete(part)
        raise _TryFailed(f"HTTP {error.code} {error.reason}", error.code in TEMPORARY) from error
    except URLError as error:  # unknown host, refused, bad certificate, no network
        raise _TryFailed(error.reason, temporary=False) from error
    except (OSError, HTTPException) as error:  # connected, then silence or a malformed response
        raise _TryFailed(error, temporary=True) from error


def _append(answer: Any, file: File, part: Path) -> None:
    from tqdm.auto import tqdm

    with open(part, "ab", opener=open_without_links) as file_part:
        had = file_part.tell()
        with tqdm(
            desc=part.stem,
            total=file.size_bytes,
            initial=had,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=not _has_display(),
        ) as bar:
            for block in _blocks(answer, file.size_bytes - had):
                file_part.write(block)
                bar.update(len(block))
        file_part.flush()
        os.fsync(file_part.fileno())  # the finished file must survive a power cut


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb", opener=open_without_links) as file:
        file.write(content)


def _blocks(answer: Any, missing_bytes: int) -> Iterator[bytes]:
    """The bytes that the server sends, at most as many as are missing."""
    while missing_bytes:
        try:
            block = answer.read1(min(BLOCK_BYTES, missing_bytes))
        except (OSError, HTTPException) as error:
            raise _TryFailed(error, temporary=True) from error
        if not block:
            raise _TryFailed(
                f"the connection broke off, {words(missing_bytes, 'B')} too early", temporary=True
            )
        missing_bytes -= len(block)
        yield block


def _version_file(part: Path) -> Path:
    """The file beside the part with the server's identifier of this version of the file."""
    return part.with_suffix(".mark")


def _delete(part: Path) -> None:
    for path in (part, _version_file(part)):
        path.unlink(missing_ok=True)


def _etag_or_date(answer: Any) -> str:
    """The entity tag if it is a strong one (RFC 9110, 13.1.5), else the date of change."""
    tag = answer.headers["ETag"] or ""
    return tag if tag.startswith('"') else answer.headers["Last-Modified"] or ""


def _is_intact(path: Path, file: File) -> bool:
    """Whether the file exists and has the right digest."""
    if not path.is_file():
        return False
    algorithm, _, digest = file.digest.partition(":")
    with path.open("rb") as content:
        return hashlib.file_digest(content, algorithm).hexdigest() == digest


def _has_display() -> bool:
    """Whether a progress bar can be seen: in a terminal, or in a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return hasattr(shell, "kernel") or sys.stderr.isatty()
