"""A class measures together: `kit.join` sends this notebook's guesses and measurements to a board.

Nothing is sent that the notebook has not shown first: numbers, and the names of the processor, the
accelerator and the system. A thread sends them. A board that is gone never holds up a lesson: what
could not be sent waits, and the next sentence beside a guess says so once.
"""

from __future__ import annotations

import html
import http.client
import json
import math
import os
import platform
import re
import threading
import time
from contextlib import suppress
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from kit.core.errors import BadValue
from kit.core.files import atomic_write, cache_folder, read_file
from kit.core.statistics import Estimate
from kit.core.tables import Table
from kit.course import panels

CODE = re.compile(r"[A-Z0-9]{4,12}")
NICKNAME = 24  # characters
WAIT_S = 0.2  # the longest that a lesson waits for the board
ANSWER_S = 3.0  # the longest that the thread waits
AGAIN_S = 5.0  # until it tries again
SETTLES_S = 0.3  # a slider that moves sends only the value on which it comes to rest
COPIED_BYTES = 64_000_000  # larger than most caches
PORT = 8010
GONE = "The class board does not answer. Your guess and result stay here until it does."


def wording(text: str) -> str:
    """A question without its numbers, which differ from computer to computer.

    >>> wording("Training looked at 16,000 examples. How many predictions?")
    'training looked at # examples. how many predictions?'
    """
    return re.sub(r"\d[\d.,]*", "#", " ".join(text.lower().split()))[:300]


class Connection:
    """What one notebook sends to a board, in a thread of its own."""

    def __init__(self, code: str, host: str, port: int, nickname: str):
        self.code, self.host, self.port, self.nickname = code, host, port, nickname
        self.state, self.reason = "waiting", ""  # waiting, joined, refused, gone, left
        self.facts = machine_facts()
        self._questions: dict[str, dict[str, Any]] = {}  # wording -> the board's question
        self._early: dict[tuple[str, str], tuple[Any, dict[str, Any]]] = {}  # before they are known
        self._waiting: dict[tuple[str, str], dict[str, Any]] = {}  # the newest of each kind
        self._answered = threading.Event()
        self._more = threading.Condition()
        self._token, self._http = "", http.client.HTTPConnection(host, port, timeout=ANSWER_S)
        self._said_gone = False
        self._before = _reading()
        self._thread = threading.Thread(target=self._run, name="kit-join", daemon=True)

    def start(self) -> None:
        """Begin to send; wait a moment for the board's first answer."""
        self._thread.start()
        self._answered.wait(WAIT_S)

    def heard(self, guess: Any, measured: Any) -> str:
        """A guess was made, or answered by a measurement; a sentence if the board is gone.

        It is called in the notebook's own thread, so it only notes what is to be sent.
        """
        with suppress(Exception):  # whatever happens here, the lesson goes on
            kind, message = _message(guess, measured)
            if kind == "measured":
                message["machine"] = {**self.facts, **self._now()}
            with self._more:
                self._early[kind, wording(guess.question)] = (guess, message)
                self._more.notify()
        if self.state == "gone" and not self._said_gone and measured is not None:
            self._said_gone = True
            return GONE
        return ""

    def close(self) -> None:
        """Send what waits, if that takes no time, and end."""
        until = time.monotonic() + WAIT_S
        while (self._early or self._waiting) and time.monotonic() < until:
            if self.state != "joined":
                break
            time.sleep(0.01)
        with self._more:
            self.state = "left"
            self._more.notify()

    # --- The thread ---

    def _run(self) -> None:
        with suppress(Exception):
            while self.state not in ("left", "refused"):
                self._round()

    def _round(self) -> None:
        """Join if that is still to do, send what waits, and wait for more."""
        reached = self._token != "" or self._join()
        if reached and self.state == "joined":
            self._sort()
            for key in list(self._waiting):
                reached = reached and self._send(key)
        with self._more:
            if self.state in ("left", "refused"):
                return
            if not self._early:
                self._more.wait(AGAIN_S if self._waiting or not reached else None)
        time.sleep(SETTLES_S)

    def _join(self) -> bool:
        body = {"code": self.code, "nickname": self.nickname, "before": self._remembered()}
        status, answer = self._post("/api/join", body)
        if status == 200:
            self._token = str(answer["token"])
            self._questions = {each["wording"]: each for each in answer["questions"]}
            self._remember()
            self.state = "joined"
        elif 400 <= status < 500 and status != 429:
            self.state, self.reason = "refused", _reason(status, answer)
        self._answered.set()
        return status == 200

    def _sort(self) -> None:
        """Keep what answers a question of the class; drop the others."""
        with self._more:
            early, self._early = self._early, {}
        for (kind, words), (guess, message) in early.items():
            asked = self._questions.get(words)
            choices = len(getattr(guess, "names", ()))
            if asked and asked["choices"] == choices:
                self._waiting[kind, asked["id"]] = {"question": asked["id"], **message}

    def _send(self, key: tuple[str, str]) -> bool:
        status, answer = self._post(f"/api/{key[0]}", self._waiting[key])
        if status == 401:  # a board that was started again in another folder
            self._token = ""
        elif status not in (0, 429) and status < 500:
            del self._waiting[key]
        if status == 410:
            self.state, self.reason = "refused", _reason(status, answer)
        return status not in (0, 401, 429)

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The status and the answer; status 0 if the board cannot be reached."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
        data = json.dumps(body, allow_nan=False).encode()
        for last in (False, True):  # a connection that was idle may have been closed meanwhile
            try:
                self._http.request("POST", path, data, headers)
                reply = self._http.getresponse()
                found = json.loads(reply.read(100_000) or b"{}")
                if self.state == "gone":
                    self.state, self._said_gone = "joined" if self._token else "waiting", False
                return reply.status, found
            except (OSError, http.client.HTTPException, ValueError):
                self._http.close()
                if last and self.state in ("waiting", "joined"):
                    self.state = "gone"
        self._answered.set()
        return 0, {}

    # --- The same student after a restart of the kernel ---

    @property
    def _memory(self) -> Any:
        return cache_folder() / "class" / f"{self.host}-{self.port}-{self.code}.json".lower()

    def _remembered(self) -> str:
        with suppress(OSError, ValueError, KeyError, TypeError):
            return str(json.loads(read_file(self._memory, 1_000))["token"])
        return ""

    def _remember(self) -> None:
        with suppress(OSError), atomic_write(self._memory) as draft:
            draft.write_text(json.dumps({"token": self._token}))

    def _now(self) -> dict[str, Any]:
        """What else this computer did since the last measurement."""
        now = _reading()
        found = _between(self._before, now)
        self._before = now
        return found


def _reason(status: int, answer: dict[str, Any]) -> str:
    """Why the board refused, in its own words."""
    return str(answer.get("error", ""))[:200] or f"status {status}. Is it a class board?"


# --- What is sent --------------------------------------------------------------------------------


def _message(guess: Any, measured: Any) -> tuple[str, dict[str, Any]]:
    """The kind of message and its numbers."""
    names = list(getattr(guess, "names", ()))
    value = guess.value
    if value is not None:
        value = names.index(value[0]) if names else float(value)
    if measured is None:
        return "guess", {"guess": value}
    if names:
        first = names.index(next(iter(measured)))
        return "measured", {"guess": value, "value": first, "low": first, "high": first}
    found = Estimate.of(measured)
    low, high = (end if math.isfinite(end) else None for end in (found.low, found.high))
    if not found.known:
        low = high = None
    return "measured", {"guess": value, "value": float(found.value), "low": low, "high": high}


def machine_facts() -> dict[str, Any]:
    """What explains why another computer measures something else: numbers and product names."""
    import torch

    from kit import devices
    from kit.devices import processor
    from kit.devices.backends import backend_of

    best = backend_of(devices.present_devices()[0])
    return {
        "processor": processor.model()[:80],
        "accelerator": "" if best.is_cpu else best.name[:80],
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 1,
        "cores_allowed": float(devices.cores_allowed()),
        "memory_bytes": devices.memory_allowed(),
        "copy_bytes_per_s": _copy_rate(),
        "pytorch": float(".".join(torch.__version__.split(".")[:2])),
        **_between(None, _reading()),
    }


@cache
def _copy_rate() -> float:
    """Bytes read and written per second by one thread; the best of three, once in a process."""
    import numpy as np

    one = np.ones(COPIED_BYTES // 8)
    other, times = one.copy(), []
    for _ in range(3):
        began = time.perf_counter()
        np.copyto(other, one)
        times.append(time.perf_counter() - began)
    return 2 * COPIED_BYTES / min(times)


def _reading() -> Any:
    import torch

    from kit import devices

    with suppress(Exception):
        return devices.reading(torch.device("cpu"))
    return None


def _between(before: Any, now: Any) -> dict[str, Any]:
    """Threads, clock, load and battery, now."""
    import psutil
    import torch

    from kit import devices

    battery = None
    with suppress(Exception):  # not every system says it
        found = psutil.sensors_battery()
        battery = 0 if found is None else int(not found.power_plugged)  # None: it has no battery
    busy = devices.between(before, now).busy_elsewhere if before and now else None
    return {
        "threads": torch.get_num_threads(),
        "clock_hz": now.clock_hz if now else None,
        "load": now.load if now else None,
        "busy_elsewhere_cores": busy,
        "on_battery": battery,
    }


# --- What a notebook types -----------------------------------------------------------------------

MEANINGS = {
    "question": ("which question, by its number", "with each guess and result"),
    "guess": ("your guess", "with each guess and result"),
    "value": ("the result that answers it", "with each result"),
    "low": ("the lower end of its interval", "with each result"),
    "high": ("its upper end", "with each result"),
}
NAMES = {
    "processor": "the product name of the processor",
    "accelerator": "the product name of the accelerator; empty without one",
    "system": "operating system and type of processor",
    "cores": "cores of this computer",
    "cores_allowed": "cores that this program may use",
    "memory_bytes": "memory that it may use",
    "copy_bytes_per_s": "bytes that one thread copies per second",
    "pytorch": "the version of PyTorch",
    "threads": "threads that PyTorch uses",
    "clock_hz": "the clock of the processor",
    "load": "programs that wanted a core in the last minute",
    "busy_elsewhere_cores": "cores that other programs used",
    "on_battery": "1 on battery, 0 at the mains",
}


class Joined:
    """What this notebook sends to the board of a class, field by field, with an example."""

    def __init__(self, connection: Connection):
        self._connection = connection

    @property
    def status(self) -> str:
        """Whether the board has answered, in a sentence."""
        at = f"{self._connection.host}:{self._connection.port}"
        return {
            "joined": f"You are in the class at {at}. kit.leave() ends it.",
            "refused": f"The board at {at} refused: {self._connection.reason}",
            "left": "You have left the class. Nothing is sent any more.",
        }.get(
            self._connection.state,
            f"The board at {at} has not answered yet. The kit goes on trying; go on with the "
            "lesson, nothing waits for it.",
        )

    def table(self) -> Table:
        """Each field that is sent, with the value it would have now."""
        connection = self._connection
        example = {"question": "02-1", "guess": 9.0, "value": 3.1, "low": 2.9, "high": 3.3}
        rows = [
            (name, json.dumps(example[name]), f"{meaning}; {when}")
            for name, (meaning, when) in MEANINGS.items()
        ]
        rows += [
            (name, json.dumps(connection.facts.get(name)), f"{meaning}; with each result")
            for name, meaning in NAMES.items()
        ]
        nickname = json.dumps(connection.nickname)
        rows.append(("nickname", nickname, "as you gave it; empty if you gave none; sent already"))
        return Table(
            ("field", "example", "what it is, and when it is sent"),
            rows,
            "This, and nothing else, leaves your computer from your next guess on: no name, no "
            "file, no text, no weights. Until then only the code and the nickname were sent.",
        )

    def __repr__(self) -> str:
        return f"{self.status}\n{self.table()!r}"

    def _repr_html_(self) -> str:
        return f"<p><b>{html.escape(self.status)}</b></p>{self.table()._repr_html_()}"


_current: Connection | None = None


def join(code: str, address: str = "127.0.0.1", *, nickname: str = "") -> Joined:
    """Join the board of your class: your guesses and what you measure appear there, too.

    It shows each field that will be sent. From then on a guess is sent when you make it, and a
    result when your guess is compared with it. The board never holds up the lesson: without an
    answer the kit goes on trying in the background.

    Parameters
    ----------
    code
        The join code on the projector.
    address
        The address on the projector, such as "192.168.1.5:8010".
    nickname
        How the board may call you; without one you are a letter.

    Raises
    ------
    BadValue
        The code, the address or the nickname cannot be one.
    """
    global _current
    leave()
    host, port = _address(address)
    plain = re.sub(r"[\s-]", "", str(code)).upper()
    if not CODE.fullmatch(plain):
        raise BadValue(f"code={code!r:.40}: needs the join code on the board, such as 'K7M2QP'.")
    if not (isinstance(nickname, str) and len(nickname) <= NICKNAME and nickname.isprintable()):
        raise BadValue(f"nickname={nickname!r:.60}: needs at most {NICKNAME} printable characters.")
    _current = Connection(plain, host, port, nickname.strip())
    panels.LISTENERS.append(_current.heard)
    _current.start()
    return Joined(_current)


def leave() -> None:
    """Leave the class: nothing is sent any more."""
    global _current
    if _current is not None:
        panels.LISTENERS[:] = [each for each in panels.LISTENERS if each != _current.heard]
        _current.close()
        _current = None


def _address(address: str) -> tuple[str, int]:
    """The host and the port of an address, with or without `http://`.

    >>> _address("192.168.1.5:8010"), _address("http://teacher.local/")
    (('192.168.1.5', 8010), ('teacher.local', 8010))
    """
    with suppress(ValueError, AttributeError):
        parts = urlsplit(address if "//" in address else f"//{address}")
        if parts.hostname and parts.scheme in ("", "http") and not parts.username:
            return parts.hostname, parts.port or PORT
    raise BadValue(f"address={address!r:.80}: needs the address on the board: '192.168.1.5:8010'.")
