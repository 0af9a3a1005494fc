"""Solutions of lesson 11, one cell per exercise."""

# %% 11-users
answer = rate * (60 + latency_s)  # a user asks once per think time + latency
kit.check("11-users", answer, rate=rate, think_s=60.0, latency_s=latency_s)

# %% 11-queue-bound
answer = (100 // 20 - 1) * 8  # five batches end in time, and the first of them is running already
kit.check("11-queue-bound", answer)


# %% 11-latencies
def latencies(arrivals_s, service_s):
    found, free_s = [0.0] * len(arrivals_s), 0.0
    for i in sorted(range(len(arrivals_s)), key=lambda i: arrivals_s[i]):  # the oldest first
        free_s = max(free_s, arrivals_s[i]) + service_s  # it has arrived, and the server is free
        found[i] = free_s - arrivals_s[i]
    return found


kit.check("11-latencies", latencies)
