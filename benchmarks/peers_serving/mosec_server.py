"""mosec: a server in Rust that hands batches to a process with the model. Raw in, raw out."""

import sys

import numpy as np
from mosec import Server, Worker
from network import MAX_BATCH, PORT, TIMEOUT_S, WAIT_S, load, predict


class Classifier(Worker):
    """Computes batches."""

    resp_mime_type = "application/octet-stream"

    def __init__(self):
        super().__init__()
        self.network = load()

    def deserialize(self, data):
        """One request's bytes -> its row."""
        return np.frombuffer(data, dtype=np.float32)

    def forward(self, data):
        """Rows -> logits."""
        return list(predict(self.network, data))

    def serialize(self, data):
        """Logits -> bytes."""
        return data.tobytes()


if __name__ == "__main__":
    sys.argv += ["--address", "127.0.0.1", "--port", str(PORT), "--log-level", "error"]
    sys.argv += ["--timeout", str(round(1000 * TIMEOUT_S))]
    server = Server()
    wait_ms = round(1000 * WAIT_S)
    server.append_worker(Classifier, num=1, max_batch_size=MAX_BATCH, max_wait_time=wait_ms)
    server.run()
