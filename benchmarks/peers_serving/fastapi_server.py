"""FastAPI without batching: each request is computed when it comes, in the event loop.

With one thread for the model, this is faster than FastAPI's pool of threads.
"""

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from network import PORT, load, predict

application, network = FastAPI(), load()


@application.post("/predict")
async def answer(request: Request):
    """Raw float32 in, raw float32 out."""
    row = np.frombuffer(await request.body(), dtype=np.float32)
    return Response(predict(network, [row]).tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run(application, host="127.0.0.1", port=PORT, access_log=False, log_level="warning")
