"""What `kit.predict` adds to a bare call of the model: microseconds, and a ratio.

    python benchmarks/predict_overhead.py          # 30 seconds on a quiet machine
    python benchmarks/predict_overhead.py table    # the kept figures

The bare call is `model(inputs)` in evaluation mode, in one of two contexts that were entered once,
outside of the clock. Under `torch.no_grad` the call does what `kit.predict` does: the difference is
the kit's own cost, since it looks for parts in training mode, stops the recording of gradients and
puts both back at each call. `torch.inference_mode` is the best plain way: each operation costs a
little less there, but nothing that was computed can be trained with. Batch 1, one thread; blocks of
calls in turns, in random order, so that the blocks of a round are of one moment. First all must
give the same numbers.
"""

import gc
import json
import random
import sys
import time
from contextlib import nullcontext

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
    ways = {
        "no_grad": (bare, torch.no_grad),
        "inference_mode": (bare, torch.inference_mode),
        "kit": (kit.predict, nullcontext),
    }
    taken = {way: [] for way in ways}
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        for way in random.sample(list(ways), len(ways)):
            call, context = ways[way]
            with context():
                taken[way].append(block_s(call, model, inputs))
    gc.enable()
    taken = {way: np.array(each) for way, each in taken.items()}
    found = {"modules": len(list(model.modules()))}
    for way in ("no_grad", "inference_mode"):
        found[f"{way}_s"] = median(taken[way], "s")
        found[f"added_to_{way}_s"] = median(taken["kit"] - taken[way], "s")
        found[f"ratio_to_{way}"] = median(taken["kit"] / taken[way], "×")
    return {name: found}


def table(kept):
    """The kept figures as Markdown."""
    lines = ["| model | parts | a bare call | `kit.predict` adds | … to `inference_mode` |"]
    lines.append("| --- " * 5 + "|")
    for name, row in ((name, kept[name]) for name in BUILT if name in kept):
        keys = ("no_grad_s", "added_to_no_grad_s", "added_to_inference_mode_s")
        cells = (repr(Estimate(**row[key])) for key in keys)
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
