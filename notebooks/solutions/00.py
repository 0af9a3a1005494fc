"""Solutions of lesson 00, one cell per exercise."""

# %% 00-flops
answer = 2 * 64 * 128 * 10
kit.check("00-flops", answer)

# %% 00-one-example
width = 4096
answer = 2 * width**2 / (4 * width**2)
kit.check("00-one-example", answer)


# %% 00-intensity
def intensity(width, batch):
    flops = 2 * batch * width**2
    moved_bytes = 4 * (width**2 + 2 * batch * width)
    return flops / moved_bytes


kit.check("00-intensity", intensity)
