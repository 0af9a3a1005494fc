"""Writing one text on one GPU: what share of the memory's rate each token's bytes come to.

    python benchmarks/gpu_decode.py               # five sizes: about ten minutes
    python benchmarks/gpu_decode.py --size 124M   # one of them
    python benchmarks/gpu_decode.py --small       # the same code, tiny, on the CPU; keeps nothing

To write a token, all weights have to come from memory once, and the keys and values of what stands
before. So bytes ÷ seconds ÷ the memory's rate says how near a decoder is to what the GPU can do
("MBU"). Weights are random, in bfloat16; batch 1; a prompt of 128 tokens, then 256 new ones. Three
ways of making a step: one operation after another, the same as a CUDA graph, compiled and a graph.

Bytes are the least that must move, `kit.count_generation`'s: weights (of embeddings, the rows that
are looked up), keys and values so far. The rate is the data sheet's; the one that `kit.peaks`
measured in the same run stands beside it.

The sizes are GPT-2's, and one that is wide and shallow, as large as two of them: fewer and larger
operations.
"""

import gc
import sys
import time

import torch
from keeping import keep_of_gpu, sizes_asked

import kit
from kit.core.statistics import median
from kit.models import GPT, GPTConfig
from kit.techniques import half

VOCABULARY = 50_304  # GPT-2's 50,257 rounded up to a multiple of 64
SIZES = {
    "124M": GPTConfig(VOCABULARY, context=1024, d_model=768, n_layers=12, n_heads=12),
    "350M": GPTConfig(VOCABULARY, context=1024, d_model=1024, n_layers=24, n_heads=16),
    "774M": GPTConfig(VOCABULARY, context=1024, d_model=1280, n_layers=36, n_heads=20),
    "1558M": GPTConfig(VOCABULARY, context=1024, d_model=1600, n_layers=48, n_heads=25),
    "1.2B wide": GPTConfig(VOCABULARY, context=1024, d_model=4096, n_layers=5, n_heads=32),
}
SMALL = GPTConfig(vocab_size=64, context=64, d_model=32, n_layers=2, n_heads=2)
PROMPT, NEW, RUNS = 128, 256, 7
WAYS = ("plain", "graph", "compiled")

# The GPU's name -> bytes/s of its memory, from its maker's data sheet.
RATES = {
    "NVIDIA B200": 8.0e12,
    "NVIDIA H200": 4.8e12,
    "NVIDIA H200 NVL": 4.8e12,
    "NVIDIA H100 80GB HBM3": 3.35e12,
    "NVIDIA H100 NVL": 3.9e12,
    "NVIDIA H100 PCIe": 2.0e12,
    "NVIDIA A100-SXM4-80GB": 2.039e12,
    "NVIDIA A100-SXM4-40GB": 1.555e12,
    "NVIDIA A100 80GB PCIe": 1.935e12,
    "NVIDIA L40S": 864e9,
    "NVIDIA L4": 300e9,
    "NVIDIA GeForce RTX 4090": 1.008e12,
    "NVIDIA GeForce RTX 3090": 936e9,
}


def made(config, device):
    """The model in bfloat16, its weights made where they are to be."""
    kit.seed(0)
    with torch.device(device):
        model = GPT(config).eval().requires_grad_(False)
    return half.apply(model, None)  # not the technique itself, which would copy it first


def seconds_per_token(model, prompt, new, runs, **options):
    """Of a token after the first, in several writings; the first one makes graph and kernels."""
    started = time.perf_counter()
    kit.generate(model, prompt, max_new_tokens=new, **options)
    first_s = time.perf_counter() - started
    taken = [kit.generate(model, prompt, max_new_tokens=new, **options) for _ in range(runs)]
    # A writing makes its step anew before its second token, so that one is left out.
    steps = [(w.arrivals_s[-1] - w.arrivals_s[1]) / (new - 2) for w in taken]
    return median(steps, "s"), first_s, taken[-1].tokens


def figures(config, device, prompt_tokens=PROMPT, new=NEW, runs=RUNS, ways=WAYS):
    """One model in three ways."""
    model = made(config, device)
    prompt = torch.randint(config.vocab_size, (prompt_tokens,)).tolist()
    counted = kit.count_generation(model, prompt_tokens, new)
    moved = counted.decode_step.moved_bytes
    rows = {}
    for way in ways:
        step, first_s, tokens = seconds_per_token(model, prompt, new, runs, step=way)
        rows[way] = {
            "step_s": step,
            "tokens_per_s": 1 / step.value,
            "bytes_per_s": moved / step,
            "first_writing_s": first_s,
            "tokens": list(tokens[0][:16]),
        }
    return {
        "params": sum(p.numel() for p in model.parameters()),
        "decode_bytes": moved,
        "kv_bytes_per_token": counted.kv_bytes_per_token,
        "ways": rows,
    }


def shares(row, rate, measured):
    """The rows with what share of either rate they reach; estimates as their dicts."""
    for way in row["ways"].values():
        done = way["bytes_per_s"]
        way["share_of_data_sheet"] = rate and (done / rate).to_dict()
        way["share_of_measured"] = measured and (done / measured).to_dict()
        way["bytes_per_s"], way["step_s"] = done.to_dict(), way["step_s"].to_dict()
    return row


def main(sizes):
    if not torch.cuda.is_available():
        sys.exit("This needs a CUDA GPU, so nothing was measured or kept. Try --small.")
    device = torch.device("cuda")
    name, rows = torch.cuda.get_device_name(device), {}
    measured = kit.peaks(device, budget_s=10.0).bandwidth_bytes_per_s
    for size in sizes:
        rows[size] = shares(figures(SIZES[size], device), RATES.get(name), measured)
        gc.collect()
        torch.cuda.empty_cache()
        keep_of_gpu(  # after each: a later one may break
            "gpu_decode",
            data_sheet_bytes_per_s=RATES.get(name),
            measured_bytes_per_s=measured,
            prompt_tokens=PROMPT,
            new_tokens=NEW,
            sizes=rows,
        )


def small(ways=("plain", "compiled")):
    """The same on the CPU at a size that takes a moment; printed, not kept."""
    torch.set_num_threads(1)
    row = shares(figures(SMALL, torch.device("cpu"), 8, 24, 2, ways), None, 1e9)
    for key, value in row.items():
        print(f"{key}: {value}")
    return row


if __name__ == "__main__":
    names, only_small = sizes_asked(__doc__, SIZES)
    small() if only_small else main(names)
