"""480 tokens with a cache and without, beside what the roofline says of the two.

    python benchmarks/kv_cache.py          # three minutes, on a machine left alone
    python benchmarks/kv_cache.py --pairs 1
    python benchmarks/kv_cache.py table    # what was kept, in a sentence

A GPT of 6 layers, 256 wide, writes 480 tokens after a prompt of 32, on one thread: once with
`kit.generate` as it is, once with `cache=False`, in turns. Both write the same tokens, which is
looked at before anything is timed.

The roofline of the same minutes: each token costs the greater of its FLOPs ÷ the best matmul in
float32 and its bytes ÷ the memory's rate (Williams, Waterman & Patterson, 2009). Without a cache
the processor is the limit, with one the memory; the predicted speed-up is the ratio of both sums.
`measured_to_predicted` is the measured speed-up ÷ that. It may be more than 1: what is slow
without a cache is farther from its limit.

19 MB of weights and 6 MB of cache may also lie in a processor's last cache, which moves them faster
than the memory does. `speedup_predicted_from_cache` takes that rate for the limit, if it is known.
"""

import argparse
import json

import torch
from keeping import RESULTS, keep

import kit
from kit.core.statistics import Estimate, median
from kit.core.units import digits
from kit.models import GPT, GPTConfig

CONFIG = GPTConfig(vocab_size=103, context=512, d_model=256, n_layers=6, n_heads=4)
PROMPT, NEW = 32, 480
PAIRS = 6  # with fewer, the interval of the ratio is unknown


def seconds(model, prompt, **options):
    """Until all tokens are there, and the tokens."""
    written = kit.generate(model, prompt, max_new_tokens=NEW, **options)
    return written.latency_s, written.tokens


def predicted(counted, flops_per_s, bytes_per_s):
    """Seconds by the roofline: (without a cache, with one)."""

    def least(works):
        return sum(max(w.flops / flops_per_s, w.moved_bytes / bytes_per_s) for w in works)

    return least(counted.rereading), least((counted.prefill, *counted.decode))


def measure(pairs):
    """What the pairs and the roofline tell."""
    kit.seed(0)
    model = GPT(CONFIG).eval()
    prompt = torch.randint(CONFIG.vocab_size, (PROMPT,))
    ways = {"with": {}, "without": {"cache": False}}
    tokens = {way: seconds(model, prompt, **options)[1] for way, options in ways.items()}
    assert tokens["with"] == tokens["without"], "they write different texts"
    taken = {way: [] for way in ways}
    best = [kit.peaks("cpu", again=True)]
    for i in range(pairs):
        for way in sorted(ways, reverse=i % 2 == 0):
            taken[way].append(seconds(model, prompt, **ways[way])[0])
        best.append(kit.peaks("cpu", again=True))
    flops_per_s = max(p.matmul_flops_per_s["float32"] for p in best)
    memory = max(p.bandwidth_bytes_per_s for p in best)
    last_cache = max(p.cache_bytes_per_s or memory for p in best)
    counted = kit.count_generation(model, PROMPT, NEW)
    ratios = [a / b for a, b in zip(taken["without"], taken["with"], strict=True)]
    speedup = median(ratios, "×")
    told = {
        "gpt": repr(model),
        "new_tokens": NEW,
        "with_cache_s": median(taken["with"], "s"),
        "without_cache_s": median(taken["without"], "s"),
        "tokens_per_s_with_cache": NEW / median(taken["with"]).value,
        "tokens_per_s_without_cache": NEW / median(taken["without"]).value,
        "speedup": speedup,
        "flops_without": sum(work.flops for work in counted.rereading),
        "kv_bytes": counted.kv_bytes,
        "peak_matmul_flops_per_s": flops_per_s,
        "memory_bytes_per_s": memory,
        "last_cache_bytes_per_s": last_cache,
    }
    for name, rate in (("", memory), ("_from_cache", last_cache)):
        without, within = predicted(counted, flops_per_s, rate)
        told[f"speedup_predicted{name}"] = without / within
        told[f"measured_to_predicted{name}"] = speedup / (without / within)
        told[f"share_of_limit_with{name}"] = within / told["with_cache_s"].value
        told[f"share_of_limit_without{name}"] = without / told["without_cache_s"].value
    return told


def sentence():
    """What was kept, in words."""
    kept = json.loads((RESULTS / "kv_cache.json").read_text(encoding="utf-8"))
    speedup, share = (Estimate(**kept[name]) for name in ("speedup", "measured_to_predicted"))
    return (
        f"{kept['new_tokens']} tokens of a GPT with {kept['gpt'].split(': ')[1]}: "
        f"{digits(kept['tokens_per_s_without_cache'])} tokens/s without a cache, "
        f"{digits(kept['tokens_per_s_with_cache'])} with one, {speedup} as fast: "
        f"{digits(share.value)} [{digits(share.low)} to {digits(share.high)}] of what the roofline "
        f"of the processor and its memory predicts. Measured on {kept['machine']['cpu']}, "
        f"1 thread, {kept['date']} (`benchmarks/kv_cache.py`)."
    )


def main(pairs):
    kit.device("cpu")
    torch.set_num_threads(1)
    keep("kv_cache", **measure(pairs), conditions=f"{pairs} pairs in turns, 1 thread")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=["table"])
    parser.add_argument("--pairs", type=int, default=PAIRS, help="of runs, one of each kind")
    asked = parser.parse_args()
    print(sentence()) if asked.what else main(asked.pairs)
