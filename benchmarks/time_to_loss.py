"""Seconds to one and the same validation loss of a character GPT: the kit's recipes and nanoGPT's.

    python benchmarks/time_to_loss.py             # 6 rounds: 9 minutes, on a machine left alone;
                                                  # started again, it goes on where it was
    python benchmarks/time_to_loss.py --sample    # and what a GPT writes after 60 s of training
    python benchmarks/time_to_loss.py table       # the stored figures, as Markdown

nano     nanoGPT's README tells how to train a small GPT on a CPU: 4 layers, 128 wide, context 64,
         batch 12, AdamW, a rate of 1e-3, 2,000 iterations. This is that recipe, tuned for the
         target: of the rates 1e-3, 1.5e-3, 2e-3 and 3e-3, some with shorter schedules, 2e-3 with
         1,650 iterations needed the fewest steps. As published, it needed 1,650 to 1,750.
kit      The kit's GPT, 2 layers, 64 wide, with rotary positions, by one call of `kit.train`. Muon
         moves queries, keys and values each by itself. What a block adds begins at zero. The first
         steps read half windows: what is learnt first needs few characters before it.
ngrams   Muon, too, for 1 layer that reads complete windows from the start, and also looks up the
         last two and the last three characters in tables of embeddings. Most of the weights are in
         these tables, and a step reads few of them. This is another model, not only another
         recipe: compare `kit` with `nano`, which are both GPTs that read single characters.

All read the same windows of Python's documentation on the same number of threads and are judged by
`kit.evaluate` on the same 64-character windows of the validation split. The target is a little
above the loss at which nano itself ends, so that each of its runs gets there.

nano's weights begin as the kit's do, which is PyTorch's way: with nanoGPT's own (a spread of 0.02,
less in what is added to the residual) it ended 0.14 nats higher here. It is given the better start.

The clock stands still during evaluations, for all. The loss is looked at about forty times a run;
the time given is that of the first look at which it is low enough.
"""

import argparse
import json
import math
import re
import sys
import time
from dataclasses import replace
from functools import partial

import torch
from keeping import RESULTS, Parts, keep
from torch import nn
from torch.nn.utils import clip_grad_norm_

import kit
from kit.core.statistics import bootstrap, median
from kit.core.units import words
from kit.data import load_python_docs
from kit.models import GPT, GPTConfig
from kit.training.optimizers import muon
from kit.workloads.language import mean_per_character

CONTEXT, TARGET_LOSS = 64, 1.52
PAIRS, THREADS = 6, 1

NANO = {"n_layers": 4, "n_heads": 4, "d_model": 128}
NANO_STEPS, NANO_BATCH, NANO_WARMUP, NANO_LR, NANO_LEAST_LR = 1650, 12, 100, 2e-3, 2e-4
NANO_EVERY = 50

KIT = {"n_layers": 2, "n_heads": 4, "d_model": 64, "positions": "rotary"}
NGRAMS = {**KIT, "n_layers": 1, "n_heads": 1}
ORDERS, BUCKETS = (2, 3), 16384  # of the n-grams, and rows of each order's table
RECIPE = {
    "steps": 430,
    "batch_size": 32,
    "lr": 1.8e-2,
    "schedule": "trapezoid",
    "evaluate_every": 10,
}
MOMENTUM = 0.85  # of Muon
HALF_WINDOWS = 0.4  # the share of its steps that read the first half of each window
NGRAMS_RECIPE = {**RECIPE, "lr": 1.2e-2, "steps": 184, "evaluate_every": 4}

SAMPLE_S, SAMPLE_CHARACTERS, TEMPERATURE = 60, 400, 0.7
SAMPLE = {**KIT, "n_heads": 2, "d_model": 128}
SAMPLE_RECIPE = {**RECIPE, "lr": 8e-3}
PROMPT = "The "


def windowed():
    """The language workload in windows of nano's context: the same for all recipes."""
    return kit.workloads.language(load_python_docs(context=CONTEXT))


def gpt(work, shape, seed, kind=GPT):
    """A fresh GPT of that shape for the workload's characters and windows."""
    torch.manual_seed(seed)
    return kind(GPTConfig(vocab_size=len(work.data.classes), context=CONTEXT, **shape))


# --- The kit's models ----------------------------------------------------------------------------


class Growing(GPT):
    """A GPT that, in training, reads the first characters of each window: as many as its `length`.

    Shorter windows are cheaper, and a fresh model needs no long ones. Press et al., "Shortformer:
    Better Language Modeling using Shorter Inputs", 2021, section 3.
    """

    def __init__(self, config):
        super().__init__(config)
        self.length = config.context // 2

    def forward(self, tokens, *cached, **options):
        """Logits (B, length, V) in training; else those of the whole text."""
        tokens = tokens[:, : self.length] if self.training else tokens
        return super().forward(tokens, *cached, **options)


def grow(info):
    """After a share of the steps, the model reads complete windows."""
    if info.step >= HALF_WINDOWS * info.total:
        info.model.length = info.model.config.context


def loss_of_read(logits, targets):
    """The workload's loss of the characters that were read."""
    return mean_per_character(logits, targets[:, : logits.shape[1]])


class NGramEmbedding(nn.Embedding):
    """Of each character, and of the last two and three characters together: (B, T) -> (B, T, d).

    An n-gram's number, modulo the rows of a table, is its row; rare ones may share a row. Huang et
    al., "Over-Tokenized Transformer: Vocabulary is Generally Worth Scaling", 2025, section 3.
    """

    def __init__(self, vocab_size, d_model):
        super().__init__(vocab_size, d_model)
        self.tables = nn.ModuleList(nn.Embedding(BUCKETS, d_model) for _ in ORDERS)
        for weights in self.parameters():
            nn.init.normal_(weights, std=0.02)  # as the kit's GPT begins

    def forward(self, tokens):
        """The sum of all; before a text there are only characters of number 0."""
        x = super().forward(tokens)  # (B, T, d)
        for order, table in zip(ORDERS, self.tables, strict=True):
            number = tokens
            for back in range(1, order):
                before = nn.functional.pad(tokens, (back, 0))[:, :-back]  # (B, T)
                number = number + before * self.num_embeddings**back
            x = x + table(number % BUCKETS)
        return x


class NGramGPT(GPT):
    """A GPT of the kit that reads n-grams as well; it predicts single characters."""

    def __init__(self, config):
        super().__init__(config)
        self.token_embedding = NGramEmbedding(config.vocab_size, config.d_model)

    def cache(self, *sizes, **options):
        """Refuse: a cache holds keys and values, but not the characters of a broken n-gram."""
        raise NotImplementedError("an NGramGPT reads complete texts only: call it without a cache")


def zeroed(model):
    """The GPT with blocks that add nothing at first: a fresh deep one is as easy as a flat one."""
    for block in model.blocks:
        nn.init.zeros_(block.attention.out.weight)
        nn.init.zeros_(block.down.weight)
    return model


def fast_precision():
    """bf16 where the processor multiplies bfloat16; elsewhere it takes many times as long."""
    return "bf16" if any("bf16" in each for each in kit.machine().instructions) else "fp32"


def split_muon(named, lr):
    """Muon that moves queries, keys and values each by itself, with a memory of seven steps."""
    return muon(named, lr, momentum=MOMENTUM, split_qkv=True)


# --- The recipes ---------------------------------------------------------------------------------


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
    """Train the GPT with rotary positions, on half windows first, by one call of `kit.train`."""
    model, work = zeroed(gpt(work, KIT, seed, Growing)), replace(work, loss=loss_of_read)
    return trained("kit", model, {**RECIPE, "after_step": grow}, work, seed, target)


def ngrams(work, seed, target):
    """The same for the GPT that reads n-grams as well."""
    model = zeroed(gpt(work, NGRAMS, seed, NGramGPT))
    return trained("ngrams", model, NGRAMS_RECIPE, work, seed, target)


def trained(who, model, recipe, work, seed, target):
    """One call of `kit.train` until the loss is low enough: what that took."""
    options = {**recipe, "optimizer": split_muon, "target_loss": target, "seed": seed}
    history = kit.train(model, work, **options, precision=fast_precision(), live=False)
    loss, batch = history.scores[-1][1].loss, recipe["batch_size"]
    return taken(who, history.train_s, history.steps, batch, loss, target)


def taken(who, train_s, steps, batch_size, loss, target):
    """A run as it is kept; one that never got there is no measurement."""
    if loss > target:
        sys.exit(f"{who}: {loss:.4f} nats after {steps:,} steps, needed {target}: no time to tell.")
    return {
        "train_s": train_s,
        "steps": steps,
        "step_s": train_s / steps,
        "examples_per_s": steps * batch_size / train_s,
        "loss": loss,
    }


def measure(parts, pairs, target=TARGET_LOSS):
    """All in turns, a seed for each round."""
    recipes = {"kit": kits, "ngrams": ngrams, "nano": nano}
    work, runs = windowed(), {who: [] for who in recipes}
    for seed in range(pairs):
        for who, train in recipes.items():
            run = parts.once(f"{who} {seed}", partial(train, work, seed, target))
            runs[who].append(run)
        print({who: f"{each[-1]['train_s']:.1f} s" for who, each in runs.items()}, flush=True)
    return {
        "target_loss": target,
        "nano_to_kit": times(runs["nano"], runs["kit"]),
        "nano_to_ngrams": times(runs["nano"], runs["ngrams"]),
        **{f"{who}_s": bootstrap([run["train_s"] for run in runs[who]], unit="s") for who in runs},
        "runs": runs,
    }


def times(slow, fast):
    """How many times as long the slow ones take as the fast ones of the same seeds."""
    ratios = [b["train_s"] / a["train_s"] for a, b in zip(fast, slow, strict=True)]
    return bootstrap(ratios, unit="×")


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


def long_words(text):
    """Its words of three letters and more; one cut off at either end may be none."""
    return re.findall(r"[a-z]{3,}", text.lower())


def known_share(sample, text):
    """The share of the sample's words that the text has too."""
    known, written = set(long_words(text)), long_words(sample)
    return sum(word in known for word in written) / max(1, len(written))


def sample(seconds=SAMPLE_S):
    """What is written after so many seconds of training on one thread."""
    work, recipe = windowed(), {**SAMPLE_RECIPE, "precision": fast_precision()}
    recipe["optimizer"] = split_muon
    pace = kit.train(gpt(work, SAMPLE, 0), work, **{**recipe, "steps": 100}, live=False)
    recipe["evaluate_every"] = recipe["steps"] = max(1, int(seconds / pace.step_s))
    model = zeroed(gpt(work, SAMPLE, 0))
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


def table():
    """A row for each contestant, and what the GPT has written."""
    stored = json.loads((RESULTS / "time_to_loss.json").read_text(encoding="utf-8"))
    lines = ["| recipe | to the loss | steps | a step | nano ÷ it |", "| --- " * 5 + "|"]
    took = {who: [run["train_s"] for run in runs] for who, runs in stored["runs"].items()}
    for who, runs in stored["runs"].items():
        pairs = zip(took["nano"], took[who], strict=True)
        ratio = median([nano_s / own_s for nano_s, own_s in pairs], "×") if who != "nano" else "–"
        steps, step_s = (sorted(run[key] for run in runs) for key in ("steps", "step_s"))
        middle = words(step_s[len(runs) // 2], "s")
        shown = median(took[who], "s"), f"{steps[0]:,} to {steps[-1]:,}", middle, ratio
        lines.append(f"| {who} | {' | '.join(map(str, shown))} |")
    machine = stored["machine"]["cpu"]
    lines += ["", f"To {stored['target_loss']} nats. Measured on {machine}, {stored['date']}; "]
    lines[-1] += f"medians of {stored['conditions'].partition(',')[0]}, {THREADS} thread."
    return "\n".join(lines)


def main(pairs, with_sample):
    kit.device("cpu")
    torch.set_num_threads(THREADS)
    kits_own = f"kit {KIT}, {RECIPE}, {fast_precision()}, Muon with q, k and v apart"
    kits_own += f" and momentum {MOMENTUM}, half windows for {HALF_WINDOWS:.0%} of the steps"
    tables = f"ngrams {NGRAMS}, n-grams {ORDERS} in {BUCKETS} rows each"
    tables += f", {NGRAMS_RECIPE}, complete windows, Muon as kit"
    peer = f"nano {NANO}, batch {NANO_BATCH}, lr {NANO_LR}, {NANO_STEPS} steps"
    conditions = f"{THREADS} thread; {kits_own}; {tables}; {peer}"
    parts = Parts("time_to_loss", conditions=conditions, machine=kit.machine().cpu)
    figures = measure(parts, pairs)
    if with_sample:
        figures["sample"] = parts.once("sample", sample)
    keep("time_to_loss", **figures, conditions=f"{pairs} rounds, {conditions}")
    parts.complete()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["table"], help="print the stored figures")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="rounds of runs, one of each kind")
    parser.add_argument("--sample", action="store_true", help="train for 60 s more, and write")
    asked = parser.parse_args()
    if asked.what == "table":
        print(table())
    else:
        main(asked.pairs, asked.sample)
