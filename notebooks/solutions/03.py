"""Solutions of lesson 03, one cell per exercise."""

# %% 03-which-mistake
answer = {"A": "no repeats", "B": "no waiting", "C": "no warm-up", "D": "not in turns"}
answer["E"] = "no noise floor"
kit.check("03-which-mistake", answer)

# %% 03-impossible
answer = 2 * 4096**3 / 20e-6 / 60e12
kit.check("03-impossible", answer)


# %% 03-decide
def decide(low, high, floor):
    if low > 1 + floor:
        return "slower"
    if high < 1 / (1 + floor):
        return "faster"
    margin = max(0.05, floor)
    return "same" if 1 - margin <= low and high <= 1 + margin else "cannot tell"


kit.check("03-decide", decide)
