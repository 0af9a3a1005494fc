"""The scenarios of MLPerf Inference, for any callable, and traffic over HTTP, for any server.

A *query* is what a user sends; it holds one or more *samples* (images, texts). The system is
`serve(n)`, which answers n samples at once. The scenarios differ in when the next query arrives:

scenario          the next query arrives          samples  what counts
single_stream     when the last one is answered   1        p90 of the latency    (a phone)
multi_stream      when the last one is answered   8        p99 of the latency    (a car's cameras)
server            at random moments (Poisson)     1        is p99 within a target?  (a website)
└── highest_rate  … more and more often           1        the highest rate at which it is
offline           all are there at the start      all      samples per second    (an archive)

`kit.traffic(url, …)` sends the queries of the server scenario to a real server, as *requests* over
HTTP: at random moments, or from users who wait for their answers. `highest_rate` takes a URL, too.

Sources: Reddi et al., "MLPerf Inference Benchmark", ISCA 2020 (arXiv:1911.02549); MLPerf Inference
Rules, "Scenarios" and the appendix on early stopping. Multi stream follows today's Rules; in the
paper it sent a query at fixed intervals. MLPerf runs a scenario for up to 600 s, on its own models
and with its own LoadGen. A number from here teaches; it does not count as an MLPerf result.
"""

from typing import TYPE_CHECKING

from kit.core.lazy import lazy_names

# Names are imported when they are first used, as those of `kit` are: the process that sends
# requests imports two files of this room, and must not wait for PyTorch.
if TYPE_CHECKING:
    from kit.loadgen.arrivals import phases as phases
    from kit.loadgen.client_limit import ClientTooSlow as ClientTooSlow
    from kit.loadgen.latency_statistics import late_allowed as late_allowed
    from kit.loadgen.queueing import Waits as Waits
    from kit.loadgen.queueing import mean_wait as mean_wait
    from kit.loadgen.queueing import waits as waits
    from kit.loadgen.rate_bracket import HighestRate as HighestRate
    from kit.loadgen.rate_search import highest_rate as highest_rate
    from kit.loadgen.scenario_result import ScenarioResult as ScenarioResult
    from kit.loadgen.server_scenario import ServerResult as ServerResult
    from kit.loadgen.server_scenario import server as server
    from kit.loadgen.stream_scenarios import OfflineResult as OfflineResult
    from kit.loadgen.stream_scenarios import StreamResult as StreamResult
    from kit.loadgen.stream_scenarios import multi_stream as multi_stream
    from kit.loadgen.stream_scenarios import offline as offline
    from kit.loadgen.stream_scenarios import single_stream as single_stream
    from kit.loadgen.traffic_comparison import goodput_curves as goodput_curves
    from kit.loadgen.traffic_comparison import goodput_ratio as goodput_ratio
    from kit.loadgen.traffic_comparison import goodput_table as goodput_table
    from kit.loadgen.traffic_comparison import settings_table as settings_table
    from kit.loadgen.traffic_result import TrafficResult as TrafficResult

__all__, __getattr__, __dir__ = lazy_names(__name__, __file__, globals())
