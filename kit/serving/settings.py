"""The settings of a server: checked once, then a file in its private folder."""

from __future__ import annotations

import ipaddress
import json
import math
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kit.core.checks import check_positive, check_whole, is_number
from kit.core.errors import BadValue, NotSupported
from kit.serving.admission import PROTECTIONS

FILE = "settings.json"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # it stands in addresses
# What a running server can change.
CHANGEABLE = ("max_batch", "max_wait_s", "wait_if_idle", "deadline_s", "max_waiting", "protect")
LEAST_TOKEN = 16  # characters: nobody guesses 16 random ones


@dataclass(frozen=True)
class Settings:
    """The settings of a server; `kit.serve` explains each of them."""

    name: str = "model"
    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    workers: int = 1
    threads: int = 1
    max_batch: int = 32
    max_wait_s: float = 0.002
    wait_if_idle: bool = False
    deadline_s: float = 1.0
    max_waiting: int | str = "auto"
    protect: tuple[str, ...] = PROTECTIONS
    max_body_bytes: int = 16 * 2**20
    max_connections: int = 1024
    drain_s: float = 20.0
    slots: int = 16

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_address(self.host, self.token)
        _check_numbers(self)
        unknown = set(self.protect) - set(PROTECTIONS)
        if isinstance(self.protect, str) or unknown:
            raise BadValue(
                f"protect={self.protect!r}: needs a tuple of names among {PROTECTIONS}; an empty "
                f"tuple switches all protections off."
            )

    def write(self, folder: Path) -> None:
        """Write them into the server's private folder."""
        (folder / FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Settings:
        """The settings in the server's private folder."""
        values: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Settings(**{**values, "protect": tuple(values["protect"])})


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches the address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise BadValue(
            f"name={name!r:.80}: needs up to 64 letters, digits, '.', '_' or '-', because it is "
            f"part of the server's addresses."
        )


def _check_address(host: str, token: str | None) -> None:
    """Loopback by default; another address only with a token."""
    if token is not None and (
        not isinstance(token, str)
        or len(token) < LEAST_TOKEN
        or not token.isascii()
        or not token.isprintable()
        or " " in token
    ):
        raise BadValue(
            f"token: needs at least {LEAST_TOKEN} printable ASCII characters without spaces, such "
            f"as secrets.token_urlsafe() makes."
        )
    if not is_loopback(host) and token is None:
        raise BadValue(
            f"host={host!r}: other computers could reach this address, so it needs a token: "
            f"kit.serve(model, host={host!r}, token=secrets.token_urlsafe()). Without a token, "
            f"use host='127.0.0.1'."
        )


def _check_numbers(given: Settings) -> None:
    check_whole("port", given.port, 0, 65535)
    for name in ("workers", "threads", "max_batch", "max_body_bytes", "max_connections", "slots"):
        check_whole(name, getattr(given, name))
    for name in ("deadline_s", "drain_s"):
        check_positive(name, getattr(given, name), "seconds, a number")
    if not (is_number(given.max_wait_s) and 0 <= given.max_wait_s < math.inf):
        raise BadValue(f"max_wait_s={given.max_wait_s!r}: needs seconds, a number of at least 0.")
    if not isinstance(given.wait_if_idle, bool):
        raise BadValue(f"wait_if_idle={given.wait_if_idle!r}: needs True or False.")
    if given.max_waiting != "auto":
        check_whole("max_waiting", given.max_waiting, hint='"auto" follows the measured rate.')


def check_platform(workers: int) -> None:
    """Refuse replicas where processes cannot share a listening socket."""
    import os

    if workers > 1 and os.name != "posix":
        raise NotSupported(
            f"workers={workers}: processes cannot share one listening socket on this system. "
            f"Use workers=1, or start several servers on several ports."
        )
