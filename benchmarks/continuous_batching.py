"""Sixteen texts at once by the kit's engine, beside `kit.generate` writing one after the other.

    python benchmarks/continuous_batching.py           # six minutes, on a machine left alone;
                                                       # started again, it goes on
    python benchmarks/continuous_batching.py --quick   # only to try it; keeps nothing
    python benchmarks/continuous_batching.py table     # the saved figures

GPTs of four sizes with random weights write 16 texts on one thread, after prompts of 8 to 64
tokens. The new ones are equally many for all texts, or (`mixed`) half to all of this number, so
that texts end at different times. Half of the texts are greedy, half random with seeds. All 16 are
submitted at once. Both ways write the same texts: each is compared in every pair, and a difference
ends the benchmark.

The two ways are timed in turns, and the ratio is taken within a pair. Tokens/s counts new tokens
only; both times include the prompts. The engine's thread and its cache exist before: a server has
them ready. `passes` is how often the model computed a batch; `near_ties` how many tokens were
decided alone.

Why the ratio is not 16: a pass reads the weights once for all texts, but it multiplies 16 rows, and
it reads the keys and values of 16 texts. So the model's linear layers are timed with 16 rows and
with one row, and PyTorch's profiler says which share of a pass of 16 texts they and attention take.
"""

import argparse
import asyncio
import json
import time
from dataclasses import dataclass
from functools import partial

import torch
from keeping import RESULTS, Parts, keep
from torch import nn
from torch.profiler import ProfilerActivity, profile

import kit
from kit.core.statistics import Estimate, median
from kit.core.units import digits
from kit.models import GPT, GPTConfig
from kit.serving.batch_weights import for_batches
from kit.serving.batched_sampling import Sampling
from kit.serving.continuous_batching import GenerationEngine
from kit.serving.generation_batch import GenerationBatch, Text

TEXTS, PAIRS = 16, 6  # with fewer pairs, the ratio's interval is unknown
PROMPT = (8, 64)  # tokens: shortest, longest
READ = 64  # tokens of each text before the pass that is profiled
PARTS = {  # of a pass: where the name of an operation begins so
    "linear layers": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn::", "mkl::"),
    "attention": ("aten::_scaled_dot_product", "aten::_flash", "aten::scaled_dot", "aten::_soft"),
}


@dataclass(frozen=True)
class Size:
    """A GPT, and what it writes."""

    config: GPTConfig
    new: int  # tokens per text
    mixed: bool = False  # whether texts of mixed lengths are timed, too


SIZES = {
    "the kit's default, 2 × 96": Size(GPTConfig(context=256), 128),
    "6 × 256": Size(GPTConfig(context=256, d_model=256, n_layers=6, n_heads=4), 128, True),
    "6 × 384": Size(GPTConfig(context=256, d_model=384, n_layers=6, n_heads=6), 64),
    "GPT-2's, 12 × 768": Size(GPTConfig(50_257, 256, d_model=768, n_layers=12, n_heads=12), 24),
}
QUICK = {"2 × 32": Size(GPTConfig(context=128, d_model=32, n_layers=2, n_heads=2), 8, True)}


def requests(config, shortest, longest):
    """A prompt for each text, with how much and how to write."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for i in range(TEXTS):
        length = int(torch.randint(PROMPT[0], PROMPT[1] + 1, (1,), generator=draw))
        prompt = torch.randint(config.vocab_size, (length,), generator=draw).tolist()
        new = int(torch.randint(shortest, longest + 1, (1,), generator=draw))
        how = {"temperature": 1.0, "top_k": 20, "seed": i} if i % 2 else {}
        found.append((prompt, {"max_new_tokens": new, **how}))
    return found


# --- Both ways -----------------------------------------------------------------------------------


def one_by_one(model, asked):
    """(seconds, the texts as `kit.generate` writes them alone)."""
    began = time.perf_counter()
    texts = [list(kit.generate(model, prompt, **options).tokens[0]) for prompt, options in asked]
    return time.perf_counter() - began, texts


def together(engine, asked):
    """(seconds, the texts as the engine writes them together)."""

    async def write():
        readers = [engine.submit(prompt, **options) for prompt, options in asked]
        return [await reader.rest() for reader in readers]

    began = time.perf_counter()
    texts = asyncio.run(write())
    return time.perf_counter() - began, texts


def pair(model, engine, asked, engine_first):
    """Seconds of both ways, one by one first in the answer; the texts are compared."""
    ways = [lambda: one_by_one(model, asked), lambda: together(engine, asked)]
    order = (1, 0) if engine_first else (0, 1)
    taken = {i: ways[i]() for i in order}
    for i, (alone, batched) in enumerate(zip(taken[0][1], taken[1][1], strict=True)):
        if alone != batched:
            raise SystemExit(f"text {i} differs: {alone} alone, {batched} together")
    return taken[0][0], taken[1][0]


def measure(model, engine, asked, pairs):
    """What the pairs say."""
    tokens = sum(options["max_new_tokens"] for _, options in asked)
    passes, ties = engine.passes, engine.near_ties
    taken = [pair(model, engine, asked, i % 2 == 1) for i in range(pairs)]
    passes, ties = engine.passes - passes, engine.near_ties - ties
    alone, batched = zip(*taken, strict=True)
    figures = {
        "one_by_one_tokens_per_s": median([tokens / s for s in alone], "tokens/s"),
        "together_tokens_per_s": median([tokens / s for s in batched], "tokens/s"),
        "speedup": median([a / b for a, b in taken], "×"),
    }
    return {
        **{name: figure.to_dict() for name, figure in figures.items()},
        "new_tokens": tokens,
        "identical_texts": TEXTS * pairs,  # or the benchmark has ended
        "passes_per_run": passes / pairs,
        "near_ties_per_run": ties / pairs,
    }


# --- Why -----------------------------------------------------------------------------------------


@torch.inference_mode()
def linear_s(model, rows, budget_s):
    """Seconds of all linear layers, one after the other, each with this many rows."""
    layers = [part for part in model.modules() if isinstance(part, nn.Linear)]
    inputs = [torch.rand(rows, 1, layer.in_features) for layer in layers]

    def call():
        for layer, x in zip(layers, inputs, strict=True):
            layer(x)

    return kit.measure(call, budget_s=budget_s).median.value


def batch_of(model, texts):
    """A batch whose texts have read `READ` tokens, and are decoded from now on."""
    batch = GenerationBatch(model, TEXTS, model.config.context, prefill_chunk=READ)
    for i in range(texts):
        row = [(7 * i + k) % model.config.vocab_size for k in range(READ)]
        batch.join(Text(row, READ, [], Sampling(), kit.stream(model, [row], max_new_tokens=1)))
    while any(text.pending != 1 for text in batch.texts):
        batch.step()
    return batch


@torch.inference_mode()
def pass_shares(model, passes):
    """Share of each part of a pass of 16 texts, by PyTorch's profiler."""
    batch = batch_of(model, TEXTS)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        began = time.perf_counter()
        for _ in range(passes):
            batch.step()
        total_s = time.perf_counter() - began
    events = {e.key: e.self_cpu_time_total / 1e6 for e in profiler.key_averages()}
    parts = {
        part: sum(s for key, s in events.items() if key.startswith(names))
        for part, names in PARTS.items()
    }
    parts["other operations"] = sum(events.values()) - sum(parts.values())
    parts["Python"] = max(0.0, total_s - sum(events.values()))
    return {part: s / total_s for part, s in parts.items()}


# --- All sizes -----------------------------------------------------------------------------------


def measure_size(size, pairs, passes, budget_s):
    """All figures of one GPT."""
    kit.seed(0)
    model = GPT(size.config).eval().requires_grad_(False)
    lengths = {"equal": (size.new, size.new)}
    lengths |= {"mixed": (size.new // 2, size.new)} if size.mixed else {}
    engine = GenerationEngine(model, slots=TEXTS)
    try:
        few = requests(size.config, 4, 4)
        pair(model, engine, few, False)  # the warm-up
        figures = {
            name: measure(model, engine, requests(size.config, *each), pairs)
            for name, each in lengths.items()
        }
    finally:
        engine.close()
    one, many = linear_s(model, 1, budget_s), linear_s(for_batches(model), TEXTS, budget_s)
    why = {"linear_one_row_s": one, "linear_16_rows_s": many, "shares": pass_shares(model, passes)}
    weights = sum(p.numel() for part in model.modules() if isinstance(part, nn.Linear)
                  for p in part.parameters())  # fmt: skip
    return {"lengths": figures, "why": why, "gpt": repr(model), "read_per_token": weights}


def markdown(saved):
    """The saved figures as two tables."""
    heads = ("GPT", "weights of a pass", "new tokens", "one after the other", "16 together", "×")
    heads += ("identical texts",)
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for name, size in saved["sizes"].items():
        for lengths, found in size["lengths"].items():
            alone, batched, speedup = (
                repr(Estimate(**found[key]))
                for key in ("one_by_one_tokens_per_s", "together_tokens_per_s", "speedup")
            )
            new = f"{found['new_tokens']:,}, {lengths} lengths"
            cells = (name, f"{size['read_per_token'] / 1e6:.3g} M", new, alone, batched, speedup)
            lines.append(f"| {' | '.join(cells)} | all {found['identical_texts']} |")
    parts = list(next(iter(saved["sizes"].values()))["why"]["shares"])
    heads = ("a pass of 16 texts", *parts, "linear layers: 16 rows ÷ one row")
    lines += ["", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for name, size in saved["sizes"].items():
        why = size["why"]
        shares = (f"{100 * why['shares'][part]:.0f} %" for part in parts)
        ratio = digits(why["linear_16_rows_s"] / why["linear_one_row_s"])
        lines.append(f"| {' | '.join((name, *shares))} | {ratio} × |")
    machine, day = saved["machine"]["cpu"], saved["date"]
    return "\n".join([*lines, "", f"Measured on {machine}, {day}; {saved['conditions']}."])


def main(quick):
    kit.device("cpu")
    torch.set_num_threads(1)
    pairs, passes, budget_s = (1, 2, 0.05) if quick else (PAIRS, 10, 1.0)
    asked, sizes = QUICK if quick else SIZES, {}
    run = Parts("continuous_batching", sizes=list(asked), pairs=pairs)
    for name, size in asked.items():
        sizes[name] = run.once(name, partial(measure_size, size, pairs, passes, budget_s))
        print(f"{time.strftime('%H:%M:%S')} {name}: {sizes[name]['lengths']}", flush=True)
    record = {"sizes": sizes, "conditions": f"{pairs} pairs in turns, one thread, float32"}
    if quick:
        print(markdown(record | {"machine": {"cpu": "this machine"}, "date": "today"}))
    else:
        keep("continuous_batching", **record, torch=torch.__version__)
        print(table())
    run.complete()


def table():
    """The saved figures."""
    path = RESULTS / "continuous_batching.json"
    return markdown(json.loads(path.read_text(encoding="utf-8")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["table"])
    parser.add_argument("--quick", action="store_true", help="only to try it; keeps nothing")
    asked = parser.parse_args()
    print(table()) if asked.what else main(asked.quick)
