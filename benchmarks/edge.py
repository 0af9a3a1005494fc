"""What the kit adds to a call of ONNX Runtime, and how soon the small process answers.

    python benchmarks/edge.py        # measures and keeps; on an idle machine
    python benchmarks/edge.py table  # what was kept

The calls take turns on the same session's file, one thread: `session.run`, the kit's session at
the edge, and `kit.predict`. Their differences are in microseconds and stand beside the ratios.
"""

import json
import sys
import time
from functools import partial
from importlib.util import find_spec

import numpy as np
import torch
from keeping import RESULTS, Parts, keep

import kit
from kit.core.statistics import Estimate, median
from kit.core.units import words
from kit.deployment.sessions import OPENERS

ROUNDS = 2_000  # of each call once, in turns
STARTS = 10  # of each process
CALLS = 10_000  # one per millisecond: the slowest counts
NAMES = {
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "executorch": "ExecuTorch",
    "pytorch": "PyTorch",
}


def calls(model, data, example):
    """Name -> a call that answers the same example."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    bare = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    name, array = bare.get_inputs()[0].name, example.numpy()
    session = OPENERS["onnxruntime"](data, 1).run
    return {
        "session_run": lambda: bare.run(None, {name: array}),
        "edge_session": lambda: session(array),
        "kit_predict": lambda: kit.predict(model, example),
    }


def added(rounds):
    """The microseconds that each way adds to `session.run`, and their ratio, in turns."""
    torch.set_num_threads(1)
    example = torch.rand(1, 1, 8, 8)
    model = kit.techniques.onnx(kit.models.CNN(), example)
    ways = calls(model, model.data, example)
    times = {name: [] for name in ways}
    for i in range(rounds + 50):  # the first 50 warm up
        for name, call in ways.items():
            began = time.perf_counter()
            call()
            if i >= 50:
                times[name].append(time.perf_counter() - began)
    bare = np.array(times.pop("session_run"))
    found = {"session_run_s": median(bare, "s")}
    for name, taken in times.items():
        found[f"{name}_added_s"] = median(np.array(taken) - bare, "s")
        found[f"{name}_ratio"] = median(np.array(taken) / bare, "×")
    return found


def processes(cnn, image):
    """Name -> the same network as that runtime takes it, and the runtime that `kit.edge` needs."""
    small = kit.techniques.onnx(cnn, image)
    found = {name: (small, name) for name in kit.deployment.present_runtimes()}
    if find_spec("executorch"):  # it has files of its own
        found["executorch"] = kit.techniques.executorch(cnn, image), None
    return {**found, "pytorch": (cnn, None)}


def starts(n):
    """From the command to the first answer, memory, file and packages: the runtimes in turns."""
    cnn, image = kit.models.CNN().eval(), torch.rand(1, 1, 8, 8)
    forms, expected = processes(cnn, image), kit.predict(cnn, image)
    runs, found = {name: [] for name in forms}, {}
    for _ in range(n):
        for name, (model, runtime) in forms.items():
            how = dict(runtime=runtime, calls=200, every_s=0.001, expected=expected)
            runs[name].append(kit.edge(model, image, **how))
    for name, each in runs.items():
        found[f"{name}_first_answer_s"] = median([run.ready_s for run in each], "s")
        found[f"{name}_median_s"] = median([run.median_s for run in each], "s")
        found[f"{name}_resident_bytes"] = max(run.resident_bytes or 0 for run in each)
        found[f"{name}_model_bytes"] = each[0].model_bytes
        found[f"{name}_packages_bytes"] = each[0].dependencies_bytes
    return found


def slowest(n):
    """The slowest of many calls, one per millisecond, and why it was slow."""
    image = torch.rand(1, 1, 8, 8)
    small = kit.techniques.onnx(kit.models.CNN(), image)
    run = kit.edge(small, image, calls=n, every_s=0.001, deadline_s=0.01)
    return {
        "calls": run.n,
        "worst_s": run.worst_s,
        "worst_cause": run.cause,
        "late_after_10_ms_share": run.missed(),
        "p99_s": run.percentile(99),
        "calls_median_s": run.latency,
    }


def table(kept):
    """The kept figures as Markdown."""

    def shown(name):
        value = kept[name]
        return repr(Estimate(**value)) if isinstance(value, dict) else words(value, "B")

    lines = [
        "| process | first answer | median | resident | model | packages |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in (each for each in NAMES if f"{each}_first_answer_s" in kept):
        kinds = ["first_answer_s", "median_s"]
        kinds += [f"{what}_bytes" for what in ("resident", "model", "packages")]
        cells = " | ".join(shown(f"{name}_{kind}") for kind in kinds)
        lines.append(f"| {NAMES[name]} | {cells} |")
    lines += [
        "",
        f"- A session's call takes {shown('session_run_s')}; the kit's session adds "
        f"{shown('edge_session_added_s')}, `kit.predict` {shown('kit_predict_added_s')}.",
        f"- The slowest of {kept['calls']:,} calls, one per millisecond: "
        f"{words(kept['worst_s'], 's')} ({kept['worst_cause']}). Median "
        f"{shown('calls_median_s')}, p99 {shown('p99_s')}; later than 10 ms: "
        f"{shown('late_after_10_ms_share')}.",
        "",
        f"Measured on {kept['machine']['cpu']}, one thread, {kept['date']}.",
    ]
    return "\n".join(lines)


def main():
    if sys.argv[1:] == ["table"]:
        print(table(json.loads((RESULTS / "edge.json").read_text(encoding="utf-8"))))
        return
    parts = {
        "added": partial(added, ROUNDS),
        "starts": partial(starts, STARTS),
        "slowest": partial(slowest, CALLS),
    }
    run, found = Parts("edge", rounds=ROUNDS, starts=STARTS, calls=CALLS), {}
    for part, measure in parts.items():
        found |= run.once(part, measure)
    keep("edge", **found)
    run.complete()


if __name__ == "__main__":
    main()
