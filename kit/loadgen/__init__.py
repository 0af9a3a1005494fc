"""One system, four ways to ask it: the scenarios of MLPerf Inference, for any callable.

A *query* is what a user sends; it holds one or more *samples* (images, texts). The system is
`serve(n)`, which answers n samples at once. The scenarios differ in when the next query comes:

scenario          the next query comes            samples  what counts
single_stream     when the last one is answered   1        p90 of the latency    (a phone)
multi_stream      when the last one is answered   8        p99 of the latency    (a car's cameras)
server            at random moments (Poisson)     1        is p99 within a target?  (a website)
└── highest_rate  … more and more often           1        the highest rate at which it is
offline           all are there at the start      all      samples per second    (an archive)

Sources: Reddi et al., "MLPerf Inference Benchmark", ISCA 2020 (arXiv:1911.02549); MLPerf Inference
Rules, "Scenarios" and the appendix on early stopping. Multi stream is as the Rules have it today;
the paper's sent a query at fixed intervals. MLPerf lets a scenario run for 600 s, on its own models
and by its own LoadGen: a number from here teaches, and is no MLPerf result.
"""

from kit.loadgen.arrivals import ServerRun, server
from kit.loadgen.dependence import tolerated
from kit.loadgen.outcomes import Run
from kit.loadgen.rate_search import HighestRate, highest_rate
from kit.loadgen.streams import OfflineRun, StreamRun, multi_stream, offline, single_stream

__all__ = [
    "HighestRate",
    "OfflineRun",
    "Run",
    "ServerRun",
    "StreamRun",
    "highest_rate",
    "multi_stream",
    "offline",
    "server",
    "single_stream",
    "tolerated",
]
