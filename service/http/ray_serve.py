"""The same service as a deployment of Ray Serve: replicas on many machines behind Ray's proxies.

Needs the extra `ray`; nothing else of the service imports this. `deploy/ray/serve.yaml` names `build`.
"""

import logging.config
import math
import re
from typing import Any, Final

import cv2
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.config import AutoscalingConfig
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.http.app import create_app
from service.observability.logs import logging_config
from service.runtime.memory import freeze_garbage_collector, keep_freed_memory
from service.settings import Settings

_AT_ONCE_PER_CORE: Final = 4
"""Photos that a replica is given for each of its cores: one is worked on, the others are at hand."""

_ID_HEADER: Final = b"x-request-id"
_ID: Final = re.compile(r"[0-9A-Za-z-]{1,64}")


class ScalingOptions(BaseModel):
    """How many replicas there are and what each of them takes; `args` of `serve.yaml` by the same names."""

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
        """The cores that a replica works with."""
        return max(1, math.ceil(self.num_cpus))


def build(scale: ScalingOptions) -> serve.Application:
    """The application for `serve deploy`; the settings are read where a replica starts, as ever."""
    deployment = serve.deployment(
        name="eye2face",
        autoscaling_config=AutoscalingConfig(
            min_replicas=scale.min_replicas,
            max_replicas=scale.max_replicas,
            target_ongoing_requests=scale.target_ongoing_requests,
            upscale_delay_s=scale.upscale_delay_s,
            downscale_delay_s=scale.downscale_delay_s,
        ),
        max_ongoing_requests=_AT_ONCE_PER_CORE * scale.num_cores,
        max_queued_requests=scale.max_queued_requests,
        logging_config={"enable_access_log": False},  # ours tells more
        ray_actor_options={"num_cpus": scale.num_cpus, "num_gpus": scale.num_gpus},
        health_check_period_s=2,
        health_check_timeout_s=5,
        graceful_shutdown_timeout_s=20,
    )(serve.ingress()(Replica))
    return deployment.bind(scale.num_cores)


class Replica:
    """The service in one process of Ray's, on the cores that Ray gives it."""

    def __init__(self, num_cores: int) -> None:
        """Raises ValueError where the service would be open to other machines without keys."""
        keep_freed_memory()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # damaged pictures are no news
        settings = replica_settings(Settings(), num_cores)
        logging.config.dictConfig(logging_config(settings.log_format, settings.log_level))
        self._app = LifespanState(create_app(settings))

    def __serve_build_asgi_app__(self) -> ASGIApp:  # Ray's name
        """What Ray serves."""
        return self._app

    async def check_health(self) -> None:
        """Ray asks every other second, and puts another replica in the place of one that cannot draw.

        Raises:
            NotReady: it cannot, and why.
        """
        if engine := self._app.made.get("engine"):
            engine.refuse_unready()


def replica_settings(settings: Settings, num_cores: int) -> Settings:
    """The settings of a replica: as many workers as it has cores, and no trust in what is not known here.

    It is Ray's proxies that listen, on the address of `serve.yaml`. `EYE2FACE_HOST` tells the replica which;
    unless it does, that may be any, and keys are wanted.
    """
    known: dict[str, Any] = {} if "host" in settings.model_fields_set else {"host": "0.0.0.0"}
    return settings.model_copy(update=known | {"num_threads": settings.num_threads or num_cores})


class LifespanState:
    """The application; gives it what it has of uvicorn and not of Ray, and leaves to Ray what is Ray's.

    Each request has what the start has made, and Ray's id for it: the one that Ray writes into the answer.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.made: dict[str, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As any ASGI application."""
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

        scope["state"] = self.made | _find_id(scope)
        await self._app(scope, receive, send_without_id)


def _find_id(scope: Scope) -> dict[str, str]:
    """The id that Ray gave the request, or its caller: then it may be anything, and not for our log."""
    given = dict(scope["headers"]).get(_ID_HEADER, b"").decode("latin-1")
    return {"request_id": given} if _ID.fullmatch(given) else {}
