"""LitServe: FastAPI in one process, the model in another. It takes JSON."""

import litserve
import numpy as np
from fastapi import Response
from network import MAX_BATCH, PORT, TIMEOUT_S, WAIT_S, load, predict


class Classifier(litserve.LitAPI):
    """Computes batches."""

    def setup(self, device):
        """Load the network, in the process that computes."""
        self.network = load()

    def decode_request(self, request):
        """JSON -> a row."""
        return np.array(request["inputs"][0], dtype=np.float32)

    def batch(self, inputs):
        """Rows -> a batch."""
        return np.stack(inputs)

    def predict(self, x):
        """A batch -> logits."""
        return predict(self.network, x)

    def unbatch(self, output):
        """Logits of the batch -> those of each request."""
        return list(output)

    def encode_response(self, output):
        """Logits -> raw bytes."""
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    api = Classifier(max_batch_size=MAX_BATCH, batch_timeout=WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu", timeout=TIMEOUT_S, fast_queue=True)
    quiet = {"generate_client_file": False, "log_level": "warning", "access_log": False}
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, **quiet)
