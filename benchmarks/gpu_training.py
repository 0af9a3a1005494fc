"""A GPT's training step on one GPU: tokens/s, MFU, share of the best matmul, the compiler's wait.

    python benchmarks/gpu_training.py               # three sizes: about ten minutes
    python benchmarks/gpu_training.py --size 124M   # one of them
    python benchmarks/gpu_training.py --small       # the same code, tiny, on the CPU; keeps nothing

The steps are those of `kit.training.updates`: matmuls in bfloat16 with weights in float32, forward
pass and loss compiled as one, fused AdamW, on random tokens. Two steps come first: the first one
waits for the compiler, and the second is the first with the optimizer's state in memory. Then ten
steps in a row are one timing, and the GPU is waited for at both edges. A batch that does not fit is
halved; the record says which one did.

FLOPs of a step per token, with N the weights that multiply (blocks and head, no embeddings), L
layers, T places and d width. MFU is these per second ÷ the data sheet's dense bfloat16 peak:

full     6·N + 12·L·T·d       every query meets every key (Chowdhery et al., "PaLM", 2022, app. B)
causal   6·N + 6·L·(T + 1)·d  without the pairs that the mask throws away

What AdamW computes is in neither, nor what attention computes a second time on its way back.

The sizes are GPT-2's; "124M" has 124 million weights that multiply, as GPT-2 has. The kit's GPT
does not use the embedding again as its head, so in all it has 163 million.
"""

import gc
import sys
import time

import torch
from keeping import keep_of_gpu, sizes_asked

import kit
from kit.data import Dataset, Split
from kit.models import GPT, GPTConfig
from kit.training import updates
from kit.workloads import Workload
from kit.workloads.language import mean_per_character, share_predicted

VOCABULARY = 50_304  # GPT-2's 50,257 rounded up to a multiple of 64, which matmuls like better
SIZES = {  # name -> the model, and the largest batch to try
    "124M": (GPTConfig(VOCABULARY, context=1024, d_model=768, n_layers=12, n_heads=12), 64),
    "350M": (GPTConfig(VOCABULARY, context=1024, d_model=1024, n_layers=24, n_heads=16), 32),
    "774M": (GPTConfig(VOCABULARY, context=1024, d_model=1280, n_layers=36, n_heads=20), 32),
}
SMALL = GPTConfig(vocab_size=64, context=32, d_model=32, n_layers=2, n_heads=2)
EXAMPLES = 1_024
IN_A_ROW = 10  # steps per timing: in a training nobody waits for each
LR = 3e-4  # of GPT-3's range for these sizes: the losses must stay numbers

# The GPU's name -> dense bfloat16 FLOP/s with float32 sums, from its maker's data sheet or white
# paper. Where a data sheet gives the rate "with sparsity", this is half of it.
PEAKS = {
    "NVIDIA B200": 2250e12,
    "NVIDIA H200": 989.4e12,  # 1,979 with sparsity
    "NVIDIA H200 NVL": 835.5e12,  # 1,671 with sparsity
    "NVIDIA H100 80GB HBM3": 989.4e12,  # the SXM one
    "NVIDIA H100 NVL": 835.5e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA A100-PCIE-40GB": 312e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA L4": 121e12,
    "NVIDIA GeForce RTX 4090": 165.2e12,
    "NVIDIA GeForce RTX 3090": 71e12,
}


def random_tokens(config):
    """A workload with nothing to learn: a step takes as long as on a text."""
    drawn = torch.Generator().manual_seed(0)
    shape = (EXAMPLES, config.context + 1)
    tokens = torch.randint(config.vocab_size, shape, generator=drawn)
    split = Split(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    data = Dataset("random tokens", {"train": split}, (), origin="drawn", licence="none")
    return Workload(
        name="random tokens",
        stands_for="a text",
        differs="nothing can be learnt from it",
        load=lambda: data,
        models={},
        loss=mean_per_character,
        score=share_predicted,
        measure="of the next tokens right",
        target=0.0,
    )


def flops_per_token(config):
    """Convention -> FLOPs of one step, per token."""
    d, layers, places = config.d_model, config.n_layers, config.context
    multiplying = 12 * layers * d**2 + d * config.vocab_size  # qkv 3, out 1, wide 4, narrow 4
    return {
        "full": 6 * multiplying + 12 * layers * places * d,
        "causal": 6 * multiplying + 6 * layers * (places + 1) * d,
    }


def rates(config, batch, step, peak, matmul):
    """What the seconds of a step come to; None where a peak is not known."""
    tokens = batch * config.context
    told = {"tokens_per_s": tokens / step}
    for convention, flops in flops_per_token(config).items():
        done = tokens * flops / step
        told[f"flops_per_s_{convention}"] = done
        told[f"mfu_{convention}"] = peak and done / peak
        told[f"share_of_matmul_{convention}"] = matmul and done / matmul
    return told


def figures(config, batch, device, matmul, compile=True, budget_s=20.0):
    """A model's step with this batch, timed."""
    torch.compiler.reset()  # else a second batch size gets kernels for any size, which are slower
    kit.seed(0)
    model = GPT(config).to(device)
    steps = updates(
        model, random_tokens(config), batch_size=batch, lr=LR, precision="bf16", compile=compile
    )
    first_s, second_s = waited(steps), waited(steps)
    taken = kit.measure(lambda: in_a_row(steps), budget_s=budget_s, device=device)
    step = taken.median * (1 / IN_A_ROW)
    return {
        "batch_size": batch,
        "context": config.context,
        "params": sum(p.numel() for p in model.parameters()),
        "first_step_s": first_s,
        "compile_s": first_s - second_s if compile else None,
        "step_s": step,
        **rates(config, batch, step, PEAKS.get(name_of(device)), matmul),
        "memory_bytes": torch.cuda.max_memory_allocated() if device.type == "cuda" else None,
        "timings": taken.n,
        "doubts": list(taken.doubts),
        "loss": next(steps).item(),
    }


def waited(steps):
    """Seconds of one step, until its loss is there."""
    started = time.perf_counter()
    next(steps).item()
    return time.perf_counter() - started


def in_a_row(steps):
    for _ in range(IN_A_ROW):
        next(steps)


def fitting(config, batch, device, matmul):
    """The figures with the first batch that fits: this one, half of it, …"""
    while True:
        try:
            return figures(config, batch, device, matmul)
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        batch //= 2  # out here: as long as the error is handled, it holds on to the memory
        gc.collect()
        torch.cuda.empty_cache()


def name_of(device):
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "this CPU"


def best_matmul(device, budget_s):
    """bfloat16 FLOP/s of the best matmul; None where the device has none."""
    found = kit.peaks(device, budget_s=budget_s)
    return found.matmul_flops_per_s.get("bfloat16")


def told(row):
    """Estimates as their dicts."""
    return {k: v.to_dict() if isinstance(v, kit.statistics.Estimate) else v for k, v in row.items()}


def main(sizes):
    if not torch.cuda.is_available():
        sys.exit("This needs a CUDA GPU, so nothing was measured or kept. Try --small.")
    device = torch.device("cuda")
    name, matmul, rows = name_of(device), best_matmul(device, 10.0), {}
    for size in sizes:
        rows[size] = told(fitting(*SIZES[size], device, matmul))
        keep_of_gpu(  # after each: a later one may break
            "gpu_training",
            dense_peak_flops_per_s=PEAKS.get(name),
            best_matmul_flops_per_s=matmul,
            sizes=rows,
        )


def small(compile=True):
    """The same on the CPU at a size that takes a moment; printed, not kept."""
    device = torch.device("cpu")
    torch.set_num_threads(1)
    row = figures(SMALL, 8, device, best_matmul(device, 0.5), compile, budget_s=0.5)
    for key, value in row.items():
        print(f"{key}: {value}")
    return row


if __name__ == "__main__":
    names, only_small = sizes_asked(__doc__, SIZES)
    small() if only_small else main(names)
