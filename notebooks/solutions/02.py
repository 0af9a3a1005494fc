"""Solutions of lesson 02, one cell per exercise."""

# %% 02-optimizer-bytes
answer = 2 * 4 * 26_122
kit.check("02-optimizer-bytes", answer)

# %% 02-kept-bytes
answer = 32 * (64 + 128 + 128) * 4
kit.check("02-kept-bytes", answer)


# %% 02-mlp-flops
from itertools import pairwise


def flops(batch, sizes):
    return sum(2 * batch * before * after for before, after in pairwise(sizes))


kit.check("02-mlp-flops", flops)

# %% 02-cheaper-update
kit.check("02-cheaper-update", torch.optim.SGD)
