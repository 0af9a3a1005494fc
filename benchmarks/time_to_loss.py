"""Seconds to one and the same validation loss of a character GPT: the kit's recipe and nanoGPT's.

    python benchmarks/time_to_loss.py             # 5 pairs: 15 minutes, on a machine left alone;
                                                  # started again, it goes on where it was
    python benchmarks/time_to_loss.py --sample    # and what a GPT writes after 60 s of training

nanoGPT's README tells how to train a small GPT on a CPU: 4 layers, 128 wide, context 64, batch 12,
AdamW, 2,000 iterations. `nano` below is that recipe, written anew. The kit's recipe is one call of
`kit.train`. Both read the same windows of Python's documentation on the same number of threads and
are judged by `kit.evaluate` on the same 64-character windows of the validation split. The target is
a little above the loss at which nano itself ends (1.49 to 1.50 nats here), so that each of its runs
gets there.

nano's weights begin as the kit's do, which is PyTorch's way: with nanoGPT's own (a spread of 0.02,
less in what is added to the residual) it ended 0.14 nats higher here. It is given the better start.

The clock stands still during evaluations, for both. The loss is looked at forty times a run, every
50 and every 16 steps; the time told is that of the first look at which it is low enough.
"""

import argparse
import math
import re
import sys
import time
from functools import partial

import torch
from keeping import Parts, keep
from torch.nn.utils import clip_grad_norm_

import kit
from kit.core.statistics import bootstrap
from kit.data import load_python_docs
from kit.models import GPT, GPTConfig

CONTEXT, TARGET_LOSS = 64, 1.52
PAIRS, THREADS = 5, 1

NANO = {"n_layers": 4, "n_heads": 4, "d_model": 128}
NANO_STEPS, NANO_BATCH, NANO_WARMUP, NANO_LR, NANO_LEAST_LR = 2000, 12, 100, 1e-3, 1e-4
NANO_EVERY = 50

KIT = {"n_layers": 2, "n_heads": 1, "d_model": 64}
RECIPE = {
    "steps": 640,
    "batch_size": 32,
    "lr": 1.2e-2,
    "optimizer": "muon",
    "precision": "bf16",
    "schedule": "trapezoid",
    "evaluate_every": 16,
}

SAMPLE_S, SAMPLE_CHARACTERS, TEMPERATURE = 60, 400, 0.7
SAMPLE = {"n_layers": 2, "n_heads": 2, "d_model": 128}
SAMPLE_RECIPE = {**RECIPE, "lr": 8e-3}
PROMPT = "The "


def windowed():
    """The language workload in windows of nano's context: the same for both recipes."""
    return kit.workloads.language(load_python_docs(context=CONTEXT))


def gpt(work, shape, seed):
    """A fresh GPT of that shape for the workload's characters and windows."""
    torch.manual_seed(seed)
    return GPT(GPTConfig(vocab_size=len(work.data.classes), context=CONTEXT, **shape))


# --- Two recipes ---------------------------------------------------------------------------------


def nano_rate(step):
    """Learning rate at a step: up in a line, then down along half a cosine to a tenth."""
    if step < NANO_WARMUP:
        return NANO_LR * (step + 1) / (NANO_WARMUP + 1)
    way = (step - NANO_WARMUP) / (NANO_STEPS - NANO_WARMUP)
    return NANO_LEAST_LR + (NANO_LR - NANO_LEAST_LR) * (1 + math.cos(math.pi * way)) / 2


def nano_optimizer(model):
    """AdamW as PyTorch gives it on a CPU; weight decay on matrices alone."""
    matrices = [weight for weight in model.parameters() if weight.ndim >= 2]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": 0.1},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=NANO_LR, betas=(0.9, 0.99))


def nano_step(model, optimizer, work, step, draws):
    """One update from random windows."""
    examples = work.data["train"]
    chosen = torch.randint(len(examples.inputs), (NANO_BATCH,), generator=draws)
    inputs, targets = examples.inputs[chosen], examples.targets[chosen]
    for group in optimizer.param_groups:
        group["lr"] = nano_rate(step)
    loss = work.loss(model(inputs), targets)
    loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def nano(work, seed, target):
    """Train as nanoGPT does until the loss is low enough: what that took."""
    model, draws = gpt(work, NANO, seed), torch.Generator().manual_seed(seed)
    optimizer, train_s, loss = nano_optimizer(model), 0.0, math.inf
    model.train()
    for done in range(1, NANO_STEPS + 1):
        started = time.perf_counter()
        nano_step(model, optimizer, work, done - 1, draws)
        train_s += time.perf_counter() - started
        if done % NANO_EVERY == 0:
            loss = kit.evaluate(model, work, "validation").loss
            if loss <= target:
                break
    return taken("nano", train_s, done, NANO_BATCH, loss, target)


def kits(work, seed, target):
    """Train by one call of `kit.train` until the loss is low enough: what that took."""
    model = gpt(work, KIT, seed)
    history = kit.train(model, work, **RECIPE, target_loss=target, seed=seed, live=False)
    loss, batch = history.scores[-1][1].loss, RECIPE["batch_size"]
    return taken("kit", history.train_s, history.steps, batch, loss, target)


def taken(who, train_s, steps, batch_size, loss, target):
    """A run as it is kept; one that never got there is no measurement."""
    if loss > target:
        sys.exit(f"{who}: {loss:.4f} nats after {steps:,} steps, needed {target}: no time to tell.")
    return {
        "train_s": train_s,
        "steps": steps,
        "step_s": train_s / steps,
        "tokens_per_s": steps * batch_size * CONTEXT / train_s,
        "loss": loss,
    }


def measure(parts, pairs, target=TARGET_LOSS):
    """Both, alternately, a seed for each pair."""
    work, runs = windowed(), {"kit": [], "nano": []}
    for seed in range(pairs):
        for who, train in (("kit", kits), ("nano", nano)):
            run = parts.once(f"{who} {seed}", partial(train, work, seed, target))
            runs[who].append(run)
        print({who: f"{each[-1]['train_s']:.1f} s" for who, each in runs.items()}, flush=True)
    ratios = [b["train_s"] / a["train_s"] for a, b in zip(runs["kit"], runs["nano"], strict=True)]
    return {
        "target_loss": target,
        "nano_to_kit": bootstrap(ratios, unit="×"),
        **{f"{who}_s": bootstrap([run["train_s"] for run in runs[who]], unit="s") for who in runs},
        "runs": runs,
    }


# --- A sample ------------------------------------------------------------------------------------


def write(model, data, prompt, characters):
    """The prompt and as many characters more, each drawn by what the model says of it."""
    tokens = data.encode(prompt)
    draws = torch.Generator().manual_seed(0)
    for _ in range(characters):
        seen = tokens[-model.config.context :].unsqueeze(0)
        shares = (kit.predict(model, seen)[0, -1] / TEMPERATURE).softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(shares, 1, generator=draws)])
    return data.decode(tokens)


def words(text):
    """Its words of three letters and more; one cut off at either end may be none."""
    return re.findall(r"[a-z]{3,}", text.lower())


def known_share(sample, text):
    """The share of the sample's words that the text has too."""
    known, written = set(words(text)), words(sample)
    return sum(word in known for word in written) / max(1, len(written))


def sample(seconds=SAMPLE_S):
    """What is written after so many seconds of training on one thread."""
    work = windowed()
    pace = kit.train(gpt(work, SAMPLE, 0), work, **{**SAMPLE_RECIPE, "steps": 100}, live=False)
    recipe = {**SAMPLE_RECIPE, "steps": max(1, int(seconds / pace.step_s))}
    recipe["evaluate_every"] = recipe["steps"]
    model = gpt(work, SAMPLE, 0)
    history = kit.train(model, work, **recipe, live=False)
    text = work.data.decode(work.data["train"].inputs[::4].flatten())
    told = write(model, work.data, PROMPT, SAMPLE_CHARACTERS)
    return {
        "train_s": history.train_s,
        "steps": history.steps,
        "loss": history.scores[-1][1].loss,
        "known_words_share": known_share(told, text),
        "text": told,
    }


def main(pairs, with_sample):
    kit.device("cpu")
    torch.set_num_threads(THREADS)
    shapes = f"kit {KIT}, {RECIPE}; nano {NANO}, batch {NANO_BATCH}, {NANO_STEPS} steps"
    conditions = f"{THREADS} thread; {shapes}"
    parts = Parts("time_to_loss", conditions=conditions, machine=kit.machine().cpu)
    figures = measure(parts, pairs)
    if with_sample:
        figures["sample"] = parts.once("sample", sample)
    keep("time_to_loss", **figures, conditions=f"{pairs} pairs, {conditions}")
    parts.complete()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of runs, one of each kind")
    parser.add_argument("--sample", action="store_true", help="train for 60 s more, and write")
    asked = parser.parse_args()
    main(asked.pairs, asked.sample)
