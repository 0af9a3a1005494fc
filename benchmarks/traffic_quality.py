"""How far `kit.traffic` can be trusted, beside wrk, MLPerf's LoadGen and queueing theory.

    sudo apt-get install wrk
    python -m pip install -c constraints.txt -r benchmarks/requirements.txt
    python benchmarks/traffic_quality.py            # on a machine left alone; about 12 minutes
    python benchmarks/traffic_quality.py --pairs 5 --seconds 2  # about 2
    python benchmarks/traffic_quality.py --small    # only to try it; keeps nothing
    python benchmarks/traffic_quality.py table      # the saved figures

The server answers each request after a fixed time, either all at once (its capacity for n users
is n ÷ that time) or one after another (an M/D/1 queue). It runs in a process of its own. Asked is:

capacity    answers per second to users who do not think ÷ what wrk counts
latency     of an open loop, mean and p90 ÷ what LoadGen measures at the same rate: both count from
            the scheduled arrival, with clocks and threads of their own
theory      the mean wait of an open loop ÷ what Pollaczek and Khinchine say
client      its limit, and how late it sends

Each pair is measured in turns; a ratio is the median of the pairs', with its 95 % interval.
"""

import argparse
import asyncio
import http.client
import json
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
from keeping import RESULTS, Parts, keep

import kit
from kit.core.statistics import Estimate, median
from kit.loadgen.client_limit import client_limit
from kit.loadgen.http_client import new_loop
from kit.loadgen.null_server import NullServer
from kit.loadgen.queueing import mean_wait

PAIRS, SECONDS, LOADS = 15, 5.0, (0.3, 0.5, 0.8)
SERVICE_S, AT_ONCE_S = 0.004, 0.02  # 64 users are then 3,200 requests/s: less than the client can
USERS = (8, 64)
THREADS = 64  # of LoadGen's system: the most requests that it has open
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


class Fixed(NullServer):
    """A server with a fixed service time: POST /at-once, or POST /queue one after another."""

    busy_until = 0.0

    def requested(self, head, body):
        loop = asyncio.get_running_loop()
        ends = loop.time() + AT_ONCE_S
        if b"/queue" in head:
            ends = Fixed.busy_until = max(loop.time(), Fixed.busy_until) + SERVICE_S
        loop.call_at(ends, self.transport.write, REPLY)


async def serve():
    """Serve until the input ends; the port is the only line of output."""
    server = await asyncio.get_running_loop().create_server(Fixed, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


class Server:
    """The server in a process of its own."""

    def __enter__(self):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen([sys.executable, __file__, "serve"], **pipes)
        return f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def wrk(url, users, seconds):
    """Answers per second that wrk counts."""
    command = ["wrk", "-t1", f"-c{users}", f"-d{max(1, round(seconds))}s", url]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(re.search(r"Requests/sec:\s+([\d.]+)", told)[1])


def loadgen(url, rate, seconds, seed):
    """MLPerf's LoadGen, server scenario: mean and p90 of the latency, from the schedule."""
    import mlperf_loadgen as lg

    settings = lg.TestSettings()
    settings.scenario, settings.mode = lg.TestScenario.Server, lg.TestMode.PerformanceOnly
    settings.server_target_qps, settings.server_target_latency_ns = rate, int(1e9)
    settings.min_duration_ms, settings.min_query_count = int(1000 * seconds), 64
    settings.schedule_rng_seed = seed
    waiting = queue.SimpleQueue()
    workers = [threading.Thread(target=_answer, args=(url, waiting)) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    with tempfile.TemporaryDirectory() as folder:
        output = lg.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        log = lg.LogSettings()
        log.log_output = output
        system = lg.ConstructSUT(lambda samples: [waiting.put(s.id) for s in samples], lambda: None)
        library = lg.ConstructQSL(1, 1, lambda _: None, lambda _: None)
        lg.StartTestWithLogSettings(system, library, settings, log, "")
        for _ in workers:
            waiting.put(None)
        for worker in workers:
            worker.join()
        lg.DestroyQSL(library)
        lg.DestroySUT(system)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()

    def told(name):
        return float(re.search(rf"{re.escape(name)}\s*: (\d[\d.]*)", summary)[1]) / 1e9

    return {"mean_s": told("Mean latency (ns)"), "p90_s": told("90.00 percentile latency (ns)")}


def _answer(url, waiting):
    """Send a request for each query on a connection of this thread's own."""
    import mlperf_loadgen as lg

    connection = http.client.HTTPConnection(url.split("/")[2])
    while (query := waiting.get()) is not None:
        connection.request("POST", "/queue", b"x")
        connection.getresponse().read()
        lg.QuerySamplesComplete([lg.QuerySampleResponse(query, 0, 0)])
    connection.close()


def capacity(url, pairs, seconds):
    """Answers per second ÷ wrk's."""
    found = {}
    for users in USERS:
        ratios = []
        for _ in range(pairs):
            ours = kit.traffic(f"{url}/at-once", b"", users=users, duration_s=seconds).throughput
            ratios.append(ours / wrk(f"{url}/at-once", users, seconds))
        found[f"capacity_{users}_users_kit_to_wrk"] = median(ratios, "×")
    return found


def latency(url, pairs, seconds):
    """Mean and p90 of an open loop ÷ LoadGen's."""
    ratios = {"mean": [], "p90": []}
    rate = LOADS[0] / SERVICE_S
    for i in range(pairs):
        ours = kit.traffic(f"{url}/queue", b"x", rate=rate, duration_s=seconds, seed=i)
        theirs = loadgen(url, rate, seconds, seed=i)
        ratios["mean"].append(ours.mean_latency_s / theirs["mean_s"])
        ratios["p90"].append(float(np.percentile(ours.latencies_s, 90)) / theirs["p90_s"])
    return {f"{name}_kit_to_loadgen": median(each, "×") for name, each in ratios.items()}


def theory(url, pairs, seconds):
    """The mean wait in answers ÷ M/D/1's, at each load; and how late the client sent."""
    found, lags = {}, []
    for load in LOADS:
        ratios = []
        for i in range(pairs):
            run = kit.traffic(
                f"{url}/queue", b"x", rate=load / SERVICE_S, duration_s=seconds, seed=i
            )
            alone_s = float(np.percentile(run.latencies_s, 1))  # a request that met no other
            ratios.append((run.mean_latency_s - alone_s) / SERVICE_S / mean_wait(load))
            lags += run.lag_s
        found[f"wait_at_{round(100 * load)}_percent_to_theory"] = median(ratios, "×")
    for percent in (50, 99):
        found[f"sent_late_p{percent}_s"] = float(np.percentile(lags, percent))
    return found


def table():
    """The saved ratios."""
    saved = json.loads((RESULTS / "traffic_quality.json").read_text(encoding="utf-8"))
    rows = {name: told for name, told in saved.items() if "_to_" in name}
    lines = [f"| {name.replace('_', ' ')} | {Estimate(**told)} |" for name, told in rows.items()]
    head = ["| kit.traffic beside others | ratio |", "| --- | --- |"]
    pairs = f"{saved['pairs']} pairs of {saved['seconds']:g} s"
    end = f"{pairs}. Measured on {saved['machine']['cpu']}, {saved['date']}."
    return "\n".join([*head, *lines, "", end])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="only to try it; keeps nothing")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of runs, one of each kind")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a run")
    asked = parser.parse_args()
    small = asked.small
    pairs, seconds = (1, 0.5) if small else (asked.pairs, asked.seconds)
    run = Parts("traffic_quality", pairs=pairs, seconds=seconds, small=small)
    limit = partial(client_limit, 3_000, 300, streamed=False)
    found = {"client_limit_requests_per_s": run.once("limit", limit)}
    with Server() as url:
        for part in (capacity, latency, theory):
            if part is not capacity or shutil.which("wrk"):
                found |= run.once(part.__name__, partial(part, url, pairs, seconds))
    if small:
        print(*(f"{name}: {value}" for name, value in found.items()), sep="\n")
    else:
        keep("traffic_quality", **found, pairs=pairs, seconds=seconds, service_s=SERVICE_S)
    run.complete()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(serve())
    elif sys.argv[1:] == ["table"]:
        print(table())
    else:
        main()
