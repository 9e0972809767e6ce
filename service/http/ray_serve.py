"""The service as a deployment of Ray Serve: replicas on many machines behind Ray's proxies.

Needs the extra `ray`; nothing else of the service imports this. `deploy/ray/serve.yaml` names `build`.
"""

import logging.config
import math
from typing import Any, Final

import cv2
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.config import AutoscalingConfig
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.app import create_app
from service.observability.logs import logging_config
from service.settings import Settings
from service.system.memory import freeze_garbage_collector, keep_freed_memory

_ONGOING_REQUESTS_PER_CORE: Final = 4
"""Photos that Ray gives a replica for each core: one is processed, the others wait in the replica."""

_ID_HEADER: Final = b"x-request-id"


class ScalingOptions(BaseModel):
    """Number and resources of the replicas; `args` in `serve.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_replicas: int = Field(1, ge=1)
    max_replicas: int = Field(8, ge=1)
    num_cpus: float = Field(1.0, gt=0)
    num_gpus: float = Field(0.0, ge=0)  # a part such as 0.25: four replicas share one GPU
    target_ongoing_requests: float = Field(2.0, gt=0)  # photos a replica has or waits for, on average
    upscale_delay_s: float = Field(5.0, ge=0)
    downscale_delay_s: float = Field(120.0, ge=0)
    max_queued_requests: int = Field(64, ge=1)  # photos that wait in each proxy; one more is refused, 503

    @property
    def num_cores(self) -> int:
        """Cores of a replica."""
        return max(1, math.ceil(self.num_cpus))


def build(scale: ScalingOptions) -> serve.Application:
    """The application for `serve deploy`; each replica reads the settings when it starts."""
    deployment = serve.deployment(
        name="eye2face",
        autoscaling_config=AutoscalingConfig(
            min_replicas=scale.min_replicas,
            max_replicas=scale.max_replicas,
            target_ongoing_requests=scale.target_ongoing_requests,
            upscale_delay_s=scale.upscale_delay_s,
            downscale_delay_s=scale.downscale_delay_s,
        ),
        max_ongoing_requests=_ONGOING_REQUESTS_PER_CORE * scale.num_cores,
        max_queued_requests=scale.max_queued_requests,
        logging_config={"enable_access_log": False},  # the middleware logs more
        ray_actor_options={"num_cpus": scale.num_cpus, "num_gpus": scale.num_gpus},
        health_check_period_s=2,
        health_check_timeout_s=5,
        graceful_shutdown_timeout_s=20,
    )(serve.ingress()(Replica))
    return deployment.bind(scale.num_cores)


class Replica:
    """The service in one process of Ray."""

    def __init__(self, num_cores: int) -> None:
        """Raises ConfigurationError: the settings cannot be used."""
        keep_freed_memory()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # damaged images are expected
        settings = replica_settings(Settings(), num_cores)
        logging.config.dictConfig(logging_config(settings.log_format, settings.log_level))
        self._app = LifespanState(create_app(settings))

    def __serve_build_asgi_app__(self) -> ASGIApp:  # Ray's name
        """The application that Ray serves."""
        return self._app

    async def check_health(self) -> None:
        """Ray's health check: it replaces a replica that raises."""
        if engine := self._app.made.get("engine"):
            engine.refuse_unready()


def replica_settings(settings: Settings, num_cores: int) -> Settings:
    """The settings of a replica: one worker a core, and API keys unless `EYE2FACE_HOST` is loopback.

    Ray's proxies listen, on the address of `serve.yaml`, which a replica does not know.
    """
    known: dict[str, Any] = {} if "host" in settings.model_fields_set else {"host": "0.0.0.0"}
    return settings.model_copy(update=known | {"num_threads": settings.num_threads or num_cores})


class LifespanState:
    """The application with lifespan state, which Ray does not pass on, and without X-Request-Id.

    Ray writes that header into each response, with the ID that it sends in the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.made: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request as any ASGI application."""
        if scope["type"] == "lifespan":
            self.made = scope["state"]

            async def send_and_settle(message: Message) -> None:
                if message["type"] == "lifespan.startup.complete":
                    freeze_garbage_collector()
                await send(message)

            await self._app(scope, receive, send_and_settle)
            return

        async def send_without_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [pair for pair in message["headers"] if pair[0] != _ID_HEADER]
            await send(message)

        scope["state"] = dict(self.made)
        await self._app(scope, receive, send_without_id)
