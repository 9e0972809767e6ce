"""Overload, deadlines, disconnects, model failures and health, through the whole service."""

import asyncio
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from service.decoding import process_pool
from service.decoding.process_pool import ProcessPoolReader
from service.engine import engine as engine_module
from service.engine.batching import BATCH_SIZES
from service.engine.engine import MAX_FAILURES, Engine
from service.engine.worker_pool import Work
from service.errors import SandboxMissing
from service.http.app import create_app
from service.http.protocol import HttpProtocol
from service.inference.synthesizer import Floats, Synthesizer
from service.observability.metrics import Metrics
from service.observability.stage_timer import StageTimer
from service.pipeline import FIND_EYES, PhotoRequest
from service.settings import Settings
from service.vision.images import Image
from tests.fakes import astronaut, encoded, failing_model, pixels_of
from tests.running import kill, served_here
from tests.service.shapes import check_problem

PNG = {"content-type": "image/png"}
EYE = encoded(np.ascontiguousarray(astronaut()[90:112, 190:216]))
GRAY_PHOTO = encoded(np.full((64, 64, 3), 128, np.uint8))


@contextmanager
def a_service(model: Path, **settings: Any) -> Iterator[tuple[TestClient, Engine]]:
    app = create_app(Settings(model=str(model), device="cpu", num_threads=1, **settings))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client, client.app_state["engine"]


class Held:
    """Occupies every worker of a service until released."""

    def __init__(self, client: TestClient, engine: Engine) -> None:
        self._event = threading.Event()
        assert client.portal is not None
        self._jobs = [
            client.portal.call(self._submit, engine) for _ in range(engine.pool.state().num_workers)
        ]
        end = time.monotonic() + 10
        while engine.pool.state().num_busy < len(self._jobs):
            assert time.monotonic() < end
            time.sleep(0.001)

    async def _submit(self, engine: Engine) -> Any:
        item = engine.pool.submit(Work.of(lambda _: self._event.wait(120)), max_ms=300_000)
        item.future.add_done_callback(lambda answer: answer.exception())
        return item

    def __enter__(self) -> "Held":
        return self

    def __exit__(self, *_: object) -> None:
        self._event.set()


def wait_for(true: Any) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def expect_fast(ask: Callable[[], object], limit_s: float) -> None:
    """Passes once three answers came within the limit, of 300 at most.

    Neighbors on the machine hold up single ones; an answer that waited for a worker were never fast, for
    none is free before the end.
    """
    seconds: list[float] = []
    while sum(each < limit_s for each in seconds) < 3:
        assert len(seconds) < 300, sorted(seconds)[:20]
        begin = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - begin)


def test_a_full_service_refuses_at_once_with_a_time_to_come_back(model: Path) -> None:
    # The deadline is longer than the test may take beside neighbors; a TestClient must not be closed while
    # another thread still asks through it.
    with a_service(model, max_queued=1, deadline_ms=300_000) as (client, engine):

        def ask() -> None:
            answer = client.post("/synthesize", content=EYE, headers=PNG)
            check_problem(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1

        with ThreadPoolExecutor(1) as threads:
            with Held(client, engine):
                waiting = threads.submit(client.post, "/synthesize?input=eye", content=EYE, headers=PNG)
                wait_for(lambda: engine.pool.state().num_queued == 1)
                expect_fast(ask, 0.01)
                assert engine.pool.state().num_queued == 1
            assert waiting.result(20).status_code == 200


def test_photos_that_wait_are_drawn_together_and_each_gets_its_own_face(model: Path) -> None:
    photo = astronaut()
    eyes = [encoded(np.ascontiguousarray(photo[y : y + 22, 190:216])) for y in range(80, 160, 10)]
    gray_eye = encoded(np.full((22, 22, 3), 128, np.uint8))  # is refused before the model sees it
    with (
        a_service(model, deadline_ms=300_000) as (client, engine),
        ThreadPoolExecutor(len(eyes) + 1) as threads,
    ):

        def ask(eye: bytes) -> Any:
            return client.post("/synthesize?input=eye", content=eye, headers=PNG)

        alone = [pixels_of(ask(eye).content) for eye in eyes]
        assert len(set(alone)) == len(alone)
        sizes: list[int] = []
        engine.model.current.pipeline._draw = noting(engine.synthesizer, sizes)
        with Held(client, engine):
            asked = [threads.submit(ask, eye) for eye in [gray_eye, *eyes]]
            wait_for(lambda: engine.pool.state().num_queued == len(asked))
        refused, *together = [each.result(60) for each in asked]
        check_problem(refused, 422, "eye_too_blurred")
        assert [pixels_of(each.content) for each in together] == alone
        assert sum(sizes) == len(eyes)
        assert max(sizes) > 1


def noting(synthesizer: Synthesizer, sizes: list[int]) -> Any:
    """The synthesizer's `draw`, and the number of eyes in each of its calls."""

    def draw(eyes_BHWC: Image, noise_BD: Floats) -> tuple[Image, Floats]:
        sizes.append(len(eyes_BHWC))
        return synthesizer.draw(eyes_BHWC, noise_BD)

    return draw


def test_a_photo_that_is_not_done_by_its_deadline_is_told_so(model: Path) -> None:
    with a_service(model, deadline_ms=5000) as (client, engine), Held(client, engine):
        begin = time.monotonic()
        late = client.post("/synthesize?input=eye", content=EYE, headers=PNG | {"X-Deadline-Ms": "50"})
        assert "within the 50 ms" in check_problem(late, 504, "deadline_exceeded")["detail"]
        assert time.monotonic() - begin < 4
        assert engine.pool.state().num_queued == 0


def test_the_setting_is_the_longest_deadline(model: Path) -> None:
    with a_service(model, deadline_ms=50) as (client, engine), Held(client, engine):
        for headers in (PNG, PNG | {"X-Deadline-Ms": "1000000000"}):
            late = client.post("/eyes", content=GRAY_PHOTO, headers=headers)
            check_problem(late, 504, "deadline_exceeded")


@pytest.mark.parametrize("value", ["0", "-5", "soon", "nan", "inf", ""])
def test_a_deadline_that_is_no_time_is_refused(client: TestClient, value: str) -> None:
    answer = client.post("/eyes", content=GRAY_PHOTO, headers=PNG | {"X-Deadline-Ms": value})
    assert "X-Deadline-Ms" in check_problem(answer, 422, "invalid_parameter")["detail"]


def test_a_photo_whose_caller_has_left_is_not_worked_on(model: Path) -> None:
    app = create_app(Settings(model=str(model), device="cpu", num_threads=1))
    with served_here(app, http=HttpProtocol) as (address, state):
        engine: Engine = state["engine"]
        event = threading.Event()
        ran: list[float] = []

        async def occupy() -> None:
            engine.pool.submit(Work.of(lambda _: event.wait(20)), max_ms=30_000)

        asyncio.run_coroutine_threadsafe(occupy(), state["loop"]).result(10)
        wait_for(lambda: engine.pool.state().num_busy == 1)
        engine.model.current.pipeline.read = lambda *_: ran.append(1)  # type: ignore[assignment,method-assign]
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/synthesize?input=eye", content=EYE, headers=PNG, timeout=0.5)
        wait_for(lambda: engine.pool.state().num_queued == 0)
        event.set()
        wait_for(lambda: engine.pool.state().num_busy == 0)
        assert not ran


@pytest.mark.slow
def test_work_whose_caller_leaves_stops_at_its_next_check(model: Path) -> None:
    app = create_app(Settings(model=str(model), device="cpu", num_threads=1))
    with served_here(app, http=HttpProtocol) as (address, state):
        engine: Engine = state["engine"]
        begun, ended = threading.Event(), threading.Event()

        def work(photos: Sequence[tuple[PhotoRequest, StageTimer]]) -> Any:
            ((_, timer),) = photos
            begun.set()
            try:
                for _ in range(1000):
                    timer.check()
                    time.sleep(0.01)
            finally:
                ended.set()

        engine.model.current.pipeline.read = work  # type: ignore[method-assign]
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/synthesize?input=eye", content=EYE, headers=PNG, timeout=0.5)
        assert begun.is_set()
        assert ended.wait(5)
        assert engine.pool.state().num_queued == 0


def test_a_model_call_that_fails_is_a_clear_problem_of_that_request_alone(tmp_path: Path) -> None:
    white = astronaut()[90:112, 190:216].copy()
    white[0:11] = 255
    with a_service(failing_model(tmp_path / "failing.onnx")) as (client, _):
        for _ in range(2):
            bad = client.post("/synthesize?input=eye", content=encoded(white), headers=PNG)
            problem = check_problem(bad, 503, "inference_failed")
            assert "Gather" in problem["detail"] or "indices" in problem["detail"], problem["detail"]
            assert client.post("/synthesize?input=eye", content=EYE, headers=PNG).status_code == 200
        assert client.get("/readyz").status_code == 200


WHITE = encoded(np.tile(np.array([[[90], [255]]], np.uint8), (22, 13, 3)))
"""An eye that the failing model fails with."""


def fail(client: TestClient, num: int) -> None:
    for _ in range(num):
        answer = client.post("/synthesize?input=eye", content=WHITE, headers=PNG)
        check_problem(answer, 503, "inference_failed")


def test_after_one_failure_the_service_stays_ready_and_tests_its_model(tmp_path: Path) -> None:
    with a_service(failing_model(tmp_path / "failing.onnx")) as (client, engine):
        fail(client, MAX_FAILURES - 1)
        with Held(client, engine):  # the run that the probe asks for has to wait
            for _ in range(2):
                assert client.get("/readyz").status_code == 200
            assert engine.pool.state().num_queued == 1
            assert engine.synthesizer.last_run.num_failed == MAX_FAILURES - 1
        wait_for(lambda: engine.synthesizer.last_run.error is None)
        fail(client, 1)  # counted anew
        assert client.get("/readyz").status_code == 200


def test_after_failures_in_a_row_the_service_is_not_ready_until_the_model_runs_again(tmp_path: Path) -> None:
    with a_service(failing_model(tmp_path / "failing.onnx")) as (client, engine):
        fail(client, MAX_FAILURES)
        with Held(client, engine):
            for _ in range(2):
                detail = check_problem(client.get("/readyz"), 503, "not_ready")["detail"]
                assert re.search(r"the model failed \d+ s ago, 3 times in a row \(", detail)
            assert client.get("/livez").status_code == 200
        wait_for(lambda: client.get("/readyz").status_code == 200)


def readers_of(engine: Engine) -> list[int]:
    """The processes that read its photos."""
    assert isinstance(engine._reader, ProcessPoolReader)
    return engine._reader.pids


def test_where_no_reader_can_be_started_the_service_is_not_ready_until_one_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = failing_model(tmp_path / "failing.onnx")
    with a_service(model, num_readers=1) as (client, engine):
        (pid,) = readers_of(engine)
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/nowhere/python")
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: "not_ready" in client.post("/synthesize", content=EYE, headers=PNG).text)
            for _ in range(2):
                detail = check_problem(client.get("/readyz"), 503, "not_ready")["detail"]
                assert "photos cannot be read: A decoder process cannot be started" in detail
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/synthesize?input=eye", content=EYE, headers=PNG).status_code == 200


def test_readers_are_the_same_for_the_model_that_follows(tmp_path: Path) -> None:
    with a_service(failing_model(tmp_path / "failing.onnx"), num_readers=1) as (client, engine):
        before, first = readers_of(engine), engine.model.current.pipeline
        assert client.portal is not None
        client.portal.call(engine.model.reload)
        assert engine.model.current.pipeline is not first
        assert client.post("/synthesize?input=eye", content=EYE, headers=PNG).status_code == 200
        assert readers_of(engine) == before


def test_a_model_that_fails_its_test_is_a_reason_not_to_be_ready(tmp_path: Path) -> None:
    with a_service(failing_model(tmp_path / "failing.onnx")) as (client, engine):
        black_eye = engine.runner._black_eye
        white_eye = np.full_like(black_eye()[0], 255), black_eye()[1]
        engine.runner._black_eye = lambda: white_eye  # type: ignore[method-assign]
        fail(client, 1)
        assert client.get("/readyz").status_code == 200
        wait_for(lambda: client.get("/readyz").status_code == 503)
        detail = check_problem(client.get("/readyz"), 503, "not_ready")["detail"]
        assert re.search(r"the model failed \d+ s ago, its test too \(", detail)
        engine.runner._black_eye = black_eye  # type: ignore[method-assign]
        wait_for(lambda: client.get("/readyz").status_code == 200)


def test_ready_tells_what_the_service_is_at(client: TestClient) -> None:
    ready = client.get("/readyz").json()
    assert (ready["status"], ready["device"], ready["model"]) == ("ready", "cpu", "tiny")
    assert (ready["num_workers"], ready["num_queued"]) == (2, 0)
    assert 0 <= ready["last_inference_age_s"] < 600 and ready["last_inference_ms"] > 0
    client.post("/synthesize?input=eye", content=EYE, headers=PNG)
    assert client.get("/readyz").json()["last_inference_age_s"] < 5


def test_workers_that_hang_are_a_reason_not_to_be_ready(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "HANG_S", 0.02)
    with a_service(model) as (client, engine):
        with Held(client, engine):
            time.sleep(0.03)
            assert "every worker hangs" in check_problem(client.get("/readyz"), 503, "not_ready")["detail"]
        wait_for(lambda: client.get("/readyz").status_code == 200)


def test_health_is_answered_in_5_ms_while_every_worker_is_busy(model: Path) -> None:
    with a_service(model) as (client, engine), Held(client, engine):
        for path in ("/livez", "/readyz", "/metrics", "/", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
    app = create_app(Settings(model=str(model), device="cpu", num_threads=2))
    with served_here(app) as (address, state), httpx.Client(base_url=address) as caller:
        engine = state["engine"]
        stop = threading.Event()

        def work(_: Any) -> None:
            while not stop.is_set():
                engine.model.current.pipeline.reader(encoded(astronaut(), "jpeg"), FIND_EYES, StageTimer())

        async def occupy() -> None:
            for _ in range(2):
                engine.pool.submit(Work.of(work), max_ms=60_000)

        asyncio.run_coroutine_threadsafe(occupy(), state["loop"]).result(10)
        wait_for(lambda: engine.pool.state().num_busy == 2)
        try:
            for path in ("/livez", "/readyz"):
                expect_fast(lambda path=path: caller.get(path).raise_for_status(), 0.005)  # type: ignore[misc]
            assert engine.pool.state().num_busy == 2
        finally:
            stop.set()


@pytest.fixture
def on_a_device(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are served as from a GPU: in batches, by one thread. They run in ONNX Runtime on the CPU."""
    load = Synthesizer.load

    def load_as_if_on_a_gpu(path: Path, **_: object) -> Synthesizer:
        loaded = load(path, device="cpu")
        loaded.device = "cuda"
        return loaded

    monkeypatch.setattr(Synthesizer, "load", load_as_if_on_a_gpu)


def test_threads_are_in_no_sandbox_and_it_is_said(model: Path) -> None:
    settings = Settings(model=str(model), device="cpu", sandbox="required", num_readers=0)
    with pytest.raises(SandboxMissing, match="with EYE2FACE_NUM_READERS=0 there is none"):
        Engine(settings, Metrics())


@pytest.mark.parametrize(("sandbox", "num_readers"), [("required", 2), ("auto", 0), ("off", 0)])
def test_on_a_cpu_processes_read_where_a_sandbox_is_required(
    model: Path, monkeypatch: pytest.MonkeyPatch, sandbox: Any, num_readers: int
) -> None:
    monkeypatch.setattr(engine_module, "count_cores", lambda: 2)
    engine = Engine(Settings(model=str(model), device="cpu", sandbox=sandbox), Metrics())
    try:
        assert len(getattr(engine._reader, "pids", [])) == num_readers
    finally:
        engine.close()


@pytest.mark.slow
@pytest.mark.usefixtures("on_a_device")
@pytest.mark.parametrize(
    ("given", "most", "num_readers", "num_workers"),
    [({}, 32, 2, 4), ({"num_threads": 1}, 32, 1, 2), ({}, 1, 1, 4), ({"num_readers": 2}, 1, 2, 4)],
)
def test_beside_a_device_as_many_processes_read_as_there_are_cores_unless_told(
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, int],
    most: int,
    num_readers: int,
    num_workers: int,
) -> None:
    monkeypatch.setattr(engine_module, "count_cores", lambda: 2)
    monkeypatch.setattr(process_pool, "_MAX_READERS", most)
    engine = Engine(Settings.model_validate({"model": str(model)} | given), Metrics())
    try:
        assert isinstance(engine._reader, ProcessPoolReader) and len(engine._reader.pids) == num_readers
        assert engine.pool.state().num_workers == num_workers
    finally:
        engine.close()


@pytest.mark.usefixtures("on_a_device")
def test_on_a_device_photos_share_batches_and_each_gets_its_own_face(model: Path, client: TestClient) -> None:
    crops = [np.ascontiguousarray(astronaut()[90 + i : 112 + i, 190 : 216 + i]) for i in range(12)]
    photos = [encoded(crop) for crop in crops]
    route = "/synthesize?input=eye"
    expected = [pixels_of(client.post(route, content=photo, headers=PNG).content) for photo in photos]
    with served_here(create_app(Settings(model=str(model), num_threads=2))) as (address, state):
        engine: Engine = state["engine"]
        assert engine.pool.state().num_workers == 4
        with ThreadPoolExecutor(12) as threads:
            ask = partial(httpx.post, f"{address}{route}", headers=PNG, timeout=60)
            answers = list(threads.map(lambda photo: ask(content=photo), photos))
        assert [pixels_of(answer.content) for answer in answers] == expected
        assert {answer.headers["x-device"] for answer in answers} == {"cuda"}
        numbers = httpx.get(f"{address}/metrics").text
    sizes = len(BATCH_SIZES)  # each was run once to warm it
    assert f"eye2face_batch_size_sum {float(sum(BATCH_SIZES) + 12)}" in numbers
    (num_batches,) = re.findall(r"^eye2face_batch_size_count (\d+)", numbers, flags=re.M)
    assert sizes + 1 <= int(num_batches) <= sizes + 12


@pytest.mark.usefixtures("on_a_device")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_device_thread_that_died_is_a_reason_not_to_be_ready_and_nobody_waits_for_it(model: Path) -> None:
    with a_service(model) as (client, engine):
        assert client.get("/readyz").status_code == 200
        batcher = engine.runner._batcher
        assert batcher is not None
        kill(batcher._thread)
        with batcher._changed:
            batcher._changed.notify_all()
        batcher._thread.join(10)
        answer = client.post("/synthesize?input=eye", content=EYE, headers=PNG)
        check_problem(answer, 503, "not_ready")
        unready = check_problem(client.get("/readyz"), 503, "not_ready")
        assert "the thread that runs the model died" in unready["detail"]
