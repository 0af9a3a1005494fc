"""What the server counts, in Prometheus' format at `/metrics`.

With several workers, each scrape reaches another process. So the workers count in files that all of
them read (prometheus-client's multiprocess mode), and every scrape gives the sum.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.parser import text_string_to_metric_families

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 30.0, 60.0),
)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters of one worker; the batcher and the generation tell it what happens.

    name                            labels         what
    kit_requests_total              model, code    replies by HTTP status
    kit_requests_waiting            model          in the queue now: what Kubernetes' gateway asks
    kit_requests_running            model          being computed or answered now
    kit_queue_seconds               model          in the queue
    kit_predict_seconds             model          the model, one batch
    kit_batch_size                  model          rows of a batch
    kit_request_seconds             model          from the request's head to the reply
    kit_time_to_first_token_seconds model          of a generation, queue included
    kit_inter_token_seconds         model          between tokens of one text
    kit_shed_total                  model, reason  full, deadline, gone, draining; and by limits of
                                                   the process: connections, bodies
    kit_kv_cache_usage              model          share of the cache's slots in use, 0 to 1
    kit_drift_…                     model          with a reference: see `output_watch`
    """

    def __init__(self, model: str):
        self.shared = Path(os.environ[FOLDER]) if os.environ.get(FOLDER) else None
        # The library chooses at its import. A process that forks imports it before it is known.
        values.ValueClass = values.get_value_class()
        self.registry = CollectorRegistry()
        self._model = model
        self._codes: dict[int, Counter] = {}
        self._sheds: dict[str, Counter] = {}
        self._define()

    def _define(self) -> None:
        own = None if self.shared else self.registry
        one, two = ("model",), ("model", "code")

        def histogram(name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(name, text, one, buckets=buckets, registry=own).labels(self._model)

        def gauge(name: str, text: str) -> Gauge:
            made = Gauge(name, text, one, registry=own, multiprocess_mode="livesum")
            return made.labels(self._model)

        self._requests = Counter("kit_requests_total", "Replies by status", two, registry=own)
        shed = ("model", "reason")
        self._shed = Counter("kit_shed_total", "Requests dropped, by reason", shed, registry=own)
        self.waiting = gauge("kit_requests_waiting", "Requests in the queue")
        self.running = gauge("kit_requests_running", "Requests being computed or answered")
        self.cache_usage = gauge("kit_kv_cache_usage", "Share of the cache's slots in use")
        self._queue = histogram("kit_queue_seconds", "Seconds in the queue")
        self._predict = histogram("kit_predict_seconds", "Seconds of the model for a batch")
        self._request = histogram("kit_request_seconds", "Seconds from request to reply")
        self._rows = histogram("kit_batch_size", "Rows of a batch", ROWS)
        self._first = histogram("kit_time_to_first_token_seconds", "Seconds to the first token")
        self._gap = histogram("kit_inter_token_seconds", "Seconds between tokens")

    def extra_gauge(self, name: str, text: str, across: str) -> Gauge:
        """A gauge that only some servers have; `across` says what several workers give together."""
        own, mode = None if self.shared else self.registry, across
        gauge = Gauge(name, text, ("model",), registry=own, multiprocess_mode=mode)  # type: ignore[arg-type]
        return gauge.labels(self._model)

    # --- Told by those who work ---

    def on_request(self, code: int, seconds: float) -> None:
        """A reply was written."""
        self._count(code)
        self._request.observe(seconds)

    def _count(self, code: int) -> None:
        if code not in self._codes:  # looked up once: finding a label takes as long as counting
            self._codes[code] = self._requests.labels(self._model, str(code))
        self._codes[code].inc()

    def on_queue(self, wait_s: float) -> None:
        """A request left the queue after this wait."""
        self._queue.observe(wait_s)

    def on_batch(self, rows: int, predict_s: float) -> None:
        """The model computed a batch."""
        self._rows.observe(rows)
        self._predict.observe(predict_s)

    def on_shed(self, reason: str) -> None:
        """A request was dropped: full, deadline, gone or draining.

        What the door refuses does not come to the application, which counts the other replies.
        """
        if reason in ("full", "draining"):
            self._count(503)
        self._drop(reason)

    def on_refused(self, code: int, reason: str) -> None:
        """A connection refused a request before the application saw it; 503 has a reason."""
        self._count(code)
        if reason:
            self._drop(reason)

    def _drop(self, reason: str) -> None:
        if reason not in self._sheds:
            self._sheds[reason] = self._shed.labels(self._model, reason)
        self._sheds[reason].inc()

    def on_first_token(self, ttft_s: float) -> None:
        """The first token of a generation, from the request's arrival."""
        self._first.observe(ttft_s)

    def on_token(self, gap_s: float) -> None:
        """A later token, from the one before."""
        self._gap.observe(gap_s)

    # --- Asked by those who watch ---

    def text(self) -> bytes:
        """All metrics of all workers, in Prometheus' text format."""
        if self.shared is None:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, path=str(self.shared))
        return generate_latest(together)


def numbers(text: str) -> dict[str, float]:
    r"""The metrics as a flat dict: labels other than the model's in braces behind the name.

    >>> numbers('# TYPE a counter\na_total{model="m",code="200"} 3.0\n')
    {'a_total{code=200}': 3.0}
    """
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith(("_bucket", "_created")):
                labels = {k: v for k, v in sample.labels.items() if k not in ("model", "pid")}
                inside = ",".join(f"{k}={v}" for k, v in labels.items())
                found[sample.name + (f"{{{inside}}}" if inside else "")] = sample.value
    return found
