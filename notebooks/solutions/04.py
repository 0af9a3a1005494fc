"""Solutions of lesson 04, one cell per exercise."""

# %% 04-deadline
within = [size for size, time in sweep.latency_s.items() if time.high <= target_s / 2]
answer = max(within, default=0)
kit.check("04-deadline", answer, latency_s=sweep.latency_s, deadline_s=target_s / 2)

# %% 04-full-batch
answer = 14  # from 10, or images pile up, to 17, or the first of a batch waits too long
kit.check("04-full-batch", answer)


# %% 04-samples
def needed(percentile):
    q, n = 1 - percentile / 100, 2
    while (1 - q) ** n + n * q * (1 - q) ** (n - 1) > 0.01:
        n += 1
    return n


kit.check("04-samples", needed)
