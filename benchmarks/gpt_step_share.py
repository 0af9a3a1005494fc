"""A GPT's training step on the CPU beside the best matmul of the same minute: the share it reaches.

    python benchmarks/gpt_step_share.py     # about three minutes on a quiet machine

One thread. In each round matmuls are timed, then a step of `kit.training.updates`, then the matmuls
again. The fastest of them, in the step's dtype, is what the step is held against; the round's share
is the step's FLOP/s ÷ that. So a machine that has become slower between two rounds changes no
share. FLOPs are counted by the two conventions of `gpu_training.py`, and AdamW's in neither.

Two clocks: the one on the wall, and the time that the processor gave to this process. With a
quiet machine both say the same. Where others take turns on the core, a step of half a second is
interrupted and a matmul of a millisecond is not: then the second clock is right.
"""

import time
from functools import partial

import numpy as np
import torch
from gpu_training import flops_per_token, told
from keeping import Parts, keep

import kit
from kit.core.statistics import median
from kit.models import GPT, GPTConfig
from kit.training import updates

MATMULS = [(n, n, n) for n in (256, 384, 512, 1024)] + [(1024, 256, 1024)]  # as kit.peaks tries
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SIZES = {  # d_model, n_layers, n_heads -> batch; the first is the GPT of the lessons
    (96, 2, 3): 16,
    (192, 4, 3): 8,
    (256, 4, 4): 8,
    (384, 6, 6): 8,
    (512, 6, 8): 8,
}
ROUNDS, TRIES = 30, 3


def seconds(call):
    """(2,) seconds of one call: on the wall, and of the processor."""
    before = time.perf_counter(), time.process_time()
    call()
    return np.subtract((time.perf_counter(), time.process_time()), before)


def matmuls(dtype):
    """(FLOPs, call) of each shape."""
    calls = []
    for rows, inner, columns in MATMULS:
        a, b = torch.randn(rows, inner, dtype=dtype), torch.randn(inner, columns, dtype=dtype)
        out = torch.empty(rows, columns, dtype=dtype)
        calls.append(
            (2 * rows * inner * columns, lambda a=a, b=b, out=out: torch.mm(a, b, out=out))
        )
    return calls


def best_rate(calls):
    """(2,) FLOP/s of the fastest of some tries of each, by each clock."""
    return np.max([flops / seconds(call) for flops, call in calls for _ in range(TRIES)], axis=0)


def rounds(steps, calls, n):
    """(n, 2) seconds of a step and (n, 2) FLOP/s of the best matmul around it."""
    taken, best = [], []
    for _ in range(n):
        before = best_rate(calls)
        taken.append(seconds(lambda: next(steps)))
        best.append(np.maximum(before, best_rate(calls)))
    return np.array(taken), np.array(best)


def row(work, size, batch, precision, n):
    """What the rounds of one GPT tell."""
    context = work.data["train"].inputs.shape[1]
    config = GPTConfig(len(work.data.classes), context, *size)
    kit.seed(0)
    model, calls = GPT(config), matmuls(DTYPES[precision])
    steps = updates(model, work, batch_size=batch, precision=precision)
    rounds(steps, calls, 2)  # warm-up
    taken, best = rounds(steps, calls, n)
    flops = {name: batch * context * each for name, each in flops_per_token(config).items()}
    wall, processor = (flops["full"] / taken / best).T
    return {
        "gpt": f"{model!r}, context {context}",
        "precision": precision,
        "batch_size": batch,
        "step_s": median(taken[:, 0], "s"),
        "best_matmul_flops_per_s": median(best[:, 0], "FLOP/s"),
        "share_full": median(wall, "%"),
        "share_causal": median(wall * flops["causal"] / flops["full"], "%"),
        "share_full_by_processor_time": median(processor, "%"),
        "share_causal_by_processor_time": median(processor * flops["causal"] / flops["full"], "%"),
    }


def main(sizes, n):
    kit.device("cpu")
    torch.set_num_threads(1)
    work = kit.workloads.language()
    run, rows = Parts("gpt_step_share", rounds=n, sizes=[repr(size) for size in sizes]), []
    for precision in DTYPES:
        for size in sizes.items():
            part = partial(row, work, *size, precision, n)
            rows.append(run.once(f"{precision} {size}", lambda part=part: told(part())))
    keep(
        "gpt_step_share",
        steps=rows,
        conditions=f"1 thread; {n} rounds of matmuls, a step, matmuls; text by characters",
    )
    run.complete()


if __name__ == "__main__":
    main(SIZES, ROUNDS)
