"""Models swapped while the service runs: by SIGHUP and by a watched file, with requests in flight."""

import asyncio
import hashlib
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from service.decoding.process_pool import open_reader
from service.engine import model_reload
from service.engine.device_runner import DeviceRunner
from service.engine.engine import Engine
from service.engine.model_reload import LoadedModel, ReloadableModel, watch_for_reloads
from service.errors import ModelSelfTestFailed
from service.http.app import create_app
from service.inference import self_test
from service.inference.self_test import check_candidate
from service.observability.metrics import Metrics
from service.settings import Settings
from service.system.file_changes import file_stamp
from service.vision.eyes import Eye, EyeDetections
from service.vision.images import Image
from tests.fakes import KnownEyes, endless_model, hungry_model, spoil, tiny_model
from tests.running import ROOT, find_free_port, running_service, serving, wait_until_ready


def load(settings: Settings) -> LoadedModel:
    """The model of the settings, as the engine loads it."""
    cores, metrics = threading.Semaphore(1), Metrics()
    return LoadedModel.open(
        settings,
        lambda synthesizer: DeviceRunner(synthesizer, cores, metrics),
        lambda _: open_reader(settings, 1),
    )


def version_of(address: str) -> str:
    version: str = httpx.get(f"{address}/models").json()["answering"]["version"]
    return version


def failure_of(address: str) -> str:
    return httpx.get(f"{address}/models").json()["last_failure"] or ""


def wait_for(condition: Callable[[], Any], max_wait_s: float = 60) -> None:
    end = time.monotonic() + max_wait_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def put(new: Path, place: Path) -> None:
    """Replaces the file atomically."""
    new.replace(place)


@pytest.mark.slow
def test_sighup_puts_the_new_file_into_use_and_rubbish_keeps_the_old_one(
    tmp_path: Path, photo: bytes
) -> None:
    place = tiny_model(tmp_path / "place" / "tiny.onnx", version="1")
    with running_service(tmp_path, model=place) as service:
        put(tiny_model(tmp_path / "2.onnx", face_size=192, version="2"), place)
        assert version_of(service.address) == "1"
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: version_of(service.address) == "2")
        assert draw(service.address, photo) == ("2", 192)

        place.write_bytes(b"rubbish")
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: failure_of(service.address))
        assert failure_of(service.address).startswith("tiny.onnx cannot be loaded as an ONNX model")
        assert version_of(service.address) == "2"
        assert draw(service.address, photo) == ("2", 192)

        put(tiny_model(tmp_path / "3.onnx", version="3"), place)
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: version_of(service.address) == "3")
        assert failure_of(service.address) == ""
    said = service.log.read_text()
    assert "cannot reload the model, keeping tiny 2" in said


@pytest.mark.slow
def test_a_watched_file_is_put_into_use_by_itself(tmp_path: Path) -> None:
    place = tiny_model(tmp_path / "place" / "tiny.onnx", version="1")
    with running_service(tmp_path, model=place, model_watch_s=0.1) as service:
        put(tiny_model(tmp_path / "2.onnx", version="2"), place)
        wait_for(lambda: version_of(service.address) == "2")
        place.write_bytes(b"rubbish")
        wait_for(lambda: failure_of(service.address))
        assert version_of(service.address) == "2"
        time.sleep(0.5)
    assert service.log.read_text().count("cannot reload the model") == 1  # a bad file is tried once


def children(pid: int, of: str) -> list[int]:
    """The processes that it started and whose command line has these words."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == pid and of in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except (OSError, ValueError):  # it has ended, or is no process
            continue
    return found


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux ends children with their parent")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_new_model_that_never_ends_stops_neither_answers_nor_the_service(
    tmp_path: Path, photo: bytes, end: signal.Signals
) -> None:
    place = tiny_model(tmp_path / "place" / "tiny.onnx", version="1")
    with running_service(tmp_path, model=place) as service:
        put(endless_model(tmp_path / "2.onnx"), place)
        service.process.send_signal(signal.SIGHUP)
        wait_for(lambda: children(service.process.pid, "service.inference.self_test"))
        (child,) = children(service.process.pid, "service.inference.self_test")
        wait_for(lambda: 0 < resource.prlimit(child, resource.RLIMIT_AS)[0] < 8 << 30)  # 2 GiB and its own
        assert draw(service.address, photo) == ("1", 128)
        begin = time.monotonic()
        service.process.send_signal(end)
        assert service.process.wait(20) == (0 if end == signal.SIGTERM else -signal.SIGKILL)
        assert time.monotonic() - begin < 10  # it would have 20 s for work
        wait_for(lambda: is_gone(child), 5)


@pytest.mark.slow
def test_a_new_model_that_takes_too_much_time_or_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tiny_model(tmp_path / "tiny.onnx", version="1")
    settings = Settings(model=str(place), device="cpu")
    engine = Engine(settings, Metrics())
    try:
        for make, told in (
            (endless_model, "was not loaded and tested within 3 s"),
            (lambda path: hungry_model(path, 50 << 30, constant=False), "Failed to allocate memory"),
            (lambda path: hungry_model(path, 50 << 30, constant=True), "Failed to allocate memory"),
            (lambda path: tiny_model(path, name="[" * 50_000_000), "more than 4,194,304 bytes of metadata"),
            (lambda path: tiny_model(path, metrics="[" * 100_000), "metadata that cannot be read"),
        ):
            make(place)
            with monkeypatch.context() as patch:
                patch.setattr(self_test, "MAX_TEST_S", 3 if make is endless_model else self_test.MAX_TEST_S)
                asyncio.run(engine.model.reload())
            assert re.search(told, engine.model.last_failure or ""), engine.model.last_failure
            assert len(engine.model.last_failure or "") < 1500
        with place.open("wb") as file:
            file.truncate(3 << 30)
        asyncio.run(engine.model.reload())
        assert "Larger than" in (engine.model.last_failure or "")
        assert engine.synthesizer.info.version == "1"
    finally:
        engine.close()


def test_the_model_that_was_tested_is_the_one_that_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although another one is in its place by then."""
    place = tiny_model(tmp_path / "tiny.onnx", version="1")
    engine = Engine(Settings(model=str(place), device="cpu"), Metrics())

    def replace_after(path: Path, content: bytes) -> None:
        check_candidate(path, content)
        endless_model(place)

    monkeypatch.setattr(model_reload, "check_candidate", replace_after)
    try:
        tiny_model(place, version="2")
        tested = hashlib.sha256(place.read_bytes()).hexdigest()
        asyncio.run(engine.model.reload())
        assert engine.synthesizer.info.sha256 == tested
        assert engine.model.current.file_stamp != file_stamp(place)  # a watched file is then tried next
    finally:
        engine.close()


def test_signals_during_a_reload_are_one_more_reload(tmp_path: Path) -> None:
    loaded = load(Settings(model=str(tiny_model(tmp_path / "tiny.onnx")), device="cpu"))
    begun: list[float] = []
    go_on = threading.Event()

    def load_slowly() -> LoadedModel:
        begun.append(time.monotonic())
        assert go_on.wait(60)
        return loaded

    async def signal_often() -> None:
        live = ReloadableModel(loaded, load_slowly)
        async with watch_for_reloads(live, Settings()):
            for _ in range(500):
                os.kill(os.getpid(), signal.SIGHUP)
                await asyncio.sleep(0)
            while not begun:
                await asyncio.sleep(0.01)
            for _ in range(500):
                os.kill(os.getpid(), signal.SIGHUP)
                await asyncio.sleep(0)
            go_on.set()
            while len(begun) < 2 or live._reloading.locked():
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)

    asyncio.run(asyncio.wait_for(signal_often(), 60))
    assert len(begun) == 2


SLOW_TO_LOAD = """
import sys, time
from service.engine import model_reload as live
from service.cli.main import main

test = live.check_model

def test_slowly(synthesizer):
    open(sys.argv[1], "w").close()
    time.sleep(2)
    test(synthesizer)

live.check_model = test_slowly
main(["serve"])
"""
"""`serve`, which writes a file while it loads its model and takes two seconds for it."""


@contextmanager
def starting(
    program: list[str], model: Path, log: Path, terminal: int = subprocess.DEVNULL
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A service that starts; its address and process."""
    port = find_free_port()
    own = {"EYE2FACE_MODEL": str(model), "EYE2FACE_PORT": str(port), "EYE2FACE_DEVICE": "cpu"}
    with (
        log.open("wb") as said,
        subprocess.Popen(
            [sys.executable, *program],
            cwd=ROOT,
            env=os.environ | own | {"PYTHONPATH": str(ROOT)},
            stdin=terminal,
            stdout=said,
            stderr=said,
        ) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_start_whose_model_hangs(tmp_path: Path, sign: signal.Signals) -> None:
    model, begun = endless_model(tmp_path / "endless.onnx"), tmp_path / "begun"
    program = ["-c", SLOW_TO_LOAD.replace("time.sleep(2)", ""), str(begun)]
    with starting(program, model, tmp_path / "log") as (_, process):
        wait_for(begun.exists)
        process.send_signal(sign)
        assert process.wait(10) == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_sighup_while_the_first_model_is_loaded_waits_for_it(tmp_path: Path) -> None:
    place, loading = tiny_model(tmp_path / "place" / "tiny.onnx", version="1"), tmp_path / "loading"
    program = ["-c", SLOW_TO_LOAD, str(loading)]
    with starting(program, place, tmp_path / "log") as (address, process):
        wait_for(loading.exists)
        put(tiny_model(tmp_path / "2.onnx", version="2"), place)
        process.send_signal(signal.SIGHUP)
        wait_until_ready(address, process)
        wait_for(lambda: version_of(address) == "2")
    assert "replaces tiny 1" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("how", ["black", "same", "crash"])
def test_a_model_that_fails_its_self_test_keeps_the_old_one(
    tmp_path: Path, how: Literal["black", "same", "crash"]
) -> None:
    place = tiny_model(tmp_path / "tiny.onnx", version="1")
    settings = Settings(model=str(place), device="cpu")

    async def swap() -> ReloadableModel:
        live = ReloadableModel(load(settings), lambda: load(settings))
        async with watch_for_reloads(live, settings):
            spoil(tiny_model(place, version="2"), how)
            await live.reload()
            return live

    live = asyncio.run(swap())
    assert live.current.synthesizer.info.version == "1"
    assert live.last_failure is not None and "tiny 2" in live.last_failure
    with pytest.raises(ModelSelfTestFailed):
        load(settings)


def test_whatever_the_new_file_does_the_old_one_stays(tmp_path: Path) -> None:
    loaded = load(Settings(model=str(tiny_model(tmp_path / "tiny.onnx")), device="cpu"))

    def fail() -> LoadedModel:
        raise MemoryError("no room")

    live = ReloadableModel(loaded, fail)
    asyncio.run(live.reload())
    assert (live.current, live.last_failure) == (loaded, "MemoryError: no room")


@dataclass(frozen=True)
class HeldFinder(KnownEyes):
    """Finds one eye, once it is released."""

    looking: threading.Event = field(default_factory=threading.Event)
    let: threading.Event = field(default_factory=threading.Event)

    def detect(self, photo: Image) -> EyeDetections:
        self.looking.set()
        assert self.let.wait(60)
        return super().detect(photo)


def test_a_request_that_has_begun_ends_on_its_model(
    tmp_path: Path, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    finder = HeldFinder([Eye(0.4, 0.2, 0.06, 0.0, "right")])
    monkeypatch.setattr("service.decoding.process_pool.open_eye_finder", lambda name: finder)
    place = tiny_model(tmp_path / "tiny.onnx", version="1")
    app = create_app(Settings(model=str(place), device="cpu", model_watch_s=0.1))
    with serving(app) as address, ThreadPoolExecutor(1) as aside:
        begun = aside.submit(draw, address, photo)
        assert finder.looking.wait(60)
        put(tiny_model(tmp_path / "2.onnx", face_size=192, version="2"), place)
        wait_for(lambda: version_of(address) == "2")
        assert not begun.done()
        finder.let.set()
        assert draw(address, photo) == ("2", 192)
        assert begun.result(60) == ("1", 128)


def draw(address: str, photo: bytes) -> tuple[str, int]:
    """Version of the model that drew, and the size of its face."""
    form = {"content-type": "image/jpeg", "accept": "application/json"}
    answer = httpx.post(f"{address}/synthesize", content=photo, headers=form, timeout=60).json()
    return answer["model"]["version"], answer["faces"][0]["width"]


def test_a_half_written_file_is_left_alone_until_it_stays_as_it_is(tmp_path: Path) -> None:
    place = tiny_model(tmp_path / "tiny.onnx", version="1")
    whole = tiny_model(tmp_path / "2.onnx", version="2").read_bytes()
    settings = Settings(model=str(place), device="cpu", model_watch_s=0.2)

    async def write_slowly() -> ReloadableModel:
        live = ReloadableModel(load(settings), lambda: load(settings))
        async with watch_for_reloads(live, settings):
            with place.open("wb") as file:
                for start in range(0, len(whole), len(whole) // 8):
                    file.write(whole[start : start + len(whole) // 8])
                    file.flush()
                    await asyncio.sleep(0.05)
            while live.current.synthesizer.info.version != "2":
                assert live.last_failure is None
                await asyncio.sleep(0.05)
            return live

    assert asyncio.run(asyncio.wait_for(write_slowly(), 60)).last_failure is None


LET_GO = """
import sys, threading
from contextlib import nullcontext
from service.settings import Settings
from tests.service.engine.test_model_reload import load

model = load(Settings(model=sys.argv[1], device="cpu"))
with getattr(threading, "_shutdown_locks_lock", nullcontext()):
    del model
"""


def test_a_model_may_be_let_go_while_a_thread_starts(tmp_path: Path) -> None:
    """Whatever thread Python collects it in, which may hold a lock of `threading`."""
    command = [sys.executable, "-c", LET_GO, str(tiny_model(tmp_path / "tiny.onnx"))]
    subprocess.run(command, cwd=ROOT, timeout=30, check=True)
