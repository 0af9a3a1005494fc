"""Sixteen texts at once by the kit's engine, beside `kit.generate` writing one after the other.

    python benchmarks/continuous_batching.py           # five minutes, on a machine left alone;
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

The bound: what 16 texts cannot do without, timed in each pair, between the two ways. All prompts
go through the linear layers in one piece. Then, for each 16 new tokens, 16 rows go through the
linear layers, and 16 queries through attention over caches of the mean length. Nothing else is
computed: no norm, no mask, no token is drawn. One after the other ÷ this time is the most that any
engine with these kernels could gain; this time ÷ together is how near the kit comes.
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
from torch.nn.functional import scaled_dot_product_attention
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
FIGURES = ("one_by_one_tokens_per_s", "together_tokens_per_s", "speedup", "bound")
FIGURES += ("share_of_bound",)  # in the order of the table
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


def linear_layers(part, rows):
    """A function that computes all linear layers of a part, each with this many rows."""
    layers = [each for each in part.modules() if isinstance(each, nn.Linear)]
    inputs = [torch.rand(rows, 1, layer.in_features) for layer in layers]

    @torch.inference_mode()
    def call():
        for layer, x in zip(layers, inputs, strict=True):
            layer(x)

    return call


def least_work(model, asked):
    """A function that does only what no way to write these texts together can leave out."""
    config, batched = model.config, for_batches(model)
    prompts = sum(len(prompt) for prompt, _ in asked)
    passes = sum(options["max_new_tokens"] for _, options in asked) // TEXTS
    # The head computes one row of each prompt: it is left out there.
    read, decode = linear_layers(batched.blocks, prompts), linear_layers(batched, TEXTS)
    positions, width = prompts // TEXTS + passes // 2, config.d_model // config.n_heads
    shape = (TEXTS, config.n_heads, positions, width)
    caches = [(torch.rand(shape), torch.rand(shape)) for _ in range(config.n_layers)]
    queries = torch.rand(shape)[:, :, :1]

    @torch.inference_mode()
    def work():
        began = time.perf_counter()
        read()
        for _ in range(passes):
            decode()
            for keys, values in caches:
                scaled_dot_product_attention(queries, keys, values)
        return time.perf_counter() - began, None

    return work


def pair(model, engine, asked, least, engine_first):
    """Seconds one by one, together, and of the least work, which is timed between the two.

    The texts are compared.
    """
    ways = [lambda: one_by_one(model, asked), lambda: together(engine, asked), least]
    taken = {i: ways[i]() for i in ((1, 2, 0) if engine_first else (0, 2, 1))}
    for i, (alone, batched) in enumerate(zip(taken[0][1], taken[1][1], strict=True)):
        if alone != batched:
            raise SystemExit(f"text {i} differs: {alone} alone, {batched} together")
    return tuple(taken[i][0] for i in range(len(ways)))


def measure(model, engine, asked, pairs):
    """What the pairs say."""
    tokens, least = sum(options["max_new_tokens"] for _, options in asked), least_work(model, asked)
    least()  # the warm-up
    passes, ties = engine.passes, engine.near_ties
    taken = [pair(model, engine, asked, least, i % 2 == 1) for i in range(pairs)]
    passes, ties = engine.passes - passes, engine.near_ties - ties
    figures = {
        "one_by_one_tokens_per_s": median([tokens / alone for alone, _, _ in taken], "tokens/s"),
        "together_tokens_per_s": median([tokens / both for _, both, _ in taken], "tokens/s"),
        "speedup": median([alone / both for alone, both, _ in taken], "×"),
        "bound": median([alone / needed for alone, _, needed in taken], "×"),
        "share_of_bound": median([needed / both for _, both, needed in taken], "%"),
    }
    return {
        **{name: figure.to_dict() for name, figure in figures.items()},
        "new_tokens": tokens,
        "identical_texts": TEXTS * pairs,  # or the benchmark has ended
        "passes_per_run": passes / pairs,
        "near_ties_per_run": ties / pairs,
    }


# --- Why -----------------------------------------------------------------------------------------


def linear_s(model, rows, budget_s):
    """Seconds of all linear layers, one after the other, each with this many rows."""
    return kit.measure(linear_layers(model, rows), budget_s=budget_s).median.value


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
        pair(model, engine, few, least_work(model, few), False)  # the warm-up
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
    heads += ("bound", "share of the bound", "identical texts")
    lines = [f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    for name, size in saved["sizes"].items():
        for lengths, found in size["lengths"].items():
            measured = [
                repr(Estimate(**found[key])) if key in found else "–"  # an older run
                for key in FIGURES
            ]
            new = f"{found['new_tokens']:,}, {lengths} lengths"
            cells = (name, f"{size['read_per_token'] / 1e6:.3g} M", new, *measured)
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
