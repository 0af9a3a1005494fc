"""What kit.train costs beyond a hand-written loop, and what its live curve costs in a notebook.

    python benchmarks/loop_overhead.py

The bare loop goes over batches that were cut beforehand; kit.train shuffles, checks the loss,
keeps the history. Both make the same steps on the same tiny MLP, in interleaved pairs in random
order. `per_step` is the time of the training steps alone (`History.train_s`); `whole_call` also
holds the two looks at the validation split and the making of the history. The live curve is
tried in a real Jupyter kernel, with and without, in pairs too.
"""

import random
import sys
import time

import nbformat
import numpy as np
import torch
from keeping import keep
from nbclient import NotebookClient

import kit
from kit.estimates import bootstrap

PAIRS, STEPS, BATCH = 120, 222, 32  # short runs, so that both of a pair meet the same weather
MODEL = kit.models.MLPConfig()  # the kit's tiny MLP: any overhead shows

LIVE = """
import random, time, kit
from kit.estimates import bootstrap
kit.device("cpu")
work = kit.workloads.vision()

def seconds(live):
    model = work.model("mlp")
    started = time.perf_counter()
    kit.train(model, work, steps=1500, live=live)
    return time.perf_counter() - started

seconds(True), seconds(False)
ratios = []
for _ in range(40):
    order = random.sample([True, False], 2)
    taken = {live: seconds(live) for live in order}
    ratios.append(taken[True] / taken[False])
estimate = bootstrap(ratios, unit="×")
print(estimate.value, estimate.low, estimate.high)
"""


def bare_s(work, batches):
    """Seconds per step of the loop that one would write by hand."""
    model = kit.models.MLP(MODEL)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    started = time.perf_counter()
    for i in range(STEPS):
        inputs, targets = batches[i % len(batches)]
        optimizer.zero_grad()
        loss = work.loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - started) / STEPS


def kit_s(work):
    """Seconds per step of kit.train: in its steps, and in the whole call."""
    model = kit.models.MLP(MODEL)
    started = time.perf_counter()
    history = kit.train(
        model, work, steps=STEPS, batch_size=BATCH, evaluate_every=STEPS, live=False
    )
    return history.step_s, (time.perf_counter() - started) / STEPS


def pairs(work):
    """Interleaved pairs: (bare, kit's steps, kit's whole call), each in seconds per step."""
    batches = list(work.batches("train", BATCH, order=0))
    for _ in range(PAIRS):
        if random.random() < 0.5:
            bare = bare_s(work, batches)
            steps, whole = kit_s(work)
        else:
            steps, whole = kit_s(work)
            bare = bare_s(work, batches)
        yield bare, steps, whole


def live_ratio():
    """Time of kit.train with a live curve ÷ without, in a real kernel."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LIVE)])
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    text = "".join(out.get("text", "") for out in notebook.cells[0].outputs)
    return kit.Estimate(*map(float, text.split()), "×")


def main():
    kit.device("cpu")
    work = kit.workloads.vision()
    list(pairs(work))[:2]  # warm up
    taken = np.array(list(pairs(work)))
    keep(
        "loop_overhead",
        bare_step_s=bootstrap(taken[:, 0], unit="s"),
        per_step=bootstrap(taken[:, 1] / taken[:, 0], unit="×"),
        whole_call=bootstrap(taken[:, 2] / taken[:, 0], unit="×"),
        live_curve=live_ratio(),
        conditions=f"{PAIRS} pairs of {STEPS} steps, batch {BATCH}, {kit.models.MLP(MODEL)!r}",
    )


if __name__ == "__main__":
    sys.exit(main())
