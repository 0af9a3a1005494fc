"""Downloads from a real server on this computer that misbehaves in every way a server can."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import random
import re
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

import kit.data
from kit.core.errors import BadValue, DownloadFailed
from kit.data import downloads, formats, public
from kit.data.downloads import File, fetch

CONTENT = random.Random(0).randbytes(200_000)
NAME = "things/thing.bin"


# --- A server that can do everything wrong -------------------------------------------------------


@dataclass
class Served:
    """What one request asked for, and what it was given until now."""

    path: str
    range: str | None
    if_range: str | None
    at_s: float
    status: int = 0
    sent_bytes: int = 0


class Handler(BaseHTTPRequestHandler):
    """One answer: by the next behaviour of the server's plan, or a good one."""

    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"], self.headers["If-Range"]
        self.served = Served(self.path, *asked, time.monotonic())
        self.server.log.append(self.served)
        body = self.server.files.get(self.path)
        behave = self.server.plan.pop(0) if self.server.plan else answers()
        with suppress(BrokenPipeError, ConnectionResetError):  # the other side had enough
            self.send_error(404) if body is None else behave(self, body)

    def send_response(self, code: int, message: str | None = None) -> None:
        self.served.status = code
        super().send_response(code, message)

    def send(self, part: bytes) -> None:
        self.served.sent_bytes += len(part)
        self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Files by path, what to do with the next requests, and what was done."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {f"/{NAME}": CONTENT}
        self.plan: list[Callable[[Handler, bytes], None]] = []
        self.log: list[Served] = []
        self.go_on = threading.Event()  # what a stalling answer waits for

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def folder(self) -> str:
        return f"{self.url}/things/"

    def ranges(self) -> list[str | None]:
        return [served.range for served in self.log]


def tag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def answers(
    stop_at: int | None = None,
    then_wait: bool = False,
    ranges: bool = True,
    validator: Callable[[bytes], dict[str, str]] = lambda body: {"ETag": tag(body)},
    obeys_if_range: bool = True,
    claims: Callable[[int], int] = lambda n: n,
    instead: Callable[[bytes], bytes] = lambda body: body,
) -> Callable[[Handler, bytes], None]:
    """A way to answer.

    It stops after so many bytes of the answer, closes the connection or waits, honours ranges or
    not, names the state of the file, claims a length, sends something instead.
    """

    def behave(handler: Handler, body: bytes) -> None:
        body = instead(body)
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers["Range"] or "")
        same = handler.headers["If-Range"] in (None, *validator(body).values())
        start = int(asked[1]) if asked and ranges and (same or not obeys_if_range) else 0
        if start >= len(body):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        for name, value in validator(body).items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(claims(len(body) - start)))
        handler.end_headers()
        handler.send(body[start:][:stop_at])
        handler.wfile.flush()
        if then_wait:
            handler.server.go_on.wait(10)
            handler.send(body[start:][stop_at:])

    return behave


def refuses(status: int) -> Callable[[Handler, bytes], None]:
    return lambda handler, body: handler.send_error(status)


def redirects(path: str) -> Callable[[Handler, bytes], None]:
    def behave(handler: Handler, body: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", path)
        handler.end_headers()

    return behave


def never_begins(handler: Handler, body: bytes) -> None:
    handler.server.go_on.wait(10)


def flipped(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.go_on.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, no mirror, no proxy, no pauses."""
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("KIT_MIRROR", raising=False)
    monkeypatch.setattr(downloads, "PAUSES_S", (0.0, 0.0, 0.0))
    return tmp_path / "cache" / "downloads"


@pytest.fixture
def closed() -> str:
    """A folder on a server that is no longer there."""
    with Server() as server:
        return server.folder


def described(*places: str, content: bytes = CONTENT, name: str = NAME, by="sha256") -> File:
    return File(name, len(content), f"{by}:{hashlib.new(by, content).hexdigest()}", places)


def left(cache: Path) -> list[str]:
    """What lies in the cache beside the file, but for the lock, which may stay."""
    return sorted(p.name for p in (cache / "things").iterdir() if p.suffix not in (".bin", ".lock"))


def is_whole(cache: Path) -> bool:
    return (cache / NAME).read_bytes() == CONTENT and not left(cache)


# --- When all goes well --------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["sha256", "md5"])
def test_a_file_comes_whole_and_nothing_else_stays(server, cache, by):
    assert fetch(described(server.folder, by=by)) == cache / NAME
    assert is_whole(cache)
    assert server.ranges() == [None]


def test_a_second_call_asks_no_server(server, cache):
    for _ in range(2):
        fetch(described(server.folder))
    assert len(server.log) == 1


def test_a_whole_copy_is_read_where_nothing_can_be_written(server, cache, closed):
    """A class shares one cache: nothing is locked, made or fetched there."""
    fetch(described(server.folder))
    (lock,) = (cache / "things").glob("*.lock") or [None]
    if lock:
        lock.unlink()
    fetch(described(closed))
    assert [p.name for p in (cache / "things").iterdir()] == ["thing.bin"]


@pytest.mark.parametrize("damage", [flipped, lambda body: body[:-1], lambda body: body + b"x"])
def test_a_damaged_copy_is_fetched_again(server, cache, damage):
    (cache / "things").mkdir(parents=True)
    (cache / NAME).write_bytes(damage(CONTENT))
    fetch(described(server.folder))
    assert is_whole(cache)


# --- When it breaks off --------------------------------------------------------------------------


def test_after_a_break_only_the_rest_is_asked_for_and_sent(server, cache):
    server.plan = [answers(stop_at=70_000)]
    fetch(described(server.folder))
    assert is_whole(cache)
    assert server.ranges() == [None, "bytes=70000-"]
    assert [served.sent_bytes for served in server.log] == [70_000, 130_000]
    assert [served.if_range for served in server.log] == [None, tag(CONTENT)]


def test_a_later_call_goes_on_where_the_last_one_gave_up(server, cache):
    server.plan = [answers(stop_at=50_000) for _ in range(3)]
    with pytest.raises(DownloadFailed, match=r"broke off, 50.0 kB too early") as error:
        fetch(described(server.folder))
    assert "\n" not in str(error.value)
    assert left(cache) == ["thing.bin.mark", "thing.bin.part"]
    fetch(described(server.folder))
    assert is_whole(cache)
    assert server.ranges()[-1] == "bytes=150000-"
    assert sum(served.sent_bytes for served in server.log) == len(CONTENT)


def test_another_place_goes_on_where_the_first_broke_off(server, cache):
    with Server() as second:
        threading.Thread(target=second.serve_forever, args=(0.01,), daemon=True).start()
        server.plan = [answers(stop_at=90_000), *(refuses(500) for _ in range(2))]
        fetch(described(server.folder, second.folder))
        second.shutdown()
    assert is_whole(cache)
    assert second.ranges() == ["bytes=90000-"]


def test_a_server_that_ignores_ranges_sends_the_whole(server, cache):
    server.plan = [answers(stop_at=70_000), answers(ranges=False)]
    fetch(described(server.folder))
    assert is_whole(cache)
    assert [(s.range, s.status) for s in server.log] == [(None, 200), ("bytes=70000-", 200)]


@pytest.mark.parametrize(
    "validator",
    [
        lambda body: {"ETag": tag(body)},
        lambda body: {"Last-Modified": f"Thu, {body[0] % 28 + 1:02} Jan 1970 00:00:00 GMT"},
        lambda body: {"ETag": "W/" + tag(body), "Last-Modified": f"{body[0]}"},
    ],
    ids=["tag", "date", "weak tag and date"],
)
def test_a_file_that_changed_between_two_tries_is_taken_whole(server, cache, validator):
    old = CONTENT[::-1]
    server.plan = [
        answers(stop_at=70_000, instead=lambda body: old, validator=validator),
        answers(validator=validator),
    ]
    fetch(described(server.folder))
    assert is_whole(cache)
    sent = list(validator(old).values())[-1]
    assert [(s.if_range, s.status) for s in server.log] == [(None, 200), (sent, 200)]


@pytest.mark.parametrize("says_so", [True, False], ids=["heedless", "silent"])
def test_a_server_that_mixes_two_states_of_a_file_is_asked_once_more(server, cache, says_so):
    """The rest of another file does not fit: the digest says so, and it is taken anew."""
    some = {"validator": lambda body: {}} if not says_so else {"obeys_if_range": False}
    server.plan = [
        answers(stop_at=70_000, instead=lambda body: body[::-1], **some),
        answers(**some),
    ]
    fetch(described(server.folder))
    assert is_whole(cache)
    assert server.ranges() == [None, "bytes=70000-", None]


def test_a_file_that_became_shorter_than_our_part_is_taken_anew(server, cache):
    server.plan = [
        answers(stop_at=70_000),
        answers(instead=lambda body: body[:10], obeys_if_range=False),
    ]
    fetch(described(server.folder))
    assert is_whole(cache)
    assert [s.status for s in server.log] == [200, 416, 200]


@pytest.mark.parametrize("size", [70_000, len(CONTENT), len(CONTENT) + 1])
def test_a_part_with_wrong_bytes_is_thrown_away(server, cache, size):
    (cache / "things").mkdir(parents=True)
    (cache / f"{NAME}.part").write_bytes(bytes(size))
    fetch(described(server.folder))
    assert is_whole(cache)
    assert server.ranges()[-1] is None


def test_a_whole_part_only_needs_to_be_put_in_place(server, cache):
    """Killed after the last byte, before the move."""
    (cache / "things").mkdir(parents=True)
    (cache / f"{NAME}.part").write_bytes(CONTENT)
    fetch(described(server.folder))
    assert is_whole(cache)
    assert not server.log


# --- When the server is no good ------------------------------------------------------------------


def failure(*places: str) -> str:
    with pytest.raises(DownloadFailed) as error:
        fetch(described(*places))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_other_bytes_are_refused_and_not_kept(server, cache):
    server.plan = [answers(instead=flipped)]
    assert "its content differs from the published file" in failure(server.folder)
    assert len(server.log) == 1  # whole and wrong: no reason to take it twice
    assert not left(cache) and not (cache / NAME).exists()


def test_other_bytes_at_one_place_are_no_harm_if_another_has_the_file(server, cache):
    server.plan = [answers(instead=flipped)]
    fetch(described(server.folder, server.folder))
    assert is_whole(cache)


@pytest.mark.parametrize("behave", [answers(stop_at=70_000, then_wait=True), never_begins])
def test_silence_ends_in_another_try(server, cache, monkeypatch, behave):
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.5)
    server.plan = [behave]
    fetch(described(server.folder))
    assert is_whole(cache)


def test_silence_for_ever_ends_in_an_error_and_keeps_what_came(server, cache, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.5)
    server.plan = [answers(stop_at=30_000, then_wait=True) for _ in range(3)]
    assert re.search(r"127\.0\.0\.1:\d+: timed out\.", failure(server.folder))
    assert (cache / f"{NAME}.part").read_bytes() == CONTENT[:90_000]


def test_a_closed_port_is_left_at_once_for_the_next_place(server, cache, monkeypatch, closed):
    monkeypatch.setattr(downloads, "PAUSES_S", (0.0, "there is no second try"))
    fetch(described(closed, server.folder))
    assert is_whole(cache)


def test_without_a_network_one_line_says_where_and_what_is_there_instead(cache, closed):
    port = closed.split(":")[2].split("/")[0]
    assert re.fullmatch(
        rf"things/thing\.bin \(200 kB\) could not be fetched: 127\.0\.0\.1:{port}: .*refused\. "
        r"Try again later; kit\.data\.load_digits\(\) comes with the kit\.",
        failure(closed),
    )
    assert not left(cache)


def test_a_file_that_is_not_there_is_asked_for_once(server, cache):
    del server.files[f"/{NAME}"]
    message = failure(server.folder, f"{server.url}/elsewhere/")
    assert message.count("HTTP 404 Not Found") == 2  # both places are named
    assert [s.path for s in server.log] == [f"/{NAME}", "/elsewhere/thing.bin"]


def test_a_busy_server_is_asked_again_after_longer_and_longer_pauses(server, cache, monkeypatch):
    monkeypatch.setattr(downloads, "PAUSES_S", (0.0, 0.05, 0.1))
    server.plan = [refuses(500), refuses(503)]
    fetch(described(server.folder))
    assert is_whole(cache)
    first, second, third = (served.at_s for served in server.log)
    assert second - first >= 0.05 and third - second >= 0.1


def test_a_server_that_stays_busy_is_given_up(server, cache):
    server.plan = [refuses(500) for _ in range(3)]
    assert "HTTP 500 Internal Server Error" in failure(server.folder)
    assert len(server.log) == 3


@pytest.mark.parametrize("claims", [lambda n: n // 2, lambda n: 2 * n, lambda n: 0])
def test_a_wrong_length_once_is_no_harm(server, cache, claims):
    server.plan = [answers(claims=claims)]
    fetch(described(server.folder))
    assert is_whole(cache)


def test_a_server_that_always_claims_less_than_it_has_ends_in_an_error(server, cache):
    server.plan = [answers(claims=lambda n: n // 2) for _ in range(3)]
    assert "broke off, 25.0 kB too early" in failure(server.folder)
    fetch(described(server.folder))
    assert is_whole(cache)


def test_a_server_that_sends_without_end_is_not_listened_to(server, cache):
    server.plan = [answers(instead=lambda body: body + bytes(1_000_000))]
    fetch(described(server.folder))
    assert is_whole(cache)
    assert len(server.log) == 1


def test_a_way_to_another_address_is_followed_also_for_the_rest(server, cache):
    server.files["/moved.bin"] = CONTENT
    server.plan = [answers(stop_at=70_000), redirects("/moved.bin")]
    fetch(described(server.folder))
    assert is_whole(cache)
    assert (server.log[-1].path, server.log[-1].range) == ("/moved.bin", "bytes=70000-")


# --- When this computer is no good ---------------------------------------------------------------


def test_a_cache_that_cannot_be_written_says_what_to_do(server, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KIT_CACHE", str(tmp_path / "file"))
    assert re.search(r"cannot be saved in .*file.*KIT_CACHE to another", failure(server.folder))
    assert not server.log


def test_a_full_disk_says_so_and_is_not_taken_for_a_bad_line(server, cache):
    """A limit on the size of files stands for the end of the disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        message = failure(server.folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be saved" in message and "File too large" in message
    assert len(server.log) <= 1  # one try, which may still be ending
    fetch(described(server.folder))
    assert is_whole(cache)


def test_a_disk_that_goes_away_is_not_taken_for_wrong_bytes(server, cache):
    """A stick that is unplugged: the file is open, and its path has gone."""

    def unplugged(handler: Handler, body: bytes) -> None:
        (cache / "things").rename(cache / "elsewhere")
        answers()(handler, body)

    server.plan = [answers(stop_at=70_000), unplugged]
    assert re.search(r"cannot be saved in .*things: No such file", failure(server.folder))


def test_memory_that_runs_out_is_one_line_and_what_has_arrived_is_kept(server, cache, monkeypatch):
    blocks = downloads._blocks

    def starving(*given):
        yield next(blocks(*given))
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(downloads, "_blocks", starving)
        assert re.search(r"memory ran out\. What has arrived is kept", failure(server.folder))
    fetch(described(server.folder))
    assert is_whole(cache) and server.log[-1].range.startswith("bytes=")


FETCHING = """
import sys
from kit.data.downloads import File, fetch
fetch(File(sys.argv[1], int(sys.argv[2]), sys.argv[3], tuple(sys.argv[4:])))
"""


def another_process(file: File) -> subprocess.Popen:
    arguments = [file.name, str(file.size_bytes), file.digest, *file.mirrors]
    return subprocess.Popen([sys.executable, "-c", FETCHING, *arguments], stderr=subprocess.PIPE)


def until(condition: Callable[[], bool], limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_after_a_kill_the_next_process_asks_only_for_the_rest(server, cache):
    server.plan = [answers(stop_at=131_072, then_wait=True)]
    part = cache / f"{NAME}.part"
    with another_process(described(server.folder)) as child:
        until(lambda: part.exists() and part.stat().st_size > 100_000)
        child.kill()
    assert child.returncode != 0
    had = part.stat().st_size
    fetch(described(server.folder))  # the lock went with the process
    assert is_whole(cache)
    assert server.ranges() == [None, f"bytes={had}-"]
    assert server.log[1].sent_bytes == len(CONTENT) - had


def test_two_processes_at_once_download_once(server, cache):
    server.plan = [answers(stop_at=70_000, then_wait=True)]
    part = cache / f"{NAME}.part"
    here = threading.Thread(target=fetch, args=(described(server.folder),))
    with another_process(described(server.folder)) as child:
        until(part.exists)  # the child has the lock
        here.start()
        time.sleep(0.1)  # long enough to ask the server, if it did
        assert here.is_alive()
        server.go_on.set()
        here.join(60)
    assert child.returncode == 0
    assert is_whole(cache)
    assert server.ranges() == [None]


# --- A mirror for a class ------------------------------------------------------------------------


def test_a_mirror_is_asked_first(server, cache, monkeypatch, closed):
    server.files = {f"/for/class/{NAME}": CONTENT}
    monkeypatch.setenv("KIT_MIRROR", f"{server.url}/for/class/")
    fetch(described(closed))
    assert is_whole(cache)


def test_what_a_mirror_lacks_comes_from_where_it_was_published(server, cache, monkeypatch):
    monkeypatch.setenv("KIT_MIRROR", f"{server.url}/empty")
    fetch(described(server.folder))
    assert is_whole(cache)
    assert [served.path for served in server.log] == [f"/empty/{NAME}", f"/{NAME}"]


def test_pythons_own_server_in_one_cache_is_a_mirror_for_others(
    server, cache, tmp_path, monkeypatch
):
    fetch(described(server.folder))
    handler = partial(SimpleHTTPRequestHandler, directory=cache)
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", Handler.log_message)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as mirror:
        threading.Thread(target=mirror.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("KIT_CACHE", str(tmp_path / "another"))
        monkeypatch.setenv("KIT_MIRROR", f"http://127.0.0.1:{mirror.server_port}")
        assert fetch(described()).read_bytes() == CONTENT
        mirror.shutdown()


def test_a_folder_on_a_stick_is_a_mirror_too(cache, tmp_path, monkeypatch):
    (tmp_path / "stick/things").mkdir(parents=True)
    (tmp_path / "stick" / NAME).write_bytes(CONTENT)
    monkeypatch.setenv("KIT_MIRROR", (tmp_path / "stick").as_uri())
    fetch(described())
    assert is_whole(cache)


def test_a_mirror_that_is_no_url_says_what_is_needed(monkeypatch):
    monkeypatch.setenv("KIT_MIRROR", "/media/stick")
    with pytest.raises(BadValue, match=r"KIT_MIRROR='/media/stick': needs a URL"):
        fetch(described())


# --- What one sees -------------------------------------------------------------------------------


def test_a_terminal_shows_progress(server, monkeypatch):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    # tqdm decides once per process, and another test may have begun a kernel in this one.
    monkeypatch.setitem(sys.modules, "tqdm.auto", pytest.importorskip("tqdm.std"))
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with open(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        fetch(described(server.folder))
        shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert "thing.bin" in shown and "200k" in shown


def test_elsewhere_nothing_is_shown(server, capfd):
    fetch(described(server.folder))
    assert capfd.readouterr() == ("", "")


# --- Datasets from files in their true formats ---------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return gzip.compress(head + array.tobytes())


def grey(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images whose pixels are the image's number, but for its label in one and full ink in one."""
    labels = np.arange(n, dtype=np.uint8) % 10
    images = np.repeat(np.arange(n, dtype=np.uint8), 28 * 28).reshape(n, 28, 28)
    images[:, 3, 5], images[:, 7, 7] = labels, 255
    return images, labels


def publish(server: Server, monkeypatch, name: str, *contents: bytes) -> None:
    """Put these files where those of a dataset are looked for."""
    files = public.FILES[name]
    assert len(contents) == len(files)
    made = [described(content=c, name=f.name) for f, c in zip(files, contents, strict=True)]
    server.files = {f"/{f.name}": c for f, c in zip(files, contents, strict=True)}
    monkeypatch.setitem(public.FILES, name, tuple(made))
    monkeypatch.setenv("KIT_MIRROR", server.url)


@pytest.fixture(params=["mnist", "fashion_mnist"])
def grey_images(request, server, monkeypatch):
    contents = [idx(array) for n in (60, 20) for array in grey(n)]
    publish(server, monkeypatch, request.param, *contents)
    return getattr(public, f"load_{request.param}")


def test_grey_images_come_with_their_labels_as_shares_of_ink(grey_images):
    dataset = grey_images()
    assert {name: len(split.inputs) for name, split in dataset.splits.items()} == {
        "train": 54,
        "validation": 6,
        "test": 20,
    }
    for inputs, targets in dataset.splits.values():
        assert inputs.shape[1:] == (1, 28, 28) and inputs.dtype == torch.float32
        assert targets.dtype == torch.int64 and (inputs[:, 0, 7, 7] == 1).all()
        assert torch.equal((inputs[:, 0, 3, 5] * 255).round().long(), targets)
        assert torch.equal((inputs[:, 0, 0, 0] * 255).round().long() % 10, targets)
    assert dataset.name == grey_images.__name__.removeprefix("load_") and len(dataset.classes) == 10


def numbers(split) -> list[int]:
    """Which images these are."""
    return (split.inputs[:, 0, 0, 0] * 255).round().int().tolist()


def test_each_image_is_in_one_split_and_all_are_shuffled(grey_images):
    dataset = grey_images()
    train, validation, test = map(numbers, dataset.splits.values())
    order = torch.randperm(60, generator=torch.Generator().manual_seed(public.SEED))
    assert validation + train == order.tolist()
    assert sorted(test) == list(range(20)) != test


def test_a_limit_takes_the_first_of_the_same_order(grey_images):
    whole, some = grey_images(), grey_images(limit=7)
    for name, split in some.splits.items():
        assert numbers(split) == numbers(whole[name])[:7]
    assert [len(split.inputs) for split in some.splits.values()] == [7, 6, 7]


def test_making_it_draws_no_random_numbers(grey_images):
    before = torch.get_rng_state()
    grey_images()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("limit", [0, -1, 2.5, "10"])
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_a_wrong_limit_is_refused_before_anything_is_fetched(server, monkeypatch, name, limit):
    monkeypatch.setenv("KIT_MIRROR", server.url)
    with pytest.raises(BadValue, match=rf"limit={limit!r}: needs a whole number of at least 1"):
        getattr(public, f"load_{name}")(limit=limit)
    assert not server.log


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: b"\0\0\x09\x03" + raw[4:],  # signed bytes
        lambda raw: b"\0\0\x08\x01" + raw[4:],  # labels
        lambda raw: raw[:-1],
        lambda raw: raw + b"\0",
        lambda raw: raw[:4] + struct.pack(">I", 61) + raw[8:],
        lambda raw: raw[:9],
        lambda raw: b"",
    ],
)
def test_what_is_no_idx_file_of_images_is_refused(tmp_path, damage):
    images, labels = grey(60)
    for name, content in {
        "images": gzip.compress(damage(gzip.decompress(idx(images)))),
        "labels": idx(labels),
    }.items():
        (tmp_path / name).write_bytes(content)
    paths = [tmp_path / "images", tmp_path / "labels"] * 2
    with pytest.raises(BadValue, match=r"images: needs unsigned bytes of rank 3 in the IDX format"):
        formats.read_idx_files(*paths)


def colour(start: int, n: int) -> bytes:
    """Records of images: red is the image's number, green its row, blue its column."""
    records = np.zeros(n, formats.CIFAR_RECORD)
    records["label"] = np.arange(start, start + n) % 10
    records["image"][:, 0] = np.arange(start, start + n)[:, None, None]
    records["image"][:, 1] = np.arange(32)[:, None]
    records["image"][:, 2] = np.arange(32)[None]
    return records.tobytes()


def cifar_archive() -> bytes:
    """As in Toronto: a folder, in any order, with a list of names and a readme beside."""
    folder, buffer = "cifar-10-batches-bin", io.BytesIO()
    parts = {f"{folder}/data_batch_{i}.bin": colour(20 * i, 20) for i in (3, 1, 5, 2, 4)}
    parts |= {f"{folder}/readme.html": b"<html>", "../../escaped.bin": b""}
    parts |= {f"{folder}/test_batch.bin": colour(0, 20), f"{folder}/batches.meta.txt": b"airplane"}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(folder)
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_colour_images_come_as_red_green_and_blue(server, monkeypatch, cache, tmp_path):
    publish(server, monkeypatch, "cifar10", cifar_archive())
    dataset = public.load_cifar10()
    assert [len(split.inputs) for split in dataset.splits.values()] == [90, 10, 20]
    seen = []
    for inputs, targets in dataset.splits.values():
        assert inputs.shape[1:] == (3, 32, 32) and inputs.dtype == torch.float32
        red, green, blue = (inputs * 255).round().long().unbind(1)
        assert torch.equal(red[:, 0, 0] % 10, targets)
        assert torch.equal(green[0], torch.arange(32)[:, None].expand(32, 32))
        assert torch.equal(blue[0], torch.arange(32).expand(32, 32))
        seen += red[:, 0, 0].tolist()
    assert sorted(seen[:100]) == list(range(20, 120)) and sorted(seen[100:]) == list(range(20))
    assert [len(split.inputs) for split in public.load_cifar10(limit=3).splits.values()] == [
        3,
        3,
        3,
    ]


def test_an_archive_is_not_unpacked(server, monkeypatch, tmp_path):
    publish(server, monkeypatch, "cifar10", cifar_archive())
    public.load_cifar10()
    files = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert files - {"cifar-10-binary.tar.gz.lock"} == {"cifar-10-binary.tar.gz"}


RATINGS = """\
2\t10\t5\t300
1\t30\t3\t200
1\t10\t4\t100
2\t20\t1\t100
1\t20\t2\t300
2\t30\t2\t300
1\t40\t5\t200
"""


def test_the_last_rating_of_each_user_is_for_the_test(server, monkeypatch):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ml-100k/u.data", RATINGS)
        archive.writestr("ml-100k/README", "…")
    publish(server, monkeypatch, "movielens", buffer.getvalue())
    dataset = public.load_movielens()
    rows = {
        name: [(*pair, stars) for pair, stars in zip(*(t.tolist() for t in split), strict=True)]
        for name, split in dataset.splits.items()
    }
    assert rows == {
        "train": [(0, 9, 3), (1, 19, 0), (0, 29, 2)],
        "validation": [(0, 39, 4), (1, 9, 4)],
        "test": [(0, 19, 1), (1, 29, 1)],
    }
    assert dataset["train"].inputs.dtype == dataset["train"].targets.dtype == torch.int64
    assert len(dataset.classes) == 5


def test_later_rows_of_a_user_are_counted():
    users = np.random.default_rng(0).integers(1, 9, size=200)
    slow = [int((users[i + 1 :] == user).sum()) for i, user in enumerate(users)]
    assert public._later_rows(users).tolist() == slow


@pytest.mark.parametrize("name", public.FILES)
def test_without_a_network_a_dataset_names_what_is_there_instead(name, monkeypatch, closed):
    unreachable = tuple(file._replace(mirrors=(closed,)) for file in public.FILES[name])
    monkeypatch.setitem(public.FILES, name, unreachable)
    with pytest.raises(
        DownloadFailed, match=r"refused\. Try again later; [^\n]* with the kit\.$"
    ) as e:
        getattr(public, f"load_{name}")()
    (instead,) = re.findall(r"kit\.data\.(\w+)\(\)", str(e.value))
    assert instead.removeprefix("load_") in kit.data.OFFLINE


# --- What is published ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", public.FILES)
def test_the_table_of_files_is_sound(name):
    for file in public.FILES[name]:
        assert file.name.startswith(f"{name}/")
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", file.digest)
        assert file.mirrors[0].startswith("https://")
        assert file.mirrors[-1].startswith("http://")  # for a Python without certificates
        assert all(place.endswith("/") for place in file.mirrors)
    assert len({file.digest for file in public.FILES[name]}) == len(public.FILES[name])


@pytest.mark.parametrize("name", public.FILES)
def test_what_there_is_to_fetch_is_said(name):
    from kit.core.units import words

    whole = words(sum(file.size_bytes for file in public.FILES[name]), "B")
    assert f"{whole} to fetch, once" in " ".join(getattr(public, f"load_{name}").__doc__.split())
