"""`kit class`: open the class in a folder, and serve its board until it is stopped."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock, Timeout

from kit.classroom.board.board import Board
from kit.classroom.board.journal import Journal
from kit.classroom.board.questions import Question, questions_of
from kit.core.errors import BadValue, KitError, NotInstalled
from kit.core.files import atomic_write, private_folder, read_file
from kit.experiments.execution import find_notebook

LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # without I, L, O, 0 and 1, which look alike
CODE_LENGTH = 6
SETTINGS = "class.json"  # private: it has the secret
BODY_BYTES = 4_096  # of a message
MOST_STUDENTS = 500


@dataclass(frozen=True)
class ClassSettings:
    """What stays the same when the board is started again in the same folder."""

    code: str
    secret: str
    lessons: tuple[str, ...]


@dataclass(frozen=True)
class Served:
    """Where a board is."""

    url: str  # of the page, for this computer
    where: str  # what students type: "192.168.1.5:8010"
    settings: ClassSettings
    damaged: int  # lines of the records that could not be read

    @property
    def teacher(self) -> str:
        """The address of the page with the controls; keep it to yourself."""
        return f"{self.url}/#{self.settings.secret}"


def run_class(
    lessons: Sequence[str],
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8010,
    where: str = "",
    most_students: int = 100,
    ready: Callable[[Served], None] = lambda _: None,
) -> None:
    """Serve the board of a class until Ctrl-C or SIGTERM.

    Parameters
    ----------
    lessons
        Their numbers. None: those that the folder has, or else all.
    folder
        Where everything is recorded. A class that was there before goes on.
    host
        127.0.0.1: only this computer. 0.0.0.0: all computers of the network.
    where
        The address that students type, if it is not the one that this computer finds.
    ready
        Called once the board answers.

    Raises
    ------
    NotInstalled
        The extra `serve` is missing.
    KitError
        The port is in use, or another board writes into the folder.
    """
    if missing := [name for name in ("httptools", "starlette", "uvicorn") if not find_spec(name)]:
        raise NotInstalled("the board of a class", missing, "serve")
    if not 1 <= most_students <= MOST_STUDENTS:
        raise BadValue(f"{most_students} students: needs 1 to {MOST_STUDENTS}.")
    private_folder(folder)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        with lock:
            settings = _settings(folder, lessons)
            listening = _bind(host, port)
            with listening:
                journal = Journal(folder)
                _serve(settings, journal, listening, host, where, most_students, ready)
                journal.close()
    except Timeout:
        raise KitError(
            f"{folder}: another board is running there. Stop it, or give --out."
        ) from None


def _settings(folder: Path, lessons: Sequence[str]) -> ClassSettings:
    """Those of the folder; new ones if it is new, or if other lessons are asked for."""
    path = folder / SETTINGS
    if path.exists():
        found = json.loads(read_file(path, 10_000))
        before = ClassSettings(found["code"], found["secret"], tuple(found["lessons"]))
    else:
        code = "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))
        before = ClassSettings(code, secrets.token_urlsafe(18), ())
    chosen = tuple(find_notebook(name).name[:2] for name in lessons) or before.lessons
    settings = ClassSettings(before.code, before.secret, chosen or all_lessons())
    with atomic_write(path) as draft:
        os.chmod(draft, 0o600)
        draft.write_text(json.dumps(asdict(settings)), encoding="utf-8")
    return settings


def all_lessons() -> tuple[str, ...]:
    """The numbers of all lessons."""
    from kit.experiments.execution import lessons

    return tuple(path.name[:2] for path in lessons())


def _serve(
    settings: ClassSettings,
    journal: Journal,
    listening: socket.socket,
    host: str,
    where: str,
    most_students: int,
    ready: Callable[[Served], None],
) -> None:
    """Serve on this socket until the end."""
    import uvicorn

    from kit.classroom.board.application import BoardApplication
    from kit.serving.limits import Limits, uvicorn_settings

    questions = _questions(settings, journal)
    board = Board(questions, journal, most_students=most_students)
    port = listening.getsockname()[1]
    where = where or f"{_own_address(host)}:{port}"
    served = Served(f"http://127.0.0.1:{port}", where, settings, journal.damaged)
    application = BoardApplication(board, settings.code, settings.secret, where)
    limits = Limits(
        max_body_bytes=BODY_BYTES, max_bodies_bytes=BODY_BYTES * 1_000, max_connections=700
    )
    config = uvicorn.Config(
        application.asgi,
        log_config=None,
        lifespan="off",
        timeout_graceful_shutdown=1,
        **uvicorn_settings(limits=limits),
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            self.publishing = asyncio.get_running_loop().create_task(application.publish())
            ready(served)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            application.ended.set()
            await self.publishing
            await super().shutdown(sockets)

    Server(config).run([listening])


def _questions(settings: ClassSettings, journal: Journal) -> list[Question]:
    """The questions of the lessons; the journal gets those that it has not noted yet."""
    found = questions_of([find_notebook(number) for number in settings.lessons])
    if not found:
        raise BadValue(f"lessons {', '.join(settings.lessons)}: they have no question to guess.")
    noted = {e["id"]: e for e in journal.events if e["event"] == "question"}
    for each in found:
        event = {"event": "question", **each.to_dict()}
        if noted.get(each.id) != event:
            journal.append(event)
    return found


def _bind(host: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # a port that was just used can be used again
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(1_024)
    except OSError as error:
        made.close()
        problem = f"{host}:{port}: {error.strerror or error}"
        raise KitError(f"{problem}. Give another --port; 0 takes any free one.") from error
    return made


def _own_address(host: str) -> str:
    """The address of this computer in its network; nothing is sent to find it."""
    if host not in ("0.0.0.0", "::", ""):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation: nobody has it
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
