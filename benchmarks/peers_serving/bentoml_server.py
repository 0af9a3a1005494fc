"""BentoML: batches that adapt to the traffic, in one process. It takes JSON and replies with it."""

import bentoml
import numpy as np
from network import MAX_BATCH, load, predict

TIMEOUT_S = 1  # whole seconds only


@bentoml.service(workers=1, traffic={"timeout": TIMEOUT_S})
class Classifier:
    """Computes batches."""

    def __init__(self):
        self.network = load()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=1000 * TIMEOUT_S)
    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Rows (n, 64) -> logits (n, 10). BentoML chooses how long it waits."""
        return predict(self.network, inputs)
