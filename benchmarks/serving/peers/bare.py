"""uvicorn, uvloop and httptools, and an application that answers without looking: what HTTP itself costs."""

import os
from typing import Any

import uvicorn

BODY = b'{"probabilities":[1.0]}'
HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


uvicorn.run(app, port=int(os.environ["BENCH_PORT"]), loop="uvloop", http="httptools", access_log=False, lifespan="off")
