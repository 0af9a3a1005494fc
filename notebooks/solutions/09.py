"""Solutions of lesson 09, one cell per exercise."""

# %% 09-gigabytes
answer = 8e9 * (4 + 16 / 32) / 8 / 1e9  # 4.5 bits per weight
kit.check("09-gigabytes", answer)

# %% 09-prune
answer = 0.5  # of each layer's channels: a quarter of the weights between two layers is left
kit.check("09-prune", answer)


# %% 09-rounding
def rounded(weights, bits):
    most = 2 ** (bits - 1) - 1
    scale = weights.abs().amax(1, keepdim=True).clamp(min=1e-12) / most
    return (weights / scale).round() * scale


kit.check("09-rounding", rounded)
