"""What the kit adds to a call of ONNX Runtime, and how soon the small process answers.

python benchmarks/edge.py

The calls take turns on the same session's file, one thread: `session.run`, the kit's session at
the edge, and `kit.predict`. Their differences are in microseconds and stand beside the ratios.
"""

import sys
import time

import numpy as np
import torch
from keeping import keep

import kit
from kit.core.statistics import median
from kit.deployment.sessions import OPENERS

ROUNDS = 2_000  # of each call once, in turns
STARTS = 20  # of each process


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


def starts(n):
    """From the command to the first answer, and resident memory: ONNX Runtime beside PyTorch."""
    cnn = kit.models.CNN()
    image = torch.rand(1, 1, 8, 8)
    small = kit.techniques.onnx(cnn, image)
    found = {}
    for name, model in (("onnxruntime", small), ("pytorch", cnn)):
        runs = [kit.edge(model, image, calls=10, every_s=None) for _ in range(n)]
        found[f"{name}_first_answer_s"] = median([run.ready_s for run in runs], "s")
        found[f"{name}_resident_bytes"] = max(run.resident_bytes or 0 for run in runs)
    return found


def main():
    keep("edge", **added(ROUNDS), **starts(STARTS))


if __name__ == "__main__":
    sys.exit(main())
