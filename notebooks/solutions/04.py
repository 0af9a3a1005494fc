"""Solutions of lesson 04, one cell per exercise."""

# %% 04-in-system
answer = (runs[1], runs[1].arrival_rate * runs[1].mean_latency_s)
kit.check("04-in-system", answer)

# %% 04-full-batch
answer = 14  # more than 10, or calls pile up; at 0.2 ms between queries no more than about 17
kit.check("04-full-batch", answer)


# %% 04-queue
def latencies(arrivals_s, service_s):
    end, found = 0.0, []
    for arrival in arrivals_s:
        end = max(end, arrival) + service_s
        found.append(end - arrival)
    return found


kit.check("04-queue", latencies)
