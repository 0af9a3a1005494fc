"""What protects the process: how much of it a client can take, and uvicorn's settings for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kit.serving.admission import Admission

if TYPE_CHECKING:
    from kit.serving.short_path import Infer

Door = Callable[[str, str], Admission | None]  # (method, path) -> whose place the request takes


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of the process a client can take."""

    max_body_bytes: int = 16_000_000
    max_bodies_bytes: int = 256_000_000  # of all requests that are being received
    max_header_bytes: int = 16_384  # the request line and all header fields
    header_time_s: float = 5.0  # from a connection, or the first byte of a later request
    body_time_s: float = 10.0
    idle_time_s: float = 15.0  # between two requests of a connection
    max_connections: int = 1_024
    max_pipelined: int = 16  # requests of a connection that wait for the answer to an earlier one


def uvicorn_settings(
    door: Door = lambda method, path: None,
    limits: Limits = Limits(),
    on_refused: Callable[[int, str], None] = lambda status, reason: None,
    infer: Infer | None = None,
) -> dict[str, Any]:
    """Keyword arguments for `uvicorn.Config` that set the limits.

    Parameters
    ----------
    door
        Takes the method and the path; gives the admission that such a request has to pass, or None
        for requests that are never refused: health, metrics.
    limits
        See `Limits`.
    on_refused
        Called for each request that the connection itself refuses, with the status and, if it is
        503, the reason: "connections" or "bodies". The door counts its own refusals.
    infer
        The application, for the short path of infer requests; None: all go by ASGI.

    Examples
    --------
    >>> sorted(uvicorn_settings())
    ['access_log', 'backlog', 'http', 'log_level', 'proxy_headers', 'server_header', \
'timeout_keep_alive', 'ws']
    """
    from kit.serving.limited_protocol import LimitedProtocol, Received
    from kit.serving.short_path import Heads

    shared = {
        "door": staticmethod(door),
        "limits": limits,
        "on_refused": staticmethod(on_refused),
        "received": Received(),
        "infer": infer,
        "heads": Heads(),
    }
    return {
        "http": type("Protocol", (LimitedProtocol,), shared),
        "ws": "none",  # an upgrade is answered as if it had not been asked for
        "backlog": limits.max_connections,
        "timeout_keep_alive": limits.idle_time_s,
        "access_log": False,
        "log_level": "critical",  # a hostile client must not fill the disk with warnings
        "proxy_headers": False,  # nobody may claim another address
        "server_header": False,
    }
