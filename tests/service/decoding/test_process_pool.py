"""Photos read by processes: same results as in a thread, whatever happens to a process."""

import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from service.decoding import decoder_process
from service.decoding.messages import (
    MemoryRequest,
    Message,
    Ready,
    Result,
    TaskOutcomes,
    encode_message,
)
from service.decoding.process_pool import ProcessPoolReader
from service.decoding.reader import InProcessReader, PhotoTask
from service.engine.worker_pool import call_together
from service.errors import (
    DeadlineExceeded,
    ImageCorrupt,
    ModelNotFound,
    NoEyeFound,
    NotReady,
    OutOfMemory,
    ReadingFailed,
    SandboxMissing,
)
from service.inference.eye_finder import open_eye_finder
from service.observability.stage_timer import StageTimer
from service.pipeline import PhotoEyes, draw_overlay, find_eyes
from service.selection import SelectedCrops, SynthesisOptions, select_crops
from service.vision.eyes import EyeFinder, Photo
from service.vision.images import Image
from tests.fakes import astronaut, encoded, pixels_of
from tests.running import ROOT, running_service
from tests.service.tasks import (
    COMPUTE_ON,
    DIE,
    FAIL,
    FORGE_THE_LOG,
    LACK_MEMORY,
    LACK_MEMORY_IN_OPENCV,
    LOOK_AROUND,
    MISUSE_OPENCV,
    NOTE_TIMES,
    PAINT,
    RETURN_AN_OBJECT,
    TAKE_MEMORY,
    saying,
    sleeping,
)

MAX_PIXELS = 10**7
JPEG = {"content-type": "image/jpeg"}
CHOOSE = PhotoTask(partial(select_crops, options=SynthesisOptions(), size=64), SelectedCrops, 64 * 64 * 3)
FIND = PhotoTask(find_eyes, PhotoEyes)
OVERLAY = PhotoTask(draw_overlay, Image, 3 * 1280**2)


@pytest.fixture(scope="module", autouse=True)
def _tasks_of_the_tests() -> Iterator[None]:
    """Lets processes import the tests' tasks before they enter the sandbox."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            decoder_process, "_TASK_MODULES", (*decoder_process._TASK_MODULES, "tests.service.tasks")
        )
        yield


@contextmanager
def readers(number: int = 1) -> Iterator[ProcessPoolReader]:
    """So many, ended in the end."""
    made = ProcessPoolReader(number, "haar", max_pixels=MAX_PIXELS)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def one() -> Iterator[ProcessPoolReader]:
    """One process, for tests that leave it usable."""
    with readers() as made:
        yield made


@pytest.fixture(scope="module")
def photo() -> bytes:
    """An astronaut, in JPEG."""
    return encoded(astronaut(), "jpeg")


def lives(pid: int) -> bool:
    """Whether there is such a process, or a thread of it that has not ended."""
    try:
        ended = Path(f"/proc/{pid}/stat").read_text().rsplit(")")[-1].split()[0] == "Z"
        return not ended or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    except OSError:
        return False


def wait_for_end(pids: list[int], *, within_s: float = 10.0) -> None:
    """Fails if one of them lives longer."""
    until = time.monotonic() + within_s
    while any(map(lives, pids)):
        assert time.monotonic() < until, "still alive"
        time.sleep(0.02)


def wait_for(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Returns once it holds."""
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def kill(pid: int) -> None:
    """Kills a process that this one started, and returns when it can be told that it ended."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def within(seconds: float) -> StageTimer:
    """A clock that stops the work after so long, as a request's deadline does."""
    return StageTimer(time.monotonic() + seconds)


def test_a_process_finds_crops_and_draws_what_a_thread_does(one: ProcessPoolReader, photo: bytes) -> None:
    here = InProcessReader(open_eye_finder("haar"), max_pixels=MAX_PIXELS)
    timer = StageTimer()
    there_crops, here_crops = one(photo, CHOOSE, timer), here(photo, CHOOSE, StageTimer())
    assert there_crops.crops[0].eye == here_crops.crops[0].eye
    assert np.array_equal(there_crops.crops[0].pixels, here_crops.crops[0].pixels)
    assert one(photo, FIND, StageTimer()) == here(photo, FIND, StageTimer())
    assert np.array_equal(one(photo, OVERLAY, StageTimer()), here(photo, OVERLAY, StageTimer()))
    assert timer.spent_ms["decode"] > 0 and timer.spent_ms["find"] > 0 and timer.spent_ms["infer"] == 0


@pytest.mark.parametrize("format", ["png", "webp", "avif", "bmp"])
def test_a_process_reads_every_format(one: ProcessPoolReader, format: str) -> None:
    assert len(one(encoded(astronaut(), format), FIND, StageTimer()).eyes) == 2


def test_errors_come_over_as_they_are(one: ProcessPoolReader, photo: bytes) -> None:
    here = InProcessReader(open_eye_finder("haar"), max_pixels=MAX_PIXELS)
    nothing = encoded(np.full((200, 300, 3), 90, np.uint8), "png")
    for data, kind in ((nothing, NoEyeFound), (photo[:3000], ImageCorrupt)):
        with pytest.raises(kind) as there:
            one(data, CHOOSE, StageTimer())
        with pytest.raises(kind) as expected:
            here(data, CHOOSE, StageTimer())
        assert str(there.value) == str(expected.value)
        assert there.value.members == expected.value.members


def test_a_learned_finders_doubts_come_over_too() -> None:
    made = ProcessPoolReader(1, "learned", max_pixels=MAX_PIXELS)
    try:
        with pytest.raises(NoEyeFound) as met:
            made(encoded(np.full((200, 300, 3), 90, np.uint8), "png"), CHOOSE, StageTimer())
    finally:
        made.close()
    assert "num_below_threshold" in met.value.members


def test_a_mistake_is_told_and_the_process_goes_on(one: ProcessPoolReader, photo: bytes) -> None:
    pid = one(photo, sleeping(0), StageTimer())
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a mistake") as met:
        one(photo, FAIL, StageTimer())
    assert "in fail" in met.value.__notes__[0]  # where it was, for the log
    assert one(photo, sleeping(0), StageTimer()) == pid


@pytest.mark.slow
def test_as_many_photos_are_read_at_once_as_there_are_processes(photo: bytes) -> None:
    with readers(2) as made, ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(made, photo, sleeping(0.2), StageTimer()) for _ in range(4)]
        assert {each.result() for each in asked} == set(made.pids)


def test_a_process_that_dies_at_a_photo_is_told_and_replaced(
    photo: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with readers() as made:
        (pid,) = made.pids
        threading.Timer(0.2, os.kill, (pid, signal.SIGKILL)).start()
        with pytest.raises(ReadingFailed, match=r"was ended by signal 9, and the service goes on"):
            made(photo, sleeping(30), StageTimer())
        assert "was ended by signal 9; it will be replaced" in caplog.text
        assert made(photo, FIND, StageTimer()).eyes
        assert made.pids != [pid]


@pytest.mark.slow
def test_one_that_died_idle_is_replaced_before_the_next_photo(photo: bytes) -> None:
    with readers() as made:
        (pid,) = made.pids
        kill(pid)
        assert made(photo, FIND, StageTimer()).eyes


@pytest.mark.slow
def test_a_photo_that_nobody_waits_for_any_more_is_cut(
    photo: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with readers() as made:
        (pid,) = made.pids
        begin = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            made(photo, sleeping(60), within(0.2))
        assert time.monotonic() - begin < 5
        wait_for_end([pid])
        assert "its photo was canceled" in caplog.text
        assert made(photo, FIND, StageTimer()).eyes


def test_one_that_is_soon_done_with_it_is_kept(photo: bytes) -> None:
    with readers() as made:
        with pytest.raises(DeadlineExceeded):
            made(photo, sleeping(0.3), within(0.1))
        (pid,) = made.pids
        assert made(photo, sleeping(0), StageTimer()) == pid


def test_several_photos_are_read_by_one_process_and_each_meets_its_own_error(photo: bytes) -> None:
    nothing = encoded(np.full((200, 300, 3), 90, np.uint8), "png")
    timers = [StageTimer() for _ in range(3)]
    with readers(2) as made:
        photos = (photo, nothing, photo[:3000])
        told = made.read_together([(each, CHOOSE, timer) for each, timer in zip(photos, timers, strict=True)])
        chosen, none, corrupt = told
        assert isinstance(chosen, SelectedCrops)
        assert np.array_equal(chosen.crops[0].pixels, made(photo, CHOOSE, StageTimer()).crops[0].pixels)
        assert isinstance(none, NoEyeFound) and isinstance(corrupt, ImageCorrupt)
    assert [timer.spent_ms["find"] > 0 for timer in timers] == [True, True, False]


@pytest.mark.slow
def test_one_that_kills_its_process_spoils_no_photo_that_came_with_it(photo: bytes) -> None:
    with readers() as made:
        requests = [(photo, task, StageTimer()) for task in (sleeping(0), DIE, sleeping(0))]
        told = call_together(made.read_together, requests)
        assert [type(error) for _, error in told] == [type(None), ReadingFailed, type(None)]


@pytest.mark.slow
def test_one_whose_time_is_over_costs_the_others_little(photo: bytes) -> None:
    with readers() as made:
        begin = time.monotonic()
        wanted = [(sleeping(0), StageTimer()), (sleeping(60), within(0.2)), (sleeping(0), StageTimer())]
        told = call_together(made.read_together, [(photo, *each) for each in wanted])
        assert [type(error) for _, error in told] == [type(None), DeadlineExceeded, type(None)]
        assert time.monotonic() - begin < 10


@pytest.mark.usefixtures("room_for_one")
def test_of_several_photos_each_has_its_memory_in_turn(photo: bytes) -> None:
    with readers() as made:
        requests = [(data, CHOOSE, StageTimer()) for data in (photo, photo[:3000], photo)]
        chosen, corrupt, again = made.read_together(requests)
        assert isinstance(chosen, SelectedCrops) and isinstance(corrupt, ImageCorrupt)
        assert isinstance(again, SelectedCrops)


@pytest.fixture
def room_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory budget for one of the test's photos at a time."""
    monkeypatch.setattr("service.decoding.reader.count_memory", lambda: 4096)


@pytest.fixture(params=["processes", "threads"])
def short(room_for_one: None, request: pytest.FixtureRequest) -> Iterator[Any]:
    """What reads photos there, in either way."""
    in_processes = request.param == "processes"
    made = (
        ProcessPoolReader(2, "haar", max_pixels=MAX_PIXELS)
        if in_processes
        else InProcessReader(open_eye_finder("haar"), max_pixels=MAX_PIXELS)
    )
    yield made
    made.close()


@pytest.mark.slow
def test_where_memory_lacks_photos_are_read_one_after_the_other(photo: bytes, short: Any) -> None:
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(short, photo, NOTE_TIMES, StageTimer()) for _ in range(4)]
        times = sorted(each.result() for each in asked)
    assert all(done <= begin for (_, done), (begin, _) in pairwise(times))
    assert short(photo, FIND, StageTimer()).eyes


@pytest.mark.slow
def test_who_waits_for_memory_in_vain_is_told_in_time(photo: bytes, short: Any) -> None:
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(short, photo, sleeping(2), StageTimer())
        time.sleep(0.2)
        with pytest.raises(DeadlineExceeded):
            short(photo, FIND, within(0.2))
        assert isinstance(asked.result(), int)
    assert short(photo, FIND, StageTimer()).eyes


@pytest.mark.slow
@pytest.mark.usefixtures("room_for_one")
def test_a_process_that_dies_gives_its_memory_back(photo: bytes) -> None:
    with readers() as made:
        for _ in range(2):
            with pytest.raises(ReadingFailed):
                made(photo, DIE, StageTimer())
        assert made(photo, FIND, StageTimer()).eyes


AFTER_A_LARGE_PHOTO = """
import sys
from pathlib import Path
import numpy as np
from service.system import memory
from service.decoding import reader as reading
from service.inference.eye_finder import open_eye_finder
from service.observability.stage_timer import StageTimer
from service.pipeline import PhotoEyes, find_eyes
from tests.fakes import encoded

FIND = reading.PhotoTask(find_eyes, PhotoEyes)

memory.keep_freed_memory()
reading.count_memory = lambda: int(sys.argv[1])
photo = encoded(np.full((5000, 5000, 3), 90, np.uint8), "webp")
read = reading.InProcessReader(open_eye_finder("haar"), max_pixels=25_000_000)
read(encoded(np.full((200, 200, 3), 90, np.uint8), "png"), FIND, StageTimer())
memory.trim_heap()

def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

before = resident()
read(photo, FIND, StageTimer())
print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is glibc that keeps it")
@pytest.mark.parametrize(("memory", "goes"), [(1 << 40, False), (100 << 20, True)])
def test_what_a_large_photo_took_goes_back_to_the_system(memory: int, goes: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AFTER_A_LARGE_PHOTO, str(memory)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (int(done.stdout) < 20_000_000) == goes, done.stderr


def test_a_photo_that_an_error_still_holds_has_no_pixels(photo: bytes) -> None:
    held: list[Photo] = []

    def keep(photo: Photo, *, finder: EyeFinder) -> None:
        held.append(photo)
        photo.detect(finder)
        assert photo.decoded
        raise KeyError

    read = InProcessReader(open_eye_finder("haar"), max_pixels=MAX_PIXELS)
    with pytest.raises(KeyError):
        read(photo, PhotoTask(keep, type(None)), StageTimer())
    assert not held[0].decoded


@pytest.mark.slow
def test_who_waits_for_a_process_in_vain_is_told_in_time(photo: bytes) -> None:
    with readers() as made, ThreadPoolExecutor(1) as threads:
        asked = threads.submit(made, photo, sleeping(1), StageTimer())
        time.sleep(0.1)
        with pytest.raises(DeadlineExceeded):
            made(photo, FIND, within(0.2))
        assert asked.result() in made.pids


def test_a_finder_that_cannot_be_used_is_told_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "service", tmp_path / "service")  # and no models beside it
    monkeypatch.setattr(decoder_process, "_ROOT", tmp_path)
    with pytest.raises(ModelNotFound, match="no model 'eye_finder'"):
        ProcessPoolReader(2, "learned", max_pixels=MAX_PIXELS)


def test_one_that_ends_at_its_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoding = tmp_path / "service" / "decoding"
    decoding.mkdir(parents=True)
    for folder in (decoding.parent, decoding):
        (folder / "__init__.py").touch()
    (decoding / "worker.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(decoder_process, "_ROOT", tmp_path)
    with pytest.raises(NotReady, match="ended during its start"):
        ProcessPoolReader(2, "haar", max_pixels=MAX_PIXELS)


def test_a_process_is_enter_sandbox_and_sees_no_secrets(
    photo: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EYE2FACE_API_KEYS", "secret")
    for name in ("AWS_SECRET_ACCESS_KEY", "HOME_SECRET", "PYTHON_API_TOKEN", "PATH_TO_KEY", "LC_TOKEN"):
        monkeypatch.setenv(name, "secret")
    with readers() as made:
        reached = made(photo, LOOK_AROUND, StageTimer())
        assert "PATH" in reached
        assert not any("KEY" in name or "SECRET" in name or "TOKEN" in name for name in reached)
        assert "secret" not in Path(f"/proc/{made.pids[0]}/environ").read_text()
    assert "sandbox" not in caplog.text


@pytest.mark.parametrize(("sandbox", "forged"), [("required", 0), ("off", 2)])
def test_one_that_is_enter_sandbox_writes_nothing_into_the_log(
    photo: bytes, capfd: pytest.CaptureFixture[str], sandbox: Any, forged: int
) -> None:
    made = ProcessPoolReader(1, "haar", max_pixels=MAX_PIXELS, sandbox=sandbox)
    try:
        made(photo, FORGE_THE_LOG, StageTimer())
    finally:
        made.close()
    assert "".join(capfd.readouterr()).count("forged") == forged


@pytest.mark.slow
@pytest.mark.parametrize(("sandbox", "told"), [("off", False), ("auto", True)])
def test_without_a_sandbox_photos_are_read_too_and_the_log_tells(
    photo: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, sandbox: Any, told: bool
) -> None:
    monkeypatch.setattr(
        decoder_process, "_TASK_MODULES", ("tests.service.no_sandbox", *decoder_process._TASK_MODULES)
    )
    made = ProcessPoolReader(2, "haar", max_pixels=MAX_PIXELS, sandbox=sandbox)
    try:
        assert any("listdir" in each or "lambda" in each for each in made(photo, LOOK_AROUND, StageTimer()))
    finally:
        made.close()
    assert caplog.text.count("run without a sandbox: libseccomp.so.2 is missing") == told


@pytest.mark.slow
def test_where_a_sandbox_is_required_and_there_is_none_no_process_is_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        decoder_process, "_TASK_MODULES", ("tests.service.no_sandbox", *decoder_process._TASK_MODULES)
    )
    with pytest.raises(SandboxMissing, match=r"there is no sandbox: libseccomp\.so\.2 is missing"):
        ProcessPoolReader(2, "haar", max_pixels=MAX_PIXELS, sandbox="required")


def framed(data: bytes, *, size: int | None = None) -> bytes:
    """As a process sends it: its length, then the message."""
    return struct.pack("!i", len(data) if size is None else size) + data


def sent(message: Message) -> bytes:
    """The bytes of a message, framed."""
    return framed(encode_message(message))


def result(value: object, spent_ms: Any = None) -> bytes:
    """The bytes of a result, framed."""
    return sent(TaskOutcomes([Result(value, spent_ms or {})]))


FORGED: Any = "\n2026-01-01 INFO forged"


@pytest.mark.slow
@pytest.mark.parametrize(("data", "why"), [
    (framed(b""), "DecodeError"), (framed(b"\x80\x04N."), "Object missing"),
    (framed(b"", size=1 << 30), "1073741824 bytes, expected at most"),
    (framed(b"", size=-2), "-2 bytes, expected at most"),
    (sent(TaskOutcomes([])), "0 outcomes for 1 photos"),
    (sent(TaskOutcomes([Result(3, {})] * 2)), "2 outcomes for 1 photos"),
    (sent(Ready("")), "Ready in the place of outcomes"),
    (result("a text"), "Expected `int`"),
    (sent(MemoryRequest(-5)), "-5 bytes for photo 1 of 1"),
    (sent(MemoryRequest(10**12)), "1000000000000 bytes for photo 1 of 1"),
    (sent(MemoryRequest(5000)) * 3, "5000 bytes for photo 2 of 1"),
    (result(3, {"find": -1.0}), "stages that took"),
    (result(3, {"find": 1e9}), "stages that took"),
    (result(3, {"find": math.nan}), "not finite"),
    (result(3, {FORGED: 0.5}), "Invalid enum value"),
    (result(3, {"find": FORGED}), "Expected `float`"),
], ids=lambda value: repr(value[:40]))  # fmt: skip
def test_one_that_sends_no_answer_is_ended(
    one: ProcessPoolReader, photo: bytes, caplog: pytest.LogCaptureFixture, data: bytes, why: str
) -> None:
    (pid,) = one.pids
    with pytest.raises(ReadingFailed):
        one(photo, saying(data), within(20))
    told = [record.getMessage() for record in caplog.records]
    assert any("invalid message" in each and why in each for each in told), told
    assert not any("\n" in each for each in told)
    wait_for_end([pid])
    assert one(photo, LOOK_AROUND, StageTimer())


@pytest.mark.slow
@pytest.mark.parametrize("message", [b"", b"\0", b"\0\0\1\0half", sent(MemoryRequest(5000))])
def test_one_that_says_half_of_something_holds_nobody_up(
    one: ProcessPoolReader, photo: bytes, message: bytes
) -> None:
    begin = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        one(photo, saying(message), within(0.2))
    assert time.monotonic() - begin < 5
    assert one(photo, LOOK_AROUND, StageTimer())


@pytest.mark.slow
def test_what_one_says_unasked_is_no_answer_to_the_next_one(photo: bytes) -> None:
    with readers() as made:
        (pid,) = made.pids
        answer = result(3)
        assert made(photo, saying(answer * 2), StageTimer()) == 3  # it is no worse than a wrong answer
        assert made(photo, FIND, StageTimer()).eyes
        assert made.pids != [pid]


@pytest.mark.slow
def test_one_that_takes_no_photo_holds_nobody_up() -> None:
    large = encoded(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8), "png")
    with readers() as made:
        (pid,) = made.pids
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            made(large, FIND, within(0.2))
        assert time.monotonic() - begin < 5
        wait_for_end([pid])


def test_a_task_that_returns_what_no_message_holds_is_a_mistake_and_the_process_goes_on(
    one: ProcessPoolReader, photo: bytes
) -> None:
    with pytest.raises(RuntimeError, match="is in no message"):
        one(photo, RETURN_AN_OBJECT, StageTimer())
    assert one(photo, FIND, StageTimer()).eyes


@pytest.mark.slow
def test_where_no_process_can_be_started_the_photo_is_refused_and_the_next_one_tries_anew(
    photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with readers() as made:
        kill(made.pids[0])
        with monkeypatch.context() as broken:
            broken.setattr(sys, "executable", "/nowhere/python")
            with pytest.raises(NotReady, match="cannot be started"):
                made(photo, FIND, StageTimer())
            with pytest.raises(NotReady):
                made.test()
            assert "cannot be started" in (made.last_failure or "")
        made.test()
        assert made.last_failure is None and made(photo, FIND, StageTimer()).eyes


def test_one_that_does_not_get_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_process, "START_S", 0.0)
    with pytest.raises(NotReady, match="was not ready after"):
        ProcessPoolReader(1, "haar", max_pixels=MAX_PIXELS)


def test_a_process_has_one_thread_however_many_cores_there_are(one: ProcessPoolReader, photo: bytes) -> None:
    one(photo, CHOOSE, StageTimer())
    (pid,) = one.pids
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1


def test_should_memory_run_out_a_process_that_reads_goes_before_the_service(one: ProcessPoolReader) -> None:
    theirs, ours = (int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (one.pids[0], "self"))
    assert theirs == min(1000, ours + 500)


def test_a_process_imports_nothing_that_it_does_not_need() -> None:
    code = (
        "import sys, service.pipeline, service.decoding.decoder_main\n"
        "print([name for name in ('pydantic', 'service.decoding.process_pool') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_processes_end_when_who_started_them_is_killed() -> None:
    script = (
        "from service.decoding.process_pool import ProcessPoolReader\n"
        "print(*ProcessPoolReader(2, 'haar', max_pixels=100).pids, flush=True)\n"
        "input()"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pids = [int(each) for each in process.stdout.readline().split()]
        assert len(pids) == 2 and all(map(lives, pids))
        process.kill()
    wait_for_end(pids)


def decoders_of(service: int) -> list[int]:
    return [pid for pid in all_children(service) if "service.decoding.decoder_main" in command_of(pid)]


@pytest.mark.slow
def test_a_service_with_readers_answers_survives_their_death_and_ends_with_them(
    tmp_path: Path, photo: bytes
) -> None:
    with running_service(tmp_path, num_readers=2, sandbox="required") as service:
        pids = decoders_of(service.process.pid)
        assert len(pids) == 2
        assert all("\nSeccomp:\t2\n" in Path(f"/proc/{pid}/status").read_text() for pid in pids)
        with httpx.Client(base_url=service.address, headers=JPEG) as client:
            first = client.post("/synthesize", content=photo)
            assert first.status_code == 200, first.text
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            wait_for_end(pids)
            again = client.post("/synthesize", content=photo)
            assert again.status_code == 200, again.text
            assert pixels_of(again.content) == pixels_of(first.content)
            assert client.get("/readyz").status_code == 200
        pids = decoders_of(service.process.pid)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(20) == 0
        assert pids
        wait_for_end(pids)


def all_children(pid: int) -> list[int]:
    """The processes that any thread of it started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(each) for task in tasks for each in (task / "children").read_text().split()]


def command_of(pid: int) -> str:
    """How it was called."""
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


@pytest.mark.parametrize("task", [LACK_MEMORY, LACK_MEMORY_IN_OPENCV])
def test_too_little_memory_is_told_as_what_it_is(one: ProcessPoolReader, photo: bytes, task: Any) -> None:
    for read in (one, InProcessReader(open_eye_finder("haar"), max_pixels=MAX_PIXELS)):
        with pytest.raises(OutOfMemory, match="too little memory"):
            read(photo, task, StageTimer())
        assert read(photo, FIND, StageTimer()).eyes


def test_a_process_has_memory_for_its_pixels_and_no_more(one: ProcessPoolReader, photo: bytes) -> None:
    with pytest.raises(OutOfMemory, match="too little memory"):
        one(photo, TAKE_MEMORY, StageTimer())
    assert one(photo, FIND, StageTimer()).eyes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the time of a process, as Linux tells it")
def test_a_process_computes_nothing_between_photos(photo: bytes) -> None:
    made = ProcessPoolReader(1, "haar", max_pixels=MAX_PIXELS, sandbox="off")
    try:
        pid = made(photo, COMPUTE_ON, StageTimer())
        status = Path(f"/proc/{pid}/stat")
        wait_for(lambda: status.read_text().rpartition(")")[2].split()[0] == "T")
        before = time.clock_gettime(cpu_clock(pid))
        time.sleep(0.3)
        assert time.clock_gettime(cpu_clock(pid)) < before + 0.01  # stopping itself takes some microseconds
        assert made(photo, sleeping(0), StageTimer()) == pid
    finally:
        begin = time.monotonic()
        made.close()
    wait_for_end([pid])
    assert time.monotonic() - begin < 5


def cpu_clock(pid: int) -> int:
    """The clock of a process's CPU time. Source: CPUCLOCK_SCHED in Linux's posix-timers.h."""
    return ~pid << 3 | 2


PARENT = """
import os, signal, sys, threading
from service.decoding import decoder_process
from service.decoding.process_pool import ProcessPoolReader
from service.observability.stage_timer import StageTimer
from tests.service.tasks import COMPUTE_ON, sleeping

decoder_process._TASK_MODULES = (*decoder_process._TASK_MODULES, "tests.service.tasks")
readers = ProcessPoolReader(2, "haar", max_pixels=10**7, sandbox="off")
photo = sys.stdin.buffer.read()
readers(photo, COMPUTE_ON, StageTimer())
print(*readers.pids, flush=True)
readers(photo, sleeping(60), StageTimer())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux ends children with their parent")
def test_no_process_outlives_a_service_that_is_killed(photo: bytes) -> None:
    """Neither one that waits nor one that reads."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        parent.stdin.write(photo)
        parent.stdin.close()
        pids = [int(each) for each in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    wait_for_end(pids)


def test_a_reply_may_have_all_the_pixels_that_its_task_allows(one: ProcessPoolReader, photo: bytes) -> None:
    first, second = one.read_together([(photo, PAINT, StageTimer())] * 2)
    for reply in (first, second):
        assert isinstance(reply, np.ndarray)
        assert reply.shape == (2400, 3000, 3)
        assert (reply == 7).all()


def test_another_error_of_opencv_is_a_mistake(one: ProcessPoolReader, photo: bytes) -> None:
    with pytest.raises(RuntimeError, match="inv_scale_x"):
        one(photo, MISUSE_OPENCV, StageTimer())
    with pytest.raises(cv2.error, match="inv_scale_x"):
        InProcessReader(open_eye_finder("haar"), max_pixels=MAX_PIXELS)(photo, MISUSE_OPENCV, StageTimer())


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
from service.errors import Eye2FaceError
from service.inference.eye_finder import open_eye_finder
from service.observability.stage_timer import StageTimer
from service.pipeline import PhotoEyes, find_eyes
from service.decoding.reader import InProcessReader, PhotoTask

FIND = PhotoTask(find_eyes, PhotoEyes)

read = InProcessReader(open_eye_finder("haar"), max_pixels=50_000_000)
has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (has + 60_000_000,) * 2)
for path in sys.argv[1:]:
    try:
        print(len(read(Path(path).read_bytes(), FIND, StageTimer()).eyes), "eyes")
    except Eye2FaceError as error:
        print(error.code)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the memory of a process, as Linux tells it")
def test_a_picture_for_whose_pixels_there_is_no_room_is_not_called_damaged(
    tmp_path: Path, photo: bytes
) -> None:
    large = np.zeros((5000, 5000, 3), np.uint8)
    pictures = {"large.png": encoded(large), "large.webp": encoded(large, "webp"), "small.jpg": photo,
                "damaged.png": encoded(astronaut())[:5000]}  # fmt: skip
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, *(str(tmp_path / name) for name in pictures)],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    told = ["out_of_memory", "out_of_memory", "2 eyes", "image_corrupt"]
    assert done.stdout.splitlines() == told, done.stderr
