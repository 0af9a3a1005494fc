"""Solutions of lesson 01, one cell per exercise."""

# %% 01-first-good
answer = history, next((at for at, score in history.scores if score.accuracy.value >= 0.9), None)
kit.check("01-first-good", answer)

# %% 01-learns-nothing
answer = 1e-7
kit.check("01-learns-nothing", answer)


# %% 01-accuracy
def accuracy(model, inputs, targets):
    return (kit.predict(model, inputs).argmax(-1) == targets).float().mean().item()


kit.check("01-accuracy", accuracy)
