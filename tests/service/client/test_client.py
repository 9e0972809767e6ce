"""Both clients against a real service in a process of its own, and against a faulty server."""

import asyncio
import gzip
import io
import json
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import numpy as np
import PIL.Image
import pytest

import service.client.client
from service import errors
from service.client.client import AsyncClient, Client, Photo, encode_photo
from service.client.models import CallTimedOut, PhotoEyes, UnexpectedAnswer, Unreachable, parse_json
from service.client.retries import RetryPolicy
from service.errors import (
    Eye2FaceError,
    EyeTooSmall,
    InvalidParameter,
    NoEyeFound,
    NotAnImage,
    NotReady,
    RateLimited,
    Unauthorized,
)
from tests.fakes import ASTRONAUT_RIGHT_EYE, astronaut, encoded, pixels_of
from tests.running import find_free_port, run_service
from tests.troubled import (
    answer,
    cut,
    drip,
    drip_head,
    drop,
    early_hints,
    hang,
    make_trouble,
    pass_on,
)

KEY = "a key for the tests"
QUICK = RetryPolicy(max_tries=4, deadline_s=100, backoff_s=0.01, max_backoff_s=0.02)
BUSY = json.dumps(
    {"type": "urn:eye2face:not_ready", "title": "t", "status": 503, "detail": "later", "code": "not_ready"}
).encode()
PROBLEM = {"content_type": "application/problem+json"}


class _Waiting:
    """The async client with blocking methods, so that one test covers both clients."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._args, self._options = args, options

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*args: Any, **options: Any) -> Any:
            async with AsyncClient(*self._args, **self._options) as client:
                return await getattr(client, name)(*args, **options)

        return lambda *args, **options: asyncio.run(call(*args, **options))


Connect = Callable[..., Any]


@pytest.fixture(params=[Client, _Waiting], ids=["waiting", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes either client, and closes it at the end."""
    made: list[Any] = []

    def make(*args: Any, **options: Any) -> Any:
        made.append(request.param(*args, **options))
        return made[-1]

    yield make
    for each in made:
        if isinstance(each, Client):
            each.close()


def opened(file: bytes) -> PIL.Image.Image:
    return PIL.Image.open(io.BytesIO(file))


def test_bytes_a_path_and_an_array_give_the_same_face(connect: Connect, address: str, tmp_path: Path) -> None:
    client, file = connect(address), encoded(astronaut())
    (tmp_path / "photo.png").write_bytes(file)
    photos: list[Photo] = [file, tmp_path / "photo.png", str(tmp_path / "photo.png"), astronaut()]
    faces = [client.synthesize(photo, input="eye") for photo in photos]
    assert opened(faces[0]).size == (128, 128)
    assert len(set(map(pixels_of, faces))) == 1


@pytest.mark.parametrize("format", get_args(service.client.client.Format))
def test_the_face_comes_in_the_format_that_is_asked_for(connect: Connect, address: str, format: str) -> None:
    client = connect(address)
    file = client.synthesize(astronaut(), input="eye", format=format)
    assert opened(file).format == format.upper()
    (face,) = client.synthesize_faces(astronaut(), input="eye", format=format).faces
    assert (pixels_of(face.image), face.format) == (pixels_of(file), format)


def test_a_label_is_drawn_into_the_face(connect: Connect, address: str) -> None:
    client = connect(address)
    plain, labeled = (client.synthesize(astronaut(), input="eye", label=label) for label in (False, True))
    assert pixels_of(plain) != pixels_of(labeled)
    (face,) = client.synthesize_faces(astronaut(), input="eye", label=True).faces
    assert pixels_of(face.image) == pixels_of(labeled)


def test_further_guesses_come_with_the_face_and_in_a_grid(connect: Connect, address: str) -> None:
    client = connect(address)
    options: dict[str, Any] = {"input": "eye", "guesses": 3, "seed": 5}
    (face,) = client.synthesize_faces(astronaut(), **options).faces
    assert [(each.guess, each.seed) for each in face.guesses] == [(1, 5), (2, 5)]
    assert 0 < face.certainty < 1 and face.spread is not None and face.spread > 0
    grid = np.asarray(opened(client.synthesize(astronaut(), layout="grid", **options)))
    cells = grid.reshape(2, 128, 2, 128, 3).swapaxes(1, 2).reshape(4, 128, 128, 3)
    files = [face.image, *(each.image for each in face.guesses)]
    assert [each.tobytes() for each in cells[:3]] == [*map(pixels_of, files)]
    (alone,) = client.synthesize_faces(astronaut(), input="eye").faces
    assert (alone.guesses, alone.spread) == ((), None)
    assert pixels_of(alone.image) == pixels_of(client.synthesize(astronaut(), **options))


def test_the_eye_and_person_that_are_asked_for_are_taken(connect: Connect, address: str) -> None:
    client = connect(address)
    for side in ("left", "right"):
        (face,) = client.synthesize_faces(astronaut(), eye=side, person=0).faces
        assert (face.eye.side, face.eye.person) == (side, 0)
    taken = client.synthesize_faces(astronaut(), input="eye")
    assert (taken.input, taken.faces[0].eye.roll_deg) == ("eye", 0)


def test_a_synthesis_holds_what_the_service_says_of_it(connect: Connect, address: str) -> None:
    synthesis = connect(address).synthesize_faces(encoded(astronaut(), "jpeg"))
    (face,) = synthesis.faces
    assert (face.width, face.height) == (128, 128)
    assert face.quality.size_px == face.eye.size_px > 10
    assert (synthesis.refused, synthesis.input, synthesis.device) == ((), "photo", "cpu")
    assert (synthesis.model.name, synthesis.model.licence_class) == ("tiny", "open")
    assert synthesis.not_for_identification is True
    assert len(synthesis.request_id) == 32
    assert synthesis.timings_ms.keys() >= {"decode", "infer"}


def test_eyes_are_found_with_their_quality(connect: Connect, address: str) -> None:
    seen = connect(address).find_eyes(astronaut())
    assert (seen.width, seen.height, seen.below_threshold) == (512, 512, None)
    right = next(eye for eye in seen.eyes if eye.side == "right" and eye.person == 0)
    assert np.hypot(right.x - ASTRONAUT_RIGHT_EYE[0], right.y - ASTRONAUT_RIGHT_EYE[1]) < 15
    assert 0 < right.quality.sharpness <= 1
    assert connect(address).find_eyes(astronaut(), all=True).below_threshold is None  # Haar tells nothing


def test_a_running_service_is_ready(connect: Connect, address: str) -> None:
    ready = connect(address).check_ready()
    assert (ready.status, ready.device, ready.model) == ("ready", "cpu", "tiny")


@pytest.mark.parametrize("end", ["", "/"])
def test_the_service_may_be_below_a_path_of_a_proxy(connect: Connect, address: str, end: str) -> None:
    with make_trouble([], then=pass_on(address, below="/faces")) as proxy:
        client = connect(f"{proxy.address}/faces{end}")
        assert client.check_ready().status == "ready"
        assert client.synthesize(astronaut(), input="eye").startswith(b"\x89PNG")


def test_what_the_service_refuses_is_raised_as_the_error_that_it_was(connect: Connect, address: str) -> None:
    client = connect(address)
    with pytest.raises(NotAnImage, match="begin") as caught:
        client.synthesize(b"no picture at all")
    assert (caught.value.status, caught.value.code) == (415, "not_an_image")
    assert len(caught.value.request_id) == 32
    with pytest.raises(NoEyeFound):
        client.synthesize(np.full((200, 200, 3), 128, np.uint8))
    with pytest.raises(errors.EmptyBody):
        client.find_eyes(b"")
    with pytest.raises(errors.ImageTooLarge):
        client.find_eyes(np.zeros((1001, 1000, 3), np.uint8))
    with pytest.raises(errors.NoSuchPerson):
        client.synthesize_faces(astronaut(), person=7)


@pytest.mark.slow
def test_a_key_opens_a_service_that_wants_one(connect: Connect, model: Path) -> None:
    import hashlib

    digest = hashlib.sha256(KEY.encode()).hexdigest()
    with run_service(model=model, api_keys=digest) as address:
        assert opened(connect(address, key=KEY).synthesize(astronaut(), input="eye")).size == (128, 128)
        with pytest.raises(Unauthorized, match="No key"):
            connect(address).synthesize(astronaut())
        with pytest.raises(Unauthorized, match="not known"):
            connect(address, key="another").synthesize(astronaut())


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_an_array_that_is_no_photo_is_refused_before_it_is_sent(array: Any) -> None:
    with pytest.raises(InvalidParameter, match="uint8, height × width × 3"):
        encode_photo(array)


def test_an_array_is_sent_without_loss() -> None:
    assert np.array_equal(np.asarray(opened(encode_photo(astronaut()))), astronaut())
    turned = astronaut()[::-2, 5:200]  # not in one piece
    assert np.array_equal(np.asarray(opened(encode_photo(turned))), turned)


def test_a_file_that_is_not_there_is_the_systems_error(connect: Connect, address: str) -> None:
    with pytest.raises(FileNotFoundError):
        connect(address).synthesize("nowhere.jpg")


@pytest.mark.parametrize(
    "wrong", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://host:port", "http://xn--0", ""]
)
def test_an_address_that_is_none_is_refused_at_once(wrong: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(InvalidParameter, match="address"):
            kind(wrong)


@pytest.mark.parametrize("wrong", ["", "two\nlines", "ключ", " padded "])
def test_a_key_that_no_header_can_carry_is_refused_at_once(wrong: str) -> None:
    with pytest.raises(InvalidParameter, match="key") as caught:
        Client(key=wrong)
    assert not wrong or wrong not in str(caught.value)


TROUBLES = [
    answer(503, BUSY, **PROBLEM),
    answer(429),
    answer(502, b"<html>Bad Gateway</html>", content_type="text/html"),
    drop,
    cut,
]


@pytest.mark.parametrize("trouble", TROUBLES, ids=["503", "429", "502", "dropped", "cut off"])
def test_what_patience_may_mend_is_tried_again(connect: Connect, address: str, trouble: Any) -> None:
    with make_trouble([trouble, trouble], then=pass_on(address)) as server:
        file = connect(server.address, retry=QUICK).synthesize(astronaut(), input="eye")
        assert opened(file).size == (128, 128)
        assert len(server.seen) == 3
        assert len({each.body for each in server.seen}) == 1


def test_the_last_try_says_why_there_is_no_face(connect: Connect) -> None:
    with make_trouble([answer(503, BUSY, **PROBLEM)] * 9) as server:
        with pytest.raises(NotReady, match="later"):
            connect(server.address, retry=QUICK).synthesize(b"x")
        assert len(server.seen) == QUICK.max_tries
    with make_trouble([drop] * 9) as server:
        with pytest.raises(Unreachable, match="4 tries"):
            connect(server.address, retry=QUICK).synthesize(b"x")
        assert len(server.seen) == QUICK.max_tries


def test_nobody_at_the_address_is_unreachable(connect: Connect) -> None:
    nowhere = f"http://127.0.0.1:{find_free_port()}"
    with pytest.raises(Unreachable, match="Is the service running"):
        connect(nowhere, retry=QUICK).synthesize(b"x")
    with pytest.raises(Unreachable, match="1 tries"):
        connect(nowhere, retry=QUICK).check_ready()


@pytest.mark.parametrize("status", [400, 404, 422, 504])
def test_what_patience_cannot_mend_is_asked_once(connect: Connect, status: int) -> None:
    with make_trouble([answer(status, b"no", content_type="text/plain")] * 2) as server:
        with pytest.raises(UnexpectedAnswer, match=f"{status} .text/plain"):
            connect(server.address, retry=QUICK).synthesize(b"x")
        assert len(server.seen) == 1


def test_a_500_is_asked_again_unless_it_is_the_services_own(connect: Connect, address: str) -> None:
    lost, own = answer(500, b"no", content_type="text/plain"), answer(500, b"{}", **PROBLEM)
    with make_trouble([lost, lost], then=pass_on(address)) as server:
        assert connect(server.address, retry=QUICK).synthesize(astronaut(), input="eye")
        assert len(server.seen) == 3
    with make_trouble([own] * 2) as server:
        with pytest.raises(Eye2FaceError):
            connect(server.address, retry=QUICK).synthesize(b"x")
        assert len(server.seen) == 1


def test_readiness_is_asked_once(connect: Connect) -> None:
    with make_trouble([answer(503, BUSY, **PROBLEM)] * 2) as server:
        with pytest.raises(NotReady):
            connect(server.address, retry=QUICK).check_ready()
        assert len(server.seen) == 1


@pytest.mark.slow
def test_the_wait_that_the_service_asks_for_is_kept(connect: Connect, address: str) -> None:
    with make_trouble([answer(503, retry_after="1")], then=pass_on(address)) as server:
        connect(server.address, retry=QUICK).synthesize(astronaut(), input="eye")
        first, second = (each.at for each in server.seen)
    assert 1.0 <= second - first < 20


def test_a_wait_beyond_the_deadline_ends_the_call_at_once(connect: Connect) -> None:
    with make_trouble([answer(503, BUSY, retry_after="3600", **PROBLEM)] * 2) as server:
        start = time.monotonic()
        with pytest.raises(NotReady):
            connect(server.address, retry=QUICK).synthesize(b"x")
        assert time.monotonic() - start < 20
        assert len(server.seen) == 1


@pytest.mark.slow
def test_the_deadline_holds_however_the_service_dawdles(connect: Connect) -> None:
    short = RetryPolicy(deadline_s=0.4)
    for trouble in (drip, drip_head, early_hints, hang(20)):
        with make_trouble([trouble] * 3) as server:
            start = time.monotonic()
            with pytest.raises(CallTimedOut, match=r"0\.4 s in all"):
                connect(server.address, retry=short).synthesize(b"x")
            assert time.monotonic() - start < 3
            assert len(server.seen) == 1  # who is slow is not asked twice


def test_silence_ends_a_request_before_the_deadline(connect: Connect) -> None:
    with make_trouble([hang(20)]) as server:
        start = time.monotonic()
        with pytest.raises(CallTimedOut, match=r"0\.2 s without a byte"):
            connect(server.address, timeout_s=0.2).synthesize(b"x")
        assert time.monotonic() - start < 15


@pytest.mark.slow
def test_each_try_says_how_long_its_answer_is_waited_for(connect: Connect, address: str) -> None:
    with make_trouble([answer(503, retry_after="1")], then=pass_on(address)) as server:
        connect(server.address, retry=QUICK).synthesize(astronaut(), input="eye")
        first, second = (int(each.headers["x-deadline-ms"]) for each in server.seen)
    assert 90_000 < first <= 100_000
    assert second <= first - 1_000


@pytest.mark.parametrize("deadline_s", [float("inf"), 1e300])
def test_who_waits_for_ever_is_answered(connect: Connect, address: str, deadline_s: float) -> None:
    with make_trouble([answer(503)], then=pass_on(address)) as server:
        patient = connect(server.address, retry=RetryPolicy(deadline_s=deadline_s, backoff_s=0.01))
        assert patient.synthesize(astronaut(), input="eye")


def test_an_answer_is_read_by_what_was_made_once() -> None:
    quality = {"size_px": 50, "sharpness": 1, "brightness": 1, "contrast": 1, "light": 1, "tilt_deg": 0}
    eye = {"x": 1, "y": 2, "size_px": 50, "roll_deg": 0, "side": "left", "score": 1, "person": 0}
    document = {"width": 9, "height": 9, "request_id": "r", "eyes": [eye | {"quality": quality}] * 2}
    response = httpx.Response(200, json=document)
    assert parse_json(response, PhotoEyes).eyes[1].quality.size_px == 50
    took_s = timeit.repeat(lambda: parse_json(response, PhotoEyes), number=1, repeat=50)
    assert min(took_s) < 0.001  # 5.5 ms where validators are made for each answer


def _problem(**values: Any) -> bytes:
    return json.dumps(json.loads(BUSY) | values).encode()


def test_a_code_that_is_not_known_is_a_general_error_with_its_words(connect: Connect) -> None:
    problem = _problem(status=418, code="of_tomorrow", detail="not yet", request_id="r", num_things=3)
    trouble = answer(418, problem, **PROBLEM)
    with make_trouble([trouble]) as server, pytest.raises(Eye2FaceError, match="not yet") as caught:
        connect(server.address).synthesize(b"x")
    error = caught.value
    assert type(error) is Eye2FaceError
    assert (error.status, error.code, error.title, error.request_id) == (418, "of_tomorrow", "t", "r")
    assert error.members == {"num_things": 3}
    assert Eye2FaceError.code == "internal_error"  # the class itself is as it was


def test_every_error_of_the_tree_comes_home_as_itself(connect: Connect) -> None:
    kinds = [kind for kind in _leaves(Eye2FaceError) if kind.__module__ == errors.__name__]
    assert EyeTooSmall in kinds
    bodies = [_problem(status=kind.status, code=kind.code) for kind in kinds]
    troubles = [answer(400, body, **PROBLEM) for body in bodies]
    with make_trouble(troubles) as server:
        client = connect(server.address)
        for kind in kinds:
            with pytest.raises(kind) as caught:
                client.synthesize(b"x")
            assert type(caught.value) is kind
            assert str(caught.value) == "later"


def _leaves(kind: type[Eye2FaceError]) -> list[type[Eye2FaceError]]:
    below = [leaf for each in kind.__subclasses__() for leaf in _leaves(each)]
    return below or [kind]


ODD_LOCATIONS = [
    *("http://xn--0/", "http://[::1", "http://a:b/", "http://a..b/", "mailto:x", "javascript:x", ""),
    "?" + "x" * 65_530,
]
NO_FACES = json.dumps({
    "faces": [], "refused": [], "input": "photo", "device": "cpu", "timings_ms": {}, "request_id": "a",
    "model": dict.fromkeys(("name", "version", "licence_class", "sha256"), "a"),
    "not_for_identification": True,
}).encode()  # fmt: skip


@pytest.mark.parametrize(
    "trouble",
    [
        answer(200, b"<html>", content_type="text/html"),
        answer(200, b"{}", content_type="application/json"),
        answer(200, b'{"faces": 3}', content_type="application/json"),
        answer(200, b"[" * 100_000, content_type="application/json"),
        answer(307, location="http://127.0.0.1:1/"),
        answer(200, NO_FACES, content_type="application/json"),
        *[answer(307, location=where) for where in ODD_LOCATIONS],
        answer(500, b"{}", **PROBLEM),
        answer(500, b"\xff\xfe", **PROBLEM),
        answer(500, b"[]", **PROBLEM),
        answer(500, b'{"a":' * 100_000, **PROBLEM),
        answer(500, _problem(status="five hundred"), **PROBLEM),
        answer(500, _problem(code="a\nforged line of a log"), **PROBLEM),
    ],
)
def test_what_is_no_answer_of_this_service_is_said_to_be_none(connect: Connect, trouble: Any) -> None:
    with make_trouble([trouble] * 2) as server:
        client = connect(server.address)
        with pytest.raises(UnexpectedAnswer):
            client.synthesize_faces(b"x")
        with pytest.raises(UnexpectedAnswer):
            client.synthesize(b"x")
        assert len(server.seen) == 2


def test_a_redirect_is_named_and_not_followed(connect: Connect, address: str) -> None:
    with make_trouble([answer(307, location=f"{address}/synthesize")] * 2) as server:
        with pytest.raises(UnexpectedAnswer, match=f"307 .*, to {address}/synthesize"):
            connect(server.address).synthesize(b"x")
        assert len(server.seen) == 1


def test_an_answer_that_does_not_end_fills_no_memory(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service.client.client, "MAX_RESPONSE_BYTES", 100_000)
    with make_trouble([answer(200, bytes(100_001), content_type="image/png")] * 2) as server:
        with pytest.raises(UnexpectedAnswer, match="longer than 100,000 bytes"):
            connect(server.address, retry=QUICK).synthesize(b"x")
        assert len(server.seen) == 1


@pytest.mark.slow
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "gzip, identity"])
def test_a_compressed_answer_is_refused_without_decompressing_it(connect: Connect, coding: str) -> None:
    bomb = gzip.compress(bytes(50_000_000), 1)
    trouble = answer(200, bomb, content_type="image/png", content_encoding=coding)
    with make_trouble([trouble] * 2) as server:
        with pytest.raises(UnexpectedAnswer, match=f"encoded as {coding}, which was not asked for"):
            connect(server.address, retry=QUICK).synthesize(b"x")
        assert server.seen[0].headers["accept-encoding"] == "identity"
        assert len(server.seen) == 1


def test_an_error_says_when_to_try_again(connect: Connect) -> None:
    once = RetryPolicy(max_tries=1)
    limited = _problem(status=429, code="rate_limited")
    with make_trouble(
        [answer(429, limited, retry_after="7", **PROBLEM), answer(503, BUSY, **PROBLEM)]
    ) as server:
        with pytest.raises(RateLimited) as caught:
            connect(server.address, retry=once).synthesize(b"x")
        assert caught.value.retry_after_s == 7
        with pytest.raises(NotReady) as other:
            connect(server.address, retry=once).synthesize(b"x")
        assert other.value.retry_after_s == 0


def test_what_a_newer_service_adds_is_passed_over(connect: Connect) -> None:
    newer = b'{"status": "ready", "device": "cpu", "model": "m", "queue": {"depth": 3}}'
    with make_trouble([answer(200, newer, content_type="application/json")]) as server:
        assert connect(server.address).check_ready().model == "m"


def test_threads_share_one_client(address: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Client(address) as client, ThreadPoolExecutor(4) as threads:
        files = list(threads.map(lambda _: client.synthesize(astronaut(), input="eye"), range(8)))
    assert len(set(map(pixels_of, files))) == 1


def test_a_closed_client_says_so_and_may_be_closed_again(address: str) -> None:
    client = Client(address)
    with client:
        assert client.check_ready().status == "ready"
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.check_ready()


def test_a_client_that_is_forgotten_ends_its_thread(address: str) -> None:
    client = Client(address)
    thread = client._loop._thread
    del client
    thread.join(10)
    assert not thread.is_alive()


def test_a_blocking_call_works_inside_of_an_event_loop(address: str) -> None:
    async def call() -> str:
        with Client(address) as client:
            return client.check_ready().status

    assert asyncio.run(call()) == "ready"


def test_the_environments_proxies_are_not_looked_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{find_free_port()}")
    monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{find_free_port()}")
    with Client(address) as client:
        assert client.check_ready().status == "ready"
