"""Solutions of the lesson about drift, one cell per exercise."""

# %% 13-train
answer = ["B"]  # the cause lies in what the model has learnt, and labels of the new kind exist
kit.check("13-train", answer)

# %% 13-labels
answer = 1.96**2 * 0.9 * (1 - 0.9) / 0.02**2  # the half-width, solved for n
kit.check("13-labels", answer)


# %% 13-threshold
def threshold(effects, rate):
    allowed = int(rate * len(effects) + 1e-9)  # 0.2 × 10 is a little less than 2 in a computer
    return sorted(effects, reverse=True)[allowed]  # this one is not above itself


kit.check("13-threshold", threshold)
