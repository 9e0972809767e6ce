"""The deployment on Ray: a real cluster of two nodes on this machine, one of which is killed under load.

Ray is not installed by `make test`: it is large, and the service does without it. `deploy/ray/README.md` says
how these are run.
"""

import asyncio
import gc
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import yaml
from starlette.testclient import TestClient

from bench.cluster import SERVE_YAML, Proxy, Running, started_cluster
from bench.photos import write_photos
from service.client.client import AsyncClient, Client
from service.client.retries import RetryPolicy
from service.engine.engine import MAX_FAILURES
from service.errors import NotReady
from service.settings import ConfigurationError, Settings
from tests.fakes import astronaut, encoded, failing_model
from tests.service.engine.test_engine import WHITE

pytestmark = [pytest.mark.slow, pytest.mark.serial]

pytest.importorskip("ray.serve", reason="Ray is not installed: deploy/ray/README.md says how these are run")

NUM_CALLERS = 8
WINDOW_S = 5.0
BACK_S = 30.0
NUM_TRIES = 3
"""Neighbors on the machine may take the cores when the rate should be back. No try may lose a request."""


def _config() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(SERVE_YAML.read_text())
    return config


def test_what_is_deployed_is_as_ray_wants_it_and_names_only_settings_that_exist() -> None:
    from ray.serve.schema import ServeDeploySchema

    from service.http.ray_serve import ScalingOptions, build

    (application,) = ServeDeploySchema.model_validate(_config()).applications
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    assert set(application.args) == set(ScalingOptions.model_fields), "every knob is shown"
    assert ScalingOptions(**application.args) == ScalingOptions(), "with its default"
    assert application.runtime_env is not None
    names = application.runtime_env["env_vars"]
    assert {name.removeprefix("EYE2FACE_").lower() for name in names} <= set(Settings.model_fields)


def test_as_it_stands_it_lets_this_machine_in_alone() -> None:
    config = _config()
    assert config["http_options"]["host"] == "127.0.0.1"
    (application,) = config["applications"]
    assert application["runtime_env"]["env_vars"]["EYE2FACE_HOST"] == "127.0.0.1"


def test_a_knob_that_is_none_is_refused() -> None:
    from service.http.ray_serve import ScalingOptions

    with pytest.raises(ValueError, match="num_gpu"):
        ScalingOptions.model_validate({"num_gpu": 0.25})


def test_a_replica_takes_the_part_of_a_gpu_and_the_scale_that_the_configuration_says() -> None:
    from service.http.ray_serve import ScalingOptions, build

    built = build(ScalingOptions(num_gpus=0.25, num_cpus=1.5, max_replicas=12, target_ongoing_requests=3))
    deployment = built._bound_deployment  # nothing public tells
    assert deployment.ray_actor_options is not None
    assert {name: deployment.ray_actor_options[name] for name in ("num_cpus", "num_gpus")} == {
        "num_cpus": 1.5,
        "num_gpus": 0.25,
    }
    scaling = deployment._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (1, 12, 3)
    assert deployment.init_args == (2,), "its cores"


def test_a_replica_that_is_not_told_who_can_reach_it_wants_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    from service.http.ray_serve import replica_settings

    monkeypatch.delenv("EYE2FACE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="EYE2FACE_API_KEYS"):
        replica_settings(Settings(), 1).check_exposure()
    monkeypatch.setenv("EYE2FACE_HOST", "127.0.0.1")
    replica_settings(Settings(), 3).check_exposure()
    assert replica_settings(Settings(), 3).num_threads == 3
    monkeypatch.setenv("EYE2FACE_NUM_THREADS", "2")
    assert replica_settings(Settings(), 3).num_threads == 2


def test_ray_is_told_of_a_replica_that_cannot_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from service.http.ray_serve import Replica

    monkeypatch.setenv("EYE2FACE_HOST", "127.0.0.1")
    monkeypatch.setenv("EYE2FACE_MODEL", str(failing_model(tmp_path / "failing.onnx")))
    replica = Replica(1)
    asyncio.run(replica.check_health())  # before its start there is nothing to find fault with
    frozen = gc.get_freeze_count()
    with TestClient(replica.__serve_build_asgi_app__()) as client:
        assert gc.get_freeze_count() > frozen  # what the start has made is settled
        asyncio.run(replica.check_health())
        for _ in range(MAX_FAILURES):
            png = {"content-type": "image/png"}
            answer = client.post("/synthesize?input=eye", content=WHITE, headers=png)
            assert answer.json()["code"] == "inference_failed"
        assert client.portal is not None
        with pytest.raises(NotReady, match="the model failed"):
            client.portal.call(replica.check_health)


@pytest.fixture(scope="module", params=get_args(Proxy))
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A cluster of one node that serves."""
    with started_cluster(tmp_path_factory.mktemp("ray") / "log", request.param) as running:
        yield running


def test_behind_ray_the_service_answers_as_ever(cluster: Running) -> None:
    address = f"http://127.0.0.1:{cluster.port}"
    with Client(address) as client:
        assert client.check_ready().status == "ready"
        assert client.synthesize(astronaut()).startswith(b"\x89PNG")
    refused = httpx.post(
        f"{address}/synthesize", content=b"no picture", headers={"content-type": "image/png"}
    )
    assert (refused.status_code, refused.json()["code"]) == (415, "not_an_image")
    assert refused.headers["x-synthetic"] == "true"


def test_behind_ray_an_answer_has_one_id_the_same_in_its_head_and_its_body(cluster: Running) -> None:
    url = f"http://127.0.0.1:{cluster.port}/nowhere"
    told, given = httpx.get(url), httpx.get(url, headers={"x-request-id": "gate-7"})
    assert told.headers.get_list("x-request-id") == [told.json()["request_id"]]
    assert given.headers.get_list("x-request-id") == [given.json()["request_id"]] == ["gate-7"]
    strange = httpx.get(url, headers={"x-request-id": "a\tb"}).json()["request_id"]
    assert len(strange) == 32, "what is not plain does not get into the log"


def test_what_is_more_than_may_wait_is_refused_and_clients_take_that_for_later(cluster: Running) -> None:
    address, photo = f"http://127.0.0.1:{cluster.port}", encoded(astronaut(), "jpeg")
    num = 2 * Settings().max_queued

    async def ask_at_once() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=num)
        async with httpx.AsyncClient(limits=limits, timeout=60) as client:
            jpeg = {"content-type": "image/jpeg"}
            url = f"{address}/synthesize"
            return await asyncio.gather(*(client.post(url, content=photo, headers=jpeg) for _ in range(num)))

    async def ask_with_patience() -> list[bytes]:
        async with AsyncClient(address, retry=RetryPolicy(max_tries=30, deadline_s=120)) as client:
            return await asyncio.gather(*(client.synthesize(photo) for _ in range(num)))

    answers = asyncio.run(ask_at_once())
    assert {answer.status_code for answer in answers} == {200, 503}
    assert all(face.startswith(b"\x89PNG") for face in asyncio.run(ask_with_patience()))


@dataclass
class Load:
    """Photos asked for by a few callers, each as soon as its last face is there."""

    address: str
    photo: bytes
    times_s: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    num_sent: int = 0
    is_over: bool = False

    async def keep_asking(self) -> None:
        async with AsyncClient(self.address) as client:
            while not self.is_over:
                self.num_sent += 1
                try:
                    face = await client.synthesize(self.photo)
                    assert face.startswith(b"\x89PNG")
                    self.times_s.append(time.monotonic())
                except Exception as error:  # noqa: BLE001  # counted, and told when the test fails
                    self.lost.append(repr(error))

    def per_s(self, begin_s: float, end_s: float) -> float:
        return sum(begin_s <= each < end_s for each in self.times_s) / (end_s - begin_s)


@dataclass(frozen=True)
class Loss:
    """What the loss of a node did: faces a second before it, with one node and with two, and after it."""

    alone: float
    together: float
    after: dict[float, float]  # by the end of their window, in seconds after the kill

    @property
    def back_s(self) -> float | None:
        """When the rate is back to nine tenths of one node's; None: not in time."""
        return next((end_s for end_s, rate in self.after.items() if rate >= 0.9 * self.alone), None)


def test_a_node_is_added_while_photos_wait_and_one_that_is_killed_costs_no_request(
    cluster: Running, tmp_path: Path
) -> None:
    photo = write_photos(tmp_path)["250px"].read_bytes()
    losses: list[Loss] = []
    while not losses or (losses[-1].back_s is None and len(losses) < NUM_TRIES):
        load = Load(f"http://127.0.0.1:{cluster.port}", photo)
        losses.append(asyncio.run(_lose_a_node(cluster, load)))
        print(f"{losses[-1]}; back after {losses[-1].back_s} s; {load.num_sent} sent, {load.lost} lost")
        assert not load.lost
        assert len(load.times_s) == load.num_sent
    assert losses[-1].back_s is not None, losses


async def _lose_a_node(cluster: Running, load: Load) -> Loss:
    callers = [asyncio.create_task(load.keep_asking()) for _ in range(NUM_CALLERS)]
    await asyncio.sleep(3)  # warm
    begin = time.monotonic()
    await asyncio.sleep(2 * WINDOW_S)
    alone = load.per_s(begin, time.monotonic())
    await asyncio.to_thread(cluster.order, "grow")
    await asyncio.to_thread(_wait_for_two, load.address)
    begin = time.monotonic()
    await asyncio.sleep(2 * WINDOW_S)
    together = load.per_s(begin, time.monotonic())
    await asyncio.to_thread(cluster.order, "kill")
    killed = time.monotonic()
    await asyncio.sleep(BACK_S)
    load.is_over = True
    await asyncio.gather(*callers)
    ends = [WINDOW_S + half / 2 for half in range(int(2 * (BACK_S - WINDOW_S)) + 1)]
    after = {end: load.per_s(killed + end - WINDOW_S, killed + end) for end in ends}
    return Loss(alone, together, after)


def _wait_for_two(address: str) -> None:
    """Returns once two replicas answer, told apart by when their processes began."""
    begun: set[str] = set()
    end = time.monotonic() + 60
    while len(begun) < 2:
        assert time.monotonic() < end, "photos wait, a node is free, and no replica was added"
        numbers = httpx.get(f"{address}/metrics").raise_for_status().text
        begun.update(re.findall(r"^process_start_time_seconds .*$", numbers, flags=re.M))
        time.sleep(0.1)
