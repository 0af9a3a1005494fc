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
from kit.experiments.class_records import BOARD_BYTES, BOARD_FILE, events_in

LINE_BYTES = 4_000


class Journal:
    """The file of a class; `events` are those that it had when it was opened."""

    def __init__(self, folder: Path):
        self.path = private_folder(folder) / BOARD_FILE
        self.damaged = 0  # lines that were passed over
        self.events = list(self._read()) if self.path.exists() else []
        self._file = open(self.path, "ab", buffering=0, opener=open_without_links)  # noqa: SIM115
        os.chmod(self.path, 0o600)
        self.size = self._file.seek(0, os.SEEK_END)
        if self.size and not self._ended:
            self._write(b"\n")

    def _read(self) -> Iterator[dict[str, Any]]:
        found = read_file(self.path, BOARD_BYTES)
        self._ended = found.endswith(b"\n")
        events, self.damaged = events_in(found)
        yield from events

    def append(self, event: dict[str, Any]) -> None:
        """Add an event; when this returns, the operating system has it.

        Raises
        ------
        KitError
            The file is as large as it may become.
        """
        if self.size > BOARD_BYTES - LINE_BYTES:
            raise KitError(f"{self.path} has {self.size:,} bytes. Begin a class in a new folder.")
        self._write(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    def _write(self, line: bytes) -> None:
        self.size += len(line)
        while line:  # a write may take a part only
            line = line[self._file.write(line) :]

    def close(self) -> None:
        """Close the file; it stays."""
        self._file.close()
