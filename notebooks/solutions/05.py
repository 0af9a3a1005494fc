"""Solutions of lesson 05, one cell per exercise."""

# %% 05-slow-runs
kit.check("05-slow-runs", {"A": "start", "B": "copy", "C": "dtype", "D": "wait"})


# %% 05-crossover
def crossover(extra_s, cpu_rate, rate):
    if rate <= cpu_rate:
        return None
    return (extra_s / 1536 / (1 / cpu_rate - 1 / rate)) ** 0.5


kit.check("05-crossover", crossover)
