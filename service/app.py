"""The service: `bentoml serve service.app:GatewiseService`, with GATEWISE_MODEL in the environment."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import bentoml
import orjson
import uvicorn.config

from gatewise.errors import GatewiseError
from service.http import AsgiApp, Gateway
from service.payload import PredictResponse
from service.runtime import Runtime
from service.settings import settings_for_decorator

runtime = Runtime()
# What `auto`, which BentoML leaves it at, means to a server that starts after this.
uvicorn.config.HTTP_PROTOCOLS["auto"] = "service.connection:Connection"


class FrontedService(bentoml.Service[Any]):
    """A BentoML service whose HTTP the gateway answers first."""

    def to_asgi(self, is_main: bool = True) -> AsgiApp:
        """The whole application, as the worker serves it."""
        return Gateway(super().to_asgi(is_main), runtime)


@bentoml.service(
    service_class=FrontedService,
    name="gatewise",
    workers=settings_for_decorator().workers,
    # The gateway counts by route: BentoML's own metrics have a label for every path that a scanner asks for.
    metrics={"enabled": False},
    # Probes; what the gateway answers itself never comes so far.
    tracing={"excluded_urls": ["/livez", "/healthz", "/readyz"]},
    logging={"access": {"skip_paths": ["/livez", "/healthz", "/readyz"]}},
)
class GatewiseService:
    """Classifies sequences with the model that GATEWISE_MODEL names."""

    @bentoml.on_deployment
    @staticmethod
    def check() -> None:
        """Stop the start, with a word, when it cannot succeed."""
        try:
            Runtime.check()
        except GatewiseError as error:
            raise SystemExit(f"gatewise: {error.message}") from None

    @bentoml.on_startup
    async def open(self) -> None:
        """Load the model and start its queue; the worker takes no request before."""
        # Of what is not its own BentoML logs warnings alone, unless it is told to be silent or to say all.
        if logging.getLogger().level == logging.WARNING:
            logging.getLogger("gatewise").setLevel(logging.INFO)
        await runtime.open()

    @bentoml.on_shutdown
    async def close(self) -> None:
        """Answer what is queued."""
        await runtime.close()

    async def __is_ready__(self) -> bool:
        return runtime.registry.is_ready

    async def __is_alive__(self) -> bool:
        return runtime.is_alive

    @bentoml.api(route="/predict")
    async def predict(
        self, sequences: list[Any], probabilities: bool | None = None, label_set: bool | None = None
    ) -> PredictResponse:
        """Classify sequences: strings, or lists of timesteps; `GET /model` says which."""
        # For callers in Python: over HTTP the gateway answers this route, and BentoML shows it in its schema.
        body = orjson.dumps({"sequences": sequences, "probabilities": probabilities, "label_set": label_set})
        deadline = asyncio.get_running_loop().time() + runtime.timeout_seconds
        answer = await runtime.predict(body, _never_leaves, deadline)
        return PredictResponse.model_validate_json(answer.body)


async def _never_leaves() -> dict[str, Any]:
    forever: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    return await forever
