"""How many people one server can serve: the kit's beside mosec, LitServe, FastAPI and BentoML.

    sudo apt-get install wrk
    python3 -m venv ../peers && . ../peers/bin/activate    # apart: the kit needs none of them
    pip install torch==2.13.0                              # or as your computer needs it
    pip install -c constraints.txt -e ".[serve]" -r benchmarks/requirements-serving.txt
    python benchmarks/serving.py                # about 40 minutes, on a machine left alone;
                                                # started again, it goes on
    python benchmarks/serving.py --seconds 2    # about 25; floods of 30 s
    python benchmarks/serving.py --quick        # only to try it, a minute; keeps nothing
    python benchmarks/serving.py table          # the saved figures
    python benchmarks/serving.py steady         # the kit alone at 80 % of its capacity, ten minutes
    python benchmarks/serving.py table --into serving_steady   # what that saved
    python benchmarks/serving.py --servers kit --rounds 2 --searches 1 --into serving_kit

All serve the same MLP with 4.35 million parameters, on one thread. Those that batch take up to 32
rows and wait up to 5 ms; BentoML chooses its wait. A request has one row: as a binary tensor of
the Open Inference Protocol (kit), as raw float32 (mosec, FastAPI), or as JSON (LitServe, BentoML).
Each server's answers are compared with `kit.predict` first; one that differs is not measured.
Where a server has a time limit for a request, it is 0.25 s (BentoML: 1 s). The same client,
`kit.traffic`, loads them all; `wrk` is a second opinion on the throughput.

Only one server runs at a time. It is started and stopped again in each round, and each round has
another order, so a slow hour of the machine touches all alike. Parts of a round:

low       Poisson, 50 requests/s: the median latency; also of uvicorn alone, and of the kit with its
          smallest model. Their difference is what the kit's server adds to a bare reply.
peak      64 connections without pauses: answers per second, by kit.traffic and by wrk
half      an open loop at half of that: p99
search    `highest_rate`: the highest rate whose run had 99 % answered within 20 ms. Its interval is
          from what is sure to what is surely too high.
flood     half load, then 3 × the peak, then half load again. Goodput counts answers within 0.25 s.
          The client gives up after 1 s, and has at most 1,000 requests open. How long the flood
          lasted stands below the table.

Memory is that of all processes of a server; a page that several share counts once. The start ends
with the first answer. Offline is `kit.predict` with 32 rows at a time in this process, no HTTP.
"""

import argparse
import json
import os
import random
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import psutil
import serving_servers as servers
import torch
from keeping import RESULTS, Parts, keep
from serving_servers import BARE, KIT, PEERS, SMALL

import kit
from kit.core.statistics import Estimate, median
from kit.core.units import digits, words
from kit.loadgen import ClientTooSlow, phases
from kit.loadgen.arrivals import MOST_ARRIVALS
from kit.loadgen.http_rate_search import highest_http_rate

USERS, LOW_RATE, TARGET_S, IN_TIME_S = 64, 50, 0.02, 0.25
FLOODS = (3, 2, 1.5)  # × the peak: less, if the client cannot send as much
PARTS = ("low", "peak", "half", "search", "flood")
NAMES = {server.name: server for server in (KIT, *PEERS)}


@dataclass(frozen=True)
class Plan:
    """How long each part takes."""

    seconds: float = 4.0
    rounds: int = 6
    searches: int = 2
    percentile: float = 99
    close: float = 1.1  # the search ends when its ends are this near to their neighbours
    flood: float = 15  # × seconds: the flood, and the time after it; a minute each at most

    @property
    def flood_s(self):
        return min(60.0, self.flood * self.seconds)


# --- Parts ---------------------------------------------------------------------------------------


def low(found, plan, peak):
    """The median latency where requests are rare."""
    run = kit.traffic(found.url, rate=LOW_RATE, duration_s=plan.seconds, **found.sent)
    return {"low_p50_s": float(np.median(run.latencies_s))}


def peak(found, plan, peak):
    """Answers per second to users who do not think."""
    run = kit.traffic(found.url, users=USERS, duration_s=plan.seconds, **found.sent)
    told = {"peak": run.throughput, "failed_at_peak": run.failed, "client": run.client_busy_share}
    told["wrk"] = servers.wrk(found, USERS, plan.seconds)
    told["memory_bytes"] = found.memory_bytes()
    if found.server == KIT:  # what is left of it if a request brings a whole batch
        full = {"batch_size": servers.MAX_BATCH, "users": 4, "duration_s": plan.seconds}
        run = kit.traffic(found.url, **full, **found.sent)
        told["rows_of_full_batches"] = servers.MAX_BATCH * run.throughput
    return told


def half(found, plan, peak):
    """p99 at half of the peak."""
    run = kit.traffic(found.url, rate=peak / 2, duration_s=plan.seconds, **found.sent)
    at = float(np.percentile(run.latencies_s, 99, method="higher"))
    return {"half_p99_s": at, "half_requests": run.n, "half_failed": run.failed}


def search(found, plan, peak):
    """The highest rate within the target."""
    asked = {"target_s": TARGET_S, "percentile": plan.percentile, "seed": 0, **found.sent}
    result = highest_http_rate(
        found.url,
        asked=asked,
        budget_s=plan.seconds / 2,
        longest_s=2 * plan.seconds,
        close=plan.close,
        capacity=peak,
        sure=False,
    )
    seen = result.seen  # of short runs hardly a rate is sure: the interval says so
    high = seen.high if np.isfinite(seen.high) else None
    rates = {"highest_rate": seen.value, "surely": seen.low, "too_high": high}
    return rates | {"trials": len(result.trials)}


def flood(found, plan, peak):
    """Goodput before, during and after more requests than the server can answer."""
    before_s, flood_s = max(plan.seconds, 1.0), plan.flood_s
    before_bytes = found.memory_bytes()
    for times in FLOODS:
        flood_s = min(flood_s, 0.9 * MOST_ARRIVALS / (peak * (times + 1)))
        parts = [(peak / 2, before_s), (times * peak, flood_s), (peak / 2, flood_s)]
        try:
            run = kit.traffic(
                found.url, arrivals=phases(parts), target_s=IN_TIME_S, timeout_s=1.0, **found.sent
            )
        except ClientTooSlow as slow:
            report(f"{found.server.name}: {times} × is too much for the client: {slow}")
            continue
        told = _recovery(run, peak / 2, before_s, before_s + flood_s)
        told |= {"times": times, "flood_s": flood_s, "before_bytes": before_bytes}
        return {"flood": told | {"after_bytes": found.memory_bytes()}}
    return {"flood": {"refused": f"the client cannot send {FLOODS[-1]} × {digits(peak)}/s"}}


def _recovery(run, rate, began_s, ended_s):
    """Shares of the offered half load that were answered in time, before and after."""
    offered, ended = np.array(run.scheduled_s), np.array(run.ended_s)

    def goodput(from_s, until_s):  # of what was asked in this time
        asked = (offered >= from_s) & (offered < until_s)
        return float(run.met[asked].sum()) / (until_s - from_s)

    before, last_s = goodput(0.2 * began_s, began_s), run.duration_s
    steps = np.arange(ended_s, last_s - 0.999, 0.25)
    back = [s for s in steps if goodput(s, s + 1) >= 0.95 * before]
    arrived = (ended >= began_s) & (ended < ended_s)
    return {
        "before": before,
        "during": float((run.met & arrived).sum()) / (ended_s - began_s),
        "two_s_after": goodput(min(ended_s + 2, last_s - 1), min(ended_s + 4, last_s)),
        "at_the_end": goodput(max(ended_s, last_s - 5), last_s),
        "back_after_s": float(back[0] - ended_s) if back else None,
        "half_load": rate,
        "statuses": run.status_counts,
    }


# --- Rounds --------------------------------------------------------------------------------------


def report(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def warm_up(found):
    """Fill some batches; what the client can do in this short time does not matter."""
    with suppress(ClientTooSlow):
        kit.traffic(found.url, users=USERS, duration_s=0.5, **found.sent)


def patiently(part, found, plan, peak):
    """One part, once more if something else on this machine held the client up."""
    try:
        return globals()[part](found, plan, peak)
    except ClientTooSlow as slow:
        report(f"{found.server.name}, {part}, again: {slow}")
        return globals()[part](found, plan, peak)


def visit(server, parts, plan, known):
    """Start a server, measure these parts, stop it: what was found, or why nothing was."""
    rows = np.random.default_rng(0).random((USERS, 64), dtype=np.float32)
    told = {}
    try:
        with servers.running(server, rows) as found:
            told["start_s"] = found.start_s
            if server.answers and not server.small:
                warm_up(found)
            for part in parts:
                told |= patiently(part, found, plan, known or told.get("peak"))
    except Exception as error:  # of one server: the others are still measured
        traceback.print_exc()
        told["error"] = f"{type(error).__name__}: {error}"[:300]
    shown = {k: v for k, v in told.items() if k != "start_s"}
    report(f"{server.name}, {' '.join(parts)}: {shown}")
    return told


def offline(seconds):
    """Rows per second that `kit.predict` computes, 32 at a time; seconds of one row alone."""
    model, rows = servers.big(), torch.rand(servers.MAX_BATCH, 64)
    many = kit.measure(lambda: kit.predict(model, rows), budget_s=seconds).median.value
    one = kit.measure(lambda: kit.predict(model, rows[:1]), budget_s=seconds).median.value
    return {"rows_per_s": servers.MAX_BATCH / many, "one_s": one}


def measure(plan, chosen, quick):
    """(server -> list of what each visit found, what was measured offline)."""
    found, alone = {server: [] for server in (*chosen, SMALL, BARE)}, []
    rounds = [PARTS] if quick else [PARTS[:3]] * plan.rounds
    for i, parts in enumerate(rounds):
        report(f"round {i + 1} of {len(rounds)}")
        alone.append(offline(min(1.0, plan.seconds / 4)))
        for server in random.sample(list(found), len(found)):
            only = parts if server in chosen else ("low",)
            found[server].append(visit(server, only, plan, None))
    for part in [] if quick else ["search"] * plan.searches + ["flood"]:
        for server in random.sample(chosen, len(chosen)):
            if at := [one["peak"] for one in found[server] if "peak" in one]:
                found[server].append(visit(server, (part,), plan, float(np.median(at))))
    return found, alone


def steady(minutes, part_s=30.0):
    """The kit's server at 80 % of its capacity: memory and statuses, half a minute at a time.

    Its deadline is the default of `kit.serve`. Capacity is the highest rate of an open loop at
    which 99 % are answered in time, before and after the long run: the peak of a closed loop is
    more, because a client that waits for answers needs less of the cores that both share. What
    other machines on the same hardware took away (steal time) stands beside each part.
    """
    rows, found = np.random.default_rng(0).random((USERS, 64), dtype=np.float32), []
    with servers.running(KIT, rows, deadline_s=1.0) as running:
        warm_up(running)
        closed = peak(running, replace(Plan(), seconds=min(4.0, part_s)), None)["peak"]
        before = capacity(running, closed, part_s)
        rate = 0.8 * before
        if not rate:
            raise SystemExit("no rate was in time: is something else at work on this machine?")
        report(f"closed loop {closed:.0f}/s, capacity {before:.0f}/s, rate {rate:.0f}/s")
        for i in range(max(1, round(60 * minutes / part_s))):
            stolen = psutil.cpu_times()
            run = kit.traffic(running.url, rate=rate, duration_s=part_s, seed=i, **running.sent)
            at = float(np.percentile(run.latencies_s, 99, method="higher"))
            told = {"requests": run.n, "statuses": run.status_counts}
            told["p99_s"] = at if np.isfinite(at) else None  # None: more than 1 % have no answer
            told["stolen_share"] = stolen_share(stolen, psutil.cpu_times())
            found.append(told | {"memory_bytes": running.memory_bytes()})
            report(f"{i}: {found[-1]}")
        after = capacity(running, closed, part_s)
    bad = sum(n for one in found for status, n in one["statuses"].items() if status != "200")
    first, last = found[0]["memory_bytes"], found[-1]["memory_bytes"]
    return {
        "closed_loop_peak": closed,
        "capacity_before": before,
        "capacity_after": after,
        "rate": rate,
        "minutes": len(found) * part_s / 60,
        "requests": sum(one["requests"] for one in found),
        "not_200": bad,
        "memory_last_to_first": last / first,
        "parts": found,
    }


def capacity(running, closed, part_s):
    """The highest rate of an open loop at which 99 % are answered within `IN_TIME_S`."""
    asked = {"target_s": IN_TIME_S, "percentile": 99, "seed": 0, **running.sent}
    found = highest_http_rate(
        running.url,
        asked=asked,
        budget_s=part_s / 10,
        longest_s=part_s / 3,
        close=1.1,
        capacity=closed,
        sure=False,
    )
    return found.seen.value


def stolen_share(before, after):
    """Of the time of all cores: what the machine below gave to others; None where unknown."""
    if not hasattr(after, "steal"):
        return None
    return (after.steal - before.steal) / (sum(after) - sum(before))


# --- What it tells -------------------------------------------------------------------------------


def figures(visits):
    """The medians of one server's visits."""
    told = {}
    units = {"peak": "/s", "wrk": "/s", "half_p99_s": "s", "low_p50_s": "s", "start_s": "s"}
    for name, unit in {**units, "memory_bytes": "B"}.items():
        timed = [one[name] for one in visits if name in one]
        told[name] = median(timed, unit).to_dict() if timed else None
    tried = [one for one in visits if "highest_rate" in one]
    rates, ends = ([one[k] for one in tried] for k in ("highest_rate", "too_high"))
    if tried:
        high, low = None if None in ends else max(ends), min(one["surely"] for one in tried)
        told["highest_rate"] = {"value": float(np.median(rates)), "low": low, "high": high}
        told["highest_rate"]["unit"] = "/s"
    told["flood"] = next((one["flood"] for one in visits if "flood" in one), None)
    told["failed_requests"] = sum(
        one.get("failed_at_peak", 0) + one.get("half_failed", 0) for one in visits
    )
    return told | {"errors": [one["error"] for one in visits if "error" in one]}


def ratios(found, alone, chosen):
    """The kit's throughput ÷ that of each other server, and of kit.predict: of the same round."""
    told = {}
    for server in chosen:
        pairs = [
            one["peak"] / other["peak"]
            for one, other in zip(found[KIT], found[server], strict=False)
            if "peak" in one and "peak" in other
        ]
        if pairs and server != KIT:
            told[f"kit_to_{server.name}"] = median(pairs, "×")
    for name, key in (("", "peak"), ("_with_32_rows_a_request", "rows_of_full_batches")):
        mine = [one.get(key) for one in found[KIT][: len(alone)]]
        shares = [m / a["rows_per_s"] for m, a in zip(mine, alone, strict=True) if m]
        told[f"kit_to_offline{name}"] = median(shares, "×") if shares else None
    told["offline_rows_per_s"] = median([a["rows_per_s"] for a in alone], "/s")
    told["one_prediction_s"] = median([a["one_s"] for a in alone], "s")
    lows = [(a, b) for a, b in zip(found[SMALL], found[BARE], strict=False)]
    added = [
        a["low_p50_s"] - b["low_p50_s"] for a, b in lows if "low_p50_s" in a and "low_p50_s" in b
    ]
    told["added_latency_s"] = median(added, "s") if added else None
    return told


def markdown(saved):
    """The saved figures as a table, and the ratios as a list."""
    highest = f"highest rate, p{saved['percentile']:g} ≤ {words(TARGET_S, 's')}"
    heads = ("server", f"requests/s at {USERS} connections", "… by wrk", highest)
    heads += ("p99 at half load", f"p50 at {LOW_RATE}/s", "memory", "start")
    heads += ("goodput/s before, during, 2 s after and at the end of the time after a flood",)
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    lines += [_row(name, told) for name, told in saved["servers"].items()]
    floods = {name: told["flood"] for name, told in saved["servers"].items() if told["flood"]}
    lines += ["", *(_flood(name, told) for name, told in floods.items()), ""]
    lines += [
        f"- {name.replace('_', ' ')}: {Estimate(**told)}"
        for name, told in saved["ratios"].items()
        if told
    ]
    lines += [f"- not measured: {name}: {why}" for name, why in saved["missing"].items()]
    machine = saved["machine"]["cpu"]
    return "\n".join(
        [*lines, "", f"Measured on {machine}, {saved['date']}; {saved['conditions']}."]
    )


def table(saved):
    """What `steady` kept, as a table with a row for each half minute's statuses."""
    parts, machine = saved["parts"], saved["machine"]["cpu"]
    statuses = list(dict.fromkeys(status for part in parts for status in part["statuses"]))
    heads = ("half minute", "requests", *statuses, "p99", "memory")
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for i, part in enumerate(parts, start=1):
        counts = (f"{part['statuses'].get(status, 0):,}" for status in statuses)
        p99 = words(part["p99_s"], "s")
        cells = (f"{i}", f"{part['requests']:,}", *counts, p99, words(part["memory_bytes"], "B"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"{saved['requests']:,} requests in {saved['minutes']:g} minutes at "
            f"{digits(saved['rate'])}/s, 80 % of the capacity of an open loop; memory at the end "
            f"÷ at the beginning: {digits(saved['memory_last_to_first'])}. Measured on {machine}, "
            f"{saved['date']}.",
        ]
    )


def _row(name, told):
    text = lambda key: repr(Estimate(**told[key])) if told.get(key) else "–"  # noqa: E731
    keys = ("peak", "wrk", "highest_rate", "half_p99_s", "low_p50_s", "memory_bytes", "start_s")
    flood = told["flood"] or {}
    parts = ("before", "during", "two_s_after", "at_the_end")
    good = ", ".join(digits(flood[part]) for part in parts) if "before" in flood else "–"
    version = f" {told['version']}" if told["version"] else ""
    return f"| {name}{version} | {' | '.join(text(key) for key in keys)} | {good} |"


def _flood(name, told):
    if "refused" in told:
        return f"- flood, {name}: {told['refused']}"
    back = told["back_after_s"]
    again = "not back in that time" if back is None else f"back to 95 % after {words(back, 's')}"
    before, after = (words(told[f"{k}_bytes"], "B") for k in ("before", "after"))
    return (
        f"- flood, {name}: {told['times']:g} × for {words(told['flood_s'], 's')}, then as long at "
        f"half load: {again}; memory {before} before, {after} after."
    )


def main(plan, chosen, quick, into):
    torch.set_num_threads(1)
    kit.device("cpu")
    missing = {s.name: "not installed" for s in chosen if not servers.version_of(s)}
    chosen = [server for server in chosen if server.name not in missing]
    load = os.getloadavg()[0]
    if quick:
        found, alone = measure(plan, chosen, quick)
    else:  # each visit of a server is kept at once: after an early end, the run goes on
        run = Parts(into, plan=vars(plan), servers=[server.name for server in chosen])
        names = {"visit": lambda server, parts, *_: f"{server.name}, {' '.join(parts)}"}
        with run.each_call(sys.modules[main.__module__], **names, offline=lambda *_: "at once"):
            found, alone = measure(plan, chosen, quick)
    for one in [one for visits in found.values() for one in visits]:
        if one.get("peak") == 0:  # it answered nothing in that time: no ratio is possible
            one["error"] = f"no answer at {USERS} connections; {one.get('error', '')}"
            del one["peak"]
    told = {server.name: figures(visits) for server, visits in found.items()}
    for server in found:
        told[server.name]["version"] = servers.version_of(server)
    conditions = (
        f"{plan.rounds} rounds of {plan.seconds:g} s a part, {plan.searches} searches; "
        f"load before the run {load:.2f}; one thread, batches of {servers.MAX_BATCH}, "
        f"wait {1000 * servers.WAIT_S:g} ms"
    )
    between = {k: v and v.to_dict() for k, v in ratios(found, alone, chosen).items()}
    record = {"servers": told, "ratios": between, "missing": missing, "conditions": conditions}
    record["percentile"] = plan.percentile
    raw = {server.name: visits for server, visits in found.items()}
    if quick:
        record |= {"machine": {"cpu": "this machine"}, "date": "today"}
        print(markdown(record))
        return
    keep(into, **record, plan=vars(plan) | {"flood_s": plan.flood_s}, visits=raw)
    run.complete()
    print(markdown(json.loads((RESULTS / f"{into}.json").read_text(encoding="utf-8"))))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["table", "steady"])
    parser.add_argument("--seconds", type=float, default=Plan.seconds, help="of a part")
    parser.add_argument("--rounds", type=int, default=Plan.rounds, help="of all servers, in turns")
    parser.add_argument("--searches", type=int, default=Plan.searches)
    parser.add_argument("--servers", nargs="+", choices=list(NAMES), help="beside the kit")
    parser.add_argument("--minutes", type=float, default=10, help="of `steady`")
    parser.add_argument("--part", type=float, default=30, help="seconds of a part of `steady`")
    parser.add_argument("--into", default="serving", help="the name of the file of results")
    parser.add_argument("--quick", action="store_true", help="only to try it; keeps nothing")
    asked = parser.parse_args()
    plan = Plan(asked.seconds, asked.rounds, asked.searches)
    if asked.quick:
        plan = replace(Plan(), seconds=0.3, rounds=1, searches=1, percentile=90, close=2.0, flood=5)
    if asked.what == "steady":
        told = steady(0.05, 3.0) if asked.quick else steady(asked.minutes, asked.part)
        print(json.dumps(told, indent=1)) if asked.quick else keep("serving_steady", **told)
    elif asked.what:
        saved = json.loads((RESULTS / f"{asked.into}.json").read_text(encoding="utf-8"))
        print(table(saved) if "parts" in saved else markdown(saved))
    else:
        names = ["kit", *(asked.servers or NAMES)]
        main(plan, [NAMES[name] for name in dict.fromkeys(names)], asked.quick, asked.into)
