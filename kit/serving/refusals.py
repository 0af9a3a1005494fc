"""A request that the server does not answer: which status it gets, why, and when to try again."""

from __future__ import annotations

import math
from typing import Any, Literal

from kit.core.errors import KitError

# What OpenAI's clients and their users look for in an error.
OPENAI_CODES = {
    **{401: "invalid_api_key", 404: "model_not_found"},
    **{503: "server_overloaded", 504: "timeout"},
}
Reason = Literal["bad", "full", "deadline", "gone", "draining", "failed"]


class RequestRefused(KitError, RuntimeError):
    """A request that gets an error instead of an answer; the application writes it as JSON.

    Parameters
    ----------
    status
        The HTTP status: 4xx if the request must change, 503 if it may be repeated, 504 too late.
    message
        For the client: what was given, what is needed, what to do. It never holds a traceback.
    retry_after_s
        After how many seconds the backlog will have been worked off; None: repeating does not help.
    reason
        One word for the metric `kit_shed_total`; "bad" and "failed" are not counted there.

    Examples
    --------
    >>> refused = RequestRefused(503, "12 requests wait.", retry_after_s=0.25, reason="full")
    >>> refused.status, refused.headers
    (503, {'retry-after': '1', 'retry-after-ms': '250'})
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        retry_after_s: float | None = None,
        reason: Reason = "bad",
    ):
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after_s = retry_after_s
        self.reason = reason

    @property
    def headers(self) -> dict[str, str]:
        """What the reply's header says: `Retry-After` in whole seconds, and in milliseconds.

        Whole seconds are what RFC 9110 knows; the `openai` client prefers milliseconds.
        """
        fields: dict[str, str] = {}
        if self.retry_after_s is not None:
            fields["retry-after"] = str(max(1, math.ceil(self.retry_after_s)))
            fields["retry-after-ms"] = str(max(1, math.ceil(1000 * self.retry_after_s)))
        if self.reason == "draining":
            fields["connection"] = "close"  # the next try shall reach another server
        return fields


def error_body(path: str, status: int, message: str) -> dict[str, Any]:
    """An error in the form of the protocol that the address belongs to.

    >>> error_body("/v2", 400, "needs inputs.")
    {'error': 'needs inputs.'}
    >>> error_body("/v1/completions", 503, "full.")["error"]["code"]
    'server_overloaded'
    """
    if not path.startswith("/v1"):
        return {"error": message}
    kind = "invalid_request_error" if status < 500 else "server_error"
    code = OPENAI_CODES.get(status)
    if status == 400 and "context" in message:
        code = "context_length_exceeded"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
