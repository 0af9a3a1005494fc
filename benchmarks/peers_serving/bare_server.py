"""uvicorn alone: it reads a request and replies with as many bytes as the others."""

import uvicorn
from network import PORT

HEADERS = [(b"content-type", b"application/octet-stream"), (b"content-length", b"40")]


async def application(scope, receive, send):
    """Read the whole body, reply with zeros."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": bytes(40)})


if __name__ == "__main__":
    quiet = {"access_log": False, "log_level": "warning", "lifespan": "off"}
    uvicorn.run(application, host="127.0.0.1", port=PORT, **quiet)
