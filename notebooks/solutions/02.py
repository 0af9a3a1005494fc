"""Solutions of lesson 02, one cell per exercise."""

# %% 02-account
weights = 4 * 26_122
answer = {
    "weights": weights,
    "gradients": weights,
    "optimizer": 2 * weights,
    "activations": 32 * (64 + 128 + 128) * 4 + 1_540,
}
kit.check("02-account", answer)


# %% 02-mlp-flops
from itertools import pairwise


def flops(batch, sizes):
    return sum(2 * batch * before * after for before, after in pairwise(sizes))


kit.check("02-mlp-flops", flops)
