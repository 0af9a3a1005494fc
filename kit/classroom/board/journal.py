"""Everything that happens in a class, in a file of JSON lines to which lines are only added.

Each line is written at once, so nothing is lost if the process is killed. A computer that loses its
power may leave half a line: it is passed over, and the next line begins on a line of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kit.core.errors import KitError
from kit.core.files import open_without_links, private_folder, read_file

FILE = "board.jsonl"
MOST_BYTES = 100_000_000  # of a file: an hour with 60 laptops takes a twentieth
LINE_BYTES = 4_000


class Journal:
    """The file of a class; `events` are those that it had when it was opened."""

    def __init__(self, folder: Path):
        self.path = private_folder(folder) / FILE
        self.damaged = 0  # lines that were passed over
        self.events = list(self._read()) if self.path.exists() else []
        self._file = open(self.path, "ab", buffering=0, opener=open_without_links)  # noqa: SIM115
        os.chmod(self.path, 0o600)
        self.size = self._file.seek(0, os.SEEK_END)
        if self.size and not self._ended:
            self._write(b"\n")

    def _read(self) -> Iterator[dict[str, Any]]:
        found = read_file(self.path, MOST_BYTES)
        self._ended = found.endswith(b"\n")
        events, self.damaged = parsed(found)
        yield from events

    def append(self, event: dict[str, Any]) -> None:
        """Add an event; when this returns, the operating system has it.

        Raises
        ------
        KitError
            The file is as large as it may become.
        """
        if self.size > MOST_BYTES - LINE_BYTES:
            raise KitError(f"{self.path} has {self.size:,} bytes. Begin a class in a new folder.")
        self._write(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        self.size += len(line)
        while line:  # a write may take a part only
            line = line[self._file.write(line) :]

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()


def parsed(found: bytes) -> tuple[list[dict[str, Any]], int]:
    r"""The events in a file, and how many lines cannot be read.

    >>> parsed(b'{"event": "joined"}\n{"event": "gue')
    ([{'event': 'joined'}], 1)
    """
    events, damaged = [], 0
    for line in found.splitlines():
        try:
            event = json.loads(line)
            if not isinstance(event.get("event"), str):
                raise ValueError
            events.append(event)
        except (ValueError, AttributeError, RecursionError):
            damaged += 1
    return events, damaged
