"""What `kit.predict` adds to a bare call of the model: microseconds, and a ratio.

    python benchmarks/predict_overhead.py          # half a minute on a quiet machine
    python benchmarks/predict_overhead.py table    # the kept figures

The bare call is the best plain one: the model is in evaluation mode, and `torch.inference_mode`
was entered once, outside of the clock. `kit.predict` leaves training mode, stops the recording of
gradients, and puts both back, at each call. Batch 1, one thread; blocks of calls in turns, in
random order, so a pair of blocks is of one moment. First both must give the same numbers.
"""

import gc
import json
import random
import sys
import time

import numpy as np
import torch
from keeping import RESULTS, keep_parts
from torch import nn

import kit
from kit.core.statistics import Estimate, median

ROUNDS, CALLS = 150, 100  # calls per block
BUILT = {  # name -> model and inputs of one example
    "linear": lambda: (nn.Linear(8, 8), torch.ones(1, 8)),
    "mlp": lambda: (kit.models.MLP(), torch.ones(1, 1, 8, 8)),
    "cnn": lambda: (kit.models.CNN(), torch.ones(1, 1, 8, 8)),
    "gpt": lambda: (
        kit.models.GPT(kit.models.GPTConfig(64, context=32, d_model=64, n_layers=2, n_heads=2)),
        torch.zeros(1, 32, dtype=torch.long),
    ),
}


def block_s(call, model, inputs):
    """Seconds per call, of a block of calls."""
    started = time.perf_counter()
    for _ in range(CALLS):
        call(model, inputs)
    return (time.perf_counter() - started) / CALLS


def bare(model, inputs):
    return model(inputs)


def added(name):
    """What the kit adds to a model's call."""
    model, inputs = BUILT[name]()
    model.eval()
    with torch.inference_mode():
        assert torch.equal(kit.predict(model, inputs), model(inputs)), "they answer differently"
        block_s(bare, model, inputs)
    block_s(kit.predict, model, inputs)
    pairs = []
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        taken = {}
        for call in random.sample([bare, kit.predict], 2):
            with torch.inference_mode(call is bare):
                taken[call] = block_s(call, model, inputs)
        pairs.append([taken[bare], taken[kit.predict]])
    gc.enable()
    bare_s, kit_s = np.array(pairs).T
    return {
        name: {
            "modules": len(list(model.modules())),
            "bare_s": median(bare_s, "s"),
            "added_s": median(kit_s - bare_s, "s"),
            "ratio": median(kit_s / bare_s, "×"),
        }
    }


def table(kept):
    """The kept figures as Markdown."""
    lines = ["| model | parts | a bare call | `kit.predict` adds | ratio |", "| --- " * 5 + "|"]
    for name, row in ((name, kept[name]) for name in BUILT if name in kept):
        cells = (repr(Estimate(**row[key])) for key in ("bare_s", "added_s", "ratio"))
        lines.append(f"| {name} | {row['modules']} | {' | '.join(cells)} |")
    lines += ["", f"Measured on {kept['machine']['cpu']}, one thread, {kept['date']}."]
    return "\n".join(lines)


def main():
    if sys.argv[1:] == ["table"]:
        path = RESULTS / "predict_overhead.json"
        print(table(json.loads(path.read_text(encoding="utf-8"))))
        return
    kit.device("cpu", threads=1)
    parts = {name: (lambda name=name: added(name)) for name in BUILT}
    keep_parts("predict_overhead", parts, rounds=ROUNDS, calls=CALLS)


if __name__ == "__main__":
    main()
