"""Solutions of lesson 08, one cell per exercise."""

# %% 08-parts
answer = 16  # of 32 windows each; 8 would be of 64
kit.check("08-parts", answer)

# %% 08-spend
options = dict(optimizer="muon", lr=1e-2, batch_size=8)
kit.check("08-spend", options)

# %% 08-rate
import math


def rate(step, total, warmup):
    if step < warmup:
        return (step + 1) / warmup
    way = (step - warmup) / (total - warmup)
    return 0.1 + 0.9 * (1 + math.cos(math.pi * way)) / 2


kit.check("08-rate", rate)
