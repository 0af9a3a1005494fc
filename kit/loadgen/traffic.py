"""Traffic for a real server over HTTP: requests that arrive at random, or from users who wait."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from kit.core.checks import check_positive, check_whole, is_number
from kit.core.errors import BadValue, CallFailed
from kit.core.statistics import Estimate, samples_needed
from kit.loadgen.arrivals import MOST_ARRIVALS, trace, within
from kit.loadgen.client_limit import check_rate, check_run, client_limit
from kit.loadgen.http_answers import FAILURES
from kit.loadgen.http_requests import Target, prepare
from kit.loadgen.sender import Plan
from kit.loadgen.sender_process import SenderProcess, sender_process
from kit.loadgen.traffic_result import TrafficResult
from kit.measurement import Conditions, Observer, Stopwatch

WARM_UP = 8  # untimed requests of an open loop, each on a connection of its own
MOST_USERS = 10_000


def traffic(
    url: str,
    inputs: Any = None,
    *,
    rate: float | None = None,
    users: int | None = None,
    think_s: float = 0.0,
    arrivals: str | Sequence[float] | np.ndarray = "poisson",
    duration_s: float = 2.0,
    target_s: float | None = None,
    ttft_target_s: float | None = None,
    tpot_target_s: float | None = None,
    percentile: float = 99,
    timeout_s: float = 10.0,
    deadline_s: float | None = None,
    retries: int = 0,
    model: str | None = None,
    batch_size: int = 1,
    stream: bool | None = None,
    max_tokens: int = 16,
    connections: int = 1_000,
    headers: Mapping[str, str] | None = None,
    token: str | None = None,
    capacity: float | Estimate | None = None,
    seed: int = 0,
) -> TrafficResult:
    """Send requests to a server, and record when each was due, sent and answered.

    `rate` alone is an open loop: requests are sent when they are due, however slow the server is.
    `users` alone is a closed loop: each user waits for the answer, thinks for `think_s` on average,
    and asks again. Both together are a closed loop with a schedule, as in `wrk2`: a user who still
    waits for an answer cannot send the next request when it is due. Compare `corrected` and
    `uncorrected` there.

    The requests are sent by a process of its own. It first measures its own limit, and refuses to
    give a number where it would be the limit.

    Parameters
    ----------
    url
        The server, e.g. "http://127.0.0.1:8000": it is asked for its models, and what they take.
        With a path, the requests go to that path.
    inputs
        An array (N, …) or name -> array: sent in turn, `batch_size` rows per request, by the Open
        Inference Protocol with binary tensors. A text or a list of texts: prompts for
        /v1/completions. bytes, or a list of bytes: any body. None: what the server's metadata asks
        for.
    rate
        Requests per second, on average.
    users
        People who wait for their answers; each has a connection.
    think_s
        The mean time that a user thinks before the next request; it is exponential.
    arrivals
        "poisson", "constant", "bursts", or moments in seconds (a recorded trace, or
        `kit.loadgen.phases`). A rate stretches a trace; the trace decides the duration.
    duration_s
        Seconds during which requests arrive.
    target_s, ttft_target_s, tpot_target_s
        Limits for the latency, and for streams the time to first token and per further token.
        `goodput` counts the requests that met all of them. With `target_s`, the run begins when a
        request alone is answered within it, or after 5 s: no queue is left from an earlier run.
    percentile
        Of the requests that shall meet `target_s`.
    timeout_s
        A request without an answer by then is given up, and its connection closed.
    deadline_s
        What the request itself tells the server: it may refuse what it cannot answer by then.
    retries
        How often a request is sent again after a time-out, a lost connection, or a status 408, 409,
        429 or ≥ 500. The default is none: repeated requests hide that a server is full.
    model
        The name of the model, where a server has several.
    stream
        Whether completions are streamed, token by token: they are, unless this is False.
    max_tokens
        New tokens per completion.
    connections
        The most requests in flight; one more is not sent, and counts as failed.
    headers, token
        Further headers; the token is sent as "Authorization: Bearer …".
    capacity
        Requests per second of the server, if known: near it, more requests are needed for a
        verdict.
    seed
        Of the arrivals, the thinking and the random inputs.

    Returns
    -------
    TrafficResult
        Raw times and statuses; everything else follows from them.

    Raises
    ------
    ClientTooSlow
        The client, not the server, would be the limit, or was.
    CallFailed
        No server answers, or it says that the requests are wrong.
    BadValue
        An argument does not fit.

    Explained in lesson 11.
    """
    _check(rate, users, think_s, arrivals, retries, connections, batch_size, max_tokens)
    samples_needed(percentile)  # refuses a percentile out of range
    targets: dict[str, Any] = {"target_s": target_s}
    targets |= {"ttft_target_s": ttft_target_s, "tpot_target_s": tpot_target_s}
    times = {"duration_s": duration_s, "timeout_s": timeout_s, "deadline_s": deadline_s}
    for name, value in {**targets, **times}.items():
        if value is not None:
            check_positive(name, value)
    schedule, kind, duration_s, rate = _schedule(rate, users, arrivals, duration_s, seed)
    bearer = {"Authorization": f"Bearer {token}"} if token else {}
    target = prepare(
        url,
        inputs,
        model=model,
        batch_size=batch_size,
        deadline_s=deadline_s,
        stream=stream,
        max_tokens=max_tokens,
        headers={**bearer, **(headers or {})},
        seed=seed,
    )
    streamed = target.text and stream is not False
    warm_up = min(users or WARM_UP, connections, WARM_UP if users is None else MOST_USERS)
    plan = Plan(duration_s, users, think_s, retries, streamed, seed, warm_up, target_s)
    with sender_process() as sender:
        limit = _limit(sender, target, streamed, timeout_s)
        if rate is not None:
            check_rate(rate, limit)
        observer = Observer(Stopwatch("cpu"))
        reply, times_s = sender.ask(
            "run",
            [schedule.tobytes(), *target.requests],
            host=target.host,
            port=target.port,
            plan=asdict(plan),
            connections=max(connections, users or 0),
            timeout_s=timeout_s,
        )
        conditions = _own(observer.conditions())
    raw = _raw(times_s, target.text, streamed)
    result = TrafficResult(
        url=url,
        model=target.model,
        loop="open" if users is None else "closed" if rate is None else "closed with a schedule",
        arrivals=kind,
        rate=rate,
        users=users,
        think_s=think_s,
        duration_s=duration_s,
        **targets,
        percentile=percentile,
        timeout_s=timeout_s,
        retries=retries,
        batch_size=batch_size,
        seed=seed,
        client_limit=limit,
        client_busy_share=reply["busy_share"],
        capacity=None if capacity is None else Estimate.of(capacity),
        conditions=conditions,
        **raw,
    )
    # Only an open loop can be late: a user sends when an answer has come, whenever that is.
    lag = np.array(result.lag_s) if users is None else None
    check_run(result.client_busy_share, lag, np.array(result.latencies_s))
    return result


def _check(
    rate: Any,
    users: Any,
    think_s: Any,
    arrivals: Any,
    retries: Any,
    connections: Any,
    batch_size: Any,
    max_tokens: Any,
) -> None:
    if rate is None and users is None and isinstance(arrivals, str):
        raise BadValue("no traffic: needs rate=…, users=…, or moments as arrivals=….")
    if rate is not None:
        check_positive("rate", rate)
    if users is not None:
        check_whole("users", users, 1, MOST_USERS)
    if not is_number(think_s) or not 0 <= think_s < float("inf"):
        raise BadValue(f"think_s={think_s!r}: needs seconds, a number of at least 0.")
    if think_s and users is None:
        raise BadValue("think_s without users: in an open loop nobody thinks. Give users=….")
    check_whole("retries", retries, 0, 10)
    check_whole("connections", connections)
    check_whole("batch_size", batch_size)
    check_whole("max_tokens", max_tokens)


def _schedule(
    rate: float | None, users: int | None, arrivals: Any, duration_s: float, seed: int
) -> tuple[np.ndarray, str, float, float | None]:
    """When requests are due; what kind of arrivals that is; for how long; and the mean rate."""
    if not isinstance(arrivals, str):
        moments = trace(arrivals, rate)
        lasts_s = float(moments[-1]) or duration_s
        if len(moments) > MOST_ARRIVALS:
            raise BadValue(f"{len(moments):,} arrivals: needs {MOST_ARRIVALS:,} or fewer.")
        return moments, "trace", lasts_s, len(moments) / lasts_s
    if rate is None:
        return np.zeros(0), "users", duration_s, None
    moments = within(arrivals, rate, duration_s, seed)
    return moments, arrivals, duration_s, rate


def _own(conditions: Conditions) -> Conditions:
    """Without what other programs did: the server and the sender are such programs themselves.

    Whether they got in each other's way shows in how late the requests were sent.
    """
    if conditions.surroundings is None:
        return conditions
    quiet = replace(conditions.surroundings, busy_elsewhere=None, load=None)
    return replace(conditions, surroundings=quiet)


def _limit(sender: SenderProcess, target: Target, streamed: bool, timeout_s: float) -> float:
    """The client's own limit, for requests and answers of this size; the first answer shows it."""
    request = target.requests[0]
    reply, (head, body) = sender.ask(
        "probe", [request], host=target.host, port=target.port, timeout_s=timeout_s
    )
    status = reply["status"]
    if 400 <= status < 500 and status not in (408, 429):
        said = body.decode("utf-8", "replace")
        raise CallFailed(f"the server answers {status} to the first request: {said:.300}")
    if status < 0 and FAILURES[status] == "connection failed":
        raise CallFailed(f"{target.host}:{target.port}: no connection. Is the server running?")
    return client_limit(len(request), len(head) + len(body), streamed)


def _raw(pieces: list[bytes], text: bool, streamed: bool) -> dict[str, Any]:
    """The sender's arrays by the names of the result's fields, in the order of the schedule.

    They stay arrays: a tuple of a million numbers takes four times their memory.
    """
    scheduled, sent, ended, first = (array("d", piece) for piece in pieces[:4])
    statuses, attempts, tokens = (array("i", piece) for piece in pieces[4:])
    return {
        "scheduled_s": scheduled,
        "sent_s": sent,
        "ended_s": ended,
        "statuses": statuses,
        "attempts": attempts,
        "first_tokens_s": first if streamed else (),
        "tokens": tokens if text else (),
    }
