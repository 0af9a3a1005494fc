"""Sixteen texts at once by the kit's engine, beside `kit.generate` writing one after the other.

    python benchmarks/continuous_batching.py           # three minutes, on a machine left alone
    python benchmarks/continuous_batching.py --quick   # only to try it; keeps nothing
    python benchmarks/continuous_batching.py table     # the saved figures, in sentences

A GPT of 6 layers, 256 wide, with random weights, writes 16 texts on one thread: prompts of 8 to 64
tokens, and 128 new ones (`same_length`) or 64 to 128, so that texts end at different times
(`mixed_lengths`). Half of them are greedy, half random with seeds. All 16 are submitted at once.
Both ways write the same texts: each is compared in every pair, and a difference ends the benchmark.

The two ways are timed in turns, and the ratio is taken within a pair. Tokens/s counts new tokens
only; both times include the prompts. The engine's thread and its cache exist before: a server has
them ready. `passes` is how often the model computed a batch; `near_ties` how many tokens were
decided alone.
"""

import argparse
import asyncio
import json
import time

import torch
from keeping import RESULTS, keep

import kit
from kit.core.statistics import Estimate, median
from kit.core.units import digits
from kit.models import GPT, GPTConfig
from kit.serving.continuous_batching import GenerationEngine

CONFIG = GPTConfig(vocab_size=103, context=256, d_model=256, n_layers=6, n_heads=4)
TEXTS, PAIRS = 16, 10
LENGTHS = {"same_length": (128, 128), "mixed_lengths": (64, 128)}  # shortest, longest


def requests(shortest, longest):
    """A prompt for each text, with how much and how to write."""
    draw = torch.Generator().manual_seed(0)
    found = []
    for i in range(TEXTS):
        length = int(torch.randint(8, 65, (1,), generator=draw))
        prompt = torch.randint(CONFIG.vocab_size, (length,), generator=draw).tolist()
        new = int(torch.randint(shortest, longest + 1, (1,), generator=draw))
        how = {"temperature": 1.0, "top_k": 20, "seed": i} if i % 2 else {}
        found.append((prompt, {"max_new_tokens": new, **how}))
    return found


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


def measure(model, pairs, shortest, longest):
    """What the pairs tell."""
    asked = requests(shortest, longest)
    tokens = sum(options["max_new_tokens"] for _, options in asked)
    engine = GenerationEngine(model, slots=TEXTS)
    try:
        few = [(prompt, {**options, "max_new_tokens": 4}) for prompt, options in asked]
        pair(model, engine, few, False)  # the warm-up
        passes, ties = engine.passes, engine.near_ties
        taken = [pair(model, engine, asked, i % 2 == 1) for i in range(pairs)]
        passes, ties = engine.passes - passes, engine.near_ties - ties
    finally:
        engine.close()
    alone, batched = zip(*taken, strict=True)
    told = {
        "one_by_one_tokens_per_s": median([tokens / s for s in alone], "tokens/s"),
        "together_tokens_per_s": median([tokens / s for s in batched], "tokens/s"),
        "speedup": median([a / b for a, b in taken], "×"),
    }
    return {
        **{name: figure.to_dict() for name, figure in told.items()},
        "new_tokens": tokens,
        "identical_texts": TEXTS * pairs,  # or the benchmark has ended
        "passes_per_run": passes / pairs,
        "near_ties_per_run": ties / pairs,
    }


def sentences(saved):
    """The saved figures, in words."""
    lines = []
    for lengths in LENGTHS:
        told = saved[lengths]
        alone, batched, speedup = (
            Estimate(**told[name])
            for name in ("one_by_one_tokens_per_s", "together_tokens_per_s", "speedup")
        )
        lines.append(
            f"{TEXTS} texts of {lengths.replace('_', ' ')}, {told['new_tokens']:,} new tokens: "
            f"{digits(alone.value)} tokens/s one after the other, {digits(batched.value)} "
            f"together: {speedup}. All {told['identical_texts']} texts were identical."
        )
    return "\n".join([*lines, f"{saved['gpt']}, {saved['conditions']}."])


def main(pairs, quick):
    kit.device("cpu")
    torch.set_num_threads(1)
    kit.seed(0)
    model = GPT(CONFIG).eval()
    lengths = {name: (8, 16) for name in LENGTHS} if quick else LENGTHS
    figures = {name: measure(model, pairs, *each) for name, each in lengths.items()}
    figures |= {"gpt": repr(model), "conditions": f"{pairs} pairs in turns, 1 thread"}
    if quick:
        print(sentences(figures))
        return
    keep("continuous_batching", **figures, torch=torch.__version__)
    print(table())


def table():
    """The saved figures, with the machine."""
    saved = json.loads((RESULTS / "continuous_batching.json").read_text(encoding="utf-8"))
    return f"{sentences(saved)} Measured on {saved['machine']['cpu']}, {saved['date']}."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["table"])
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of runs, one of each kind")
    parser.add_argument("--quick", action="store_true", help="only to try it; keeps nothing")
    asked = parser.parse_args()
    print(table()) if asked.what else main(1 if asked.quick else asked.pairs, asked.quick)
