"""The stopwatches that people use, each asked about the same call: seconds per call, in its words.

Each function takes the call (some: Python source that makes it) and gives seconds, or a dict.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def time_time(call):
    """What tutorials do: one look at the wall clock before, one after, ten calls between."""
    started = time.time()
    for _ in range(10):
        call()
    return (time.time() - started) / 10


def timeit_magic(call):
    """IPython's %timeit: the mean of seven runs, with their standard deviation."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.user_ns["call"] = call
    result = shell.run_line_magic("timeit", "-q -o call()")
    return result.average


def blocked_autorange(call, budget_s=0.2):
    """torch.utils.benchmark: the median of blocks of calls."""
    from torch.utils.benchmark import Timer

    return Timer("call()", globals={"call": call}).blocked_autorange(min_run_time=budget_s).median


def pyperf(source):
    """pyperf: the mean over values from several fresh processes. `source` defines `call`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pyperf.json"
        options = ["-p", "5", "-n", "5", "-w", "1", "--quiet", "-o", str(path)]
        command = [sys.executable, "-m", "pyperf", "timeit", *options, "-s", source, "call()"]
        subprocess.run(command, check=True, capture_output=True, text=True)
        runs = json.loads(path.read_text())["benchmarks"][0]["runs"]
    values = [value for run in runs for value in run.get("values", [])]
    return sum(values) / len(values)


def loadgen(call, seconds=3.0):
    """MLPerf's LoadGen, single stream: its p90 estimate, mean latency, queries per second."""
    import mlperf_loadgen as lg

    settings = lg.TestSettings()
    settings.scenario = lg.TestScenario.SingleStream
    settings.mode = lg.TestMode.PerformanceOnly
    settings.min_duration_ms = int(1000 * seconds)
    settings.min_query_count = 64

    def issue(samples):
        for sample in samples:
            call()
            lg.QuerySamplesComplete([lg.QuerySampleResponse(sample.id, 0, 0)])

    with tempfile.TemporaryDirectory() as folder:
        output = lg.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        log = lg.LogSettings()
        log.log_output = output
        system = lg.ConstructSUT(issue, lambda: None)
        library = lg.ConstructQSL(1, 1, lambda _: None, lambda _: None)
        lg.StartTestWithLogSettings(system, library, settings, log, "")
        lg.DestroyQSL(library)
        lg.DestroySUT(system)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()

    def told(pattern):
        return float(re.search(rf"{pattern}\s*: (\d[\d.]*)", summary)[1])

    return {
        "p90_s": told(r"Early stopping 90\.0th percentile estimate") / 1e9,
        "mean_s": told(r"Mean latency \(ns\)") / 1e9,
        "queries_per_s": told("QPS w/ loadgen overhead"),
    }
