"""Damaged pictures of every format: each answer is a documented one, none a crash, none late.

300 pictures here; `FUZZ_IMAGES=20000 pytest tests/service/test_fuzz.py` takes more, always the same ones.
"""

import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
import pytest
from starlette.testclient import TestClient

from tests.fakes import astronaut, encoded, turned
from tests.service.shapes import check_problem

NUM: Final = int(os.environ.get("FUZZ_IMAGES", "300"))
LIMIT_S: Final = 10.0
"""The service's own deadline; a picture of these sizes takes milliseconds."""

FACE: Final = PIL.Image.fromarray(astronaut()[40:180, 150:290])


def _files() -> dict[str, bytes]:
    """One file of every kind that the service reads, and of some that it refuses."""
    palette, grey = FACE.convert("P"), FACE.convert("L")
    return {
        "jpeg": encoded(FACE, "jpeg", quality=90),
        "jpeg-progressive": encoded(FACE, "jpeg", progressive=True),
        "jpeg-grey": encoded(grey, "jpeg"),
        "jpeg-cmyk": encoded(FACE.convert("CMYK"), "jpeg"),
        "jpeg-turned": turned(np.asarray(FACE), 6),
        "png": encoded(FACE),
        "png-palette": encoded(palette),
        "png-alpha": encoded(FACE.convert("RGBA")),
        "png-16": encoded(PIL.Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)),
        "webp": encoded(FACE, "webp", quality=80),
        "webp-lossless": encoded(FACE.convert("RGBA"), "webp", lossless=True),
        "webp-animated": _animated("webp"),
        "bmp": encoded(FACE, "bmp"),
        "bmp-palette": encoded(palette, "bmp"),
        "gif": encoded(palette, "gif"),
        "tiff": encoded(FACE, "tiff"),
    }


def _animated(format: str) -> bytes:
    buffer = io.BytesIO()
    FACE.save(buffer, format, save_all=True, append_images=[FACE.rotate(5)])
    return buffer.getvalue()


FILES: Final = _files()
Random = np.random.Generator


def flip_bytes(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for place in random.integers(0, len(data), int(random.integers(1, 20))):
        changed[place] = int(random.integers(0, 256))
    return bytes(changed)


def change_the_head(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for place in random.integers(0, min(64, len(data)), int(random.integers(1, 4))):
        changed[place] = int(random.choice([0, 1, 0x7F, 0x80, 0xFF]))
    return bytes(changed)


def cut_off(random: Random, data: bytes) -> bytes:
    return data[: int(random.integers(1, len(data)))]


def splice(random: Random, data: bytes) -> bytes:
    """Its beginning, and the end of another file."""
    other = FILES[str(random.choice(list(FILES)))]
    return data[: int(random.integers(1, len(data)))] + other[int(random.integers(0, len(other))) :]


def repeat_a_part(random: Random, data: bytes) -> bytes:
    begin, end = sorted(int(each) for each in random.integers(0, len(data), 2))
    return data[:end] + data[begin:end] + data[end:]


def leave_a_part_out(random: Random, data: bytes) -> bytes:
    begin, end = sorted(int(each) for each in random.integers(0, len(data), 2))
    return data[:begin] + data[end:] or data[:1]


MUTATIONS: Final[tuple[Callable[[Random, bytes], bytes], ...]] = (
    flip_bytes, change_the_head, cut_off, splice, repeat_a_part, leave_a_part_out,
)  # fmt: skip


@pytest.fixture(scope="module")
def documented(client: TestClient) -> dict[str, set[int]]:
    paths: dict[str, Any] = client.get("/openapi.json").json()["paths"]
    posts = {path: item["post"]["responses"] for path, item in paths.items() if "post" in item}
    return {path: {int(status) for status in responses} for path, responses in posts.items()}


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_what_its_name_says_before_it_is_damaged(client: TestClient, name: str) -> None:
    answer = client.post("/eyes", content=FILES[name], headers={"content-type": "image/any"})
    refused = name in ("gif", "tiff")
    assert answer.status_code == (415 if refused else 200), answer.text


@pytest.mark.parametrize("name", FILES)
def test_damaged_pictures_get_documented_answers_in_time(
    client: TestClient, documented: dict[str, set[int]], tmp_path: Path, name: str
) -> None:
    random = np.random.default_rng(sorted(FILES).index(name))
    for number in range(-(-NUM // len(FILES))):
        mutate = MUTATIONS[number % len(MUTATIONS)]
        data = mutate(random, FILES[name])
        path = ("/synthesize", "/eyes")[int(random.integers(2))]
        query = "?input=eye" if path == "/synthesize" and random.integers(2) else ""
        begin = time.monotonic()
        (tmp_path / "last").write_bytes(data)
        answer = client.post(path + query, content=data, headers={"content-type": "image/any"})
        about = f"{name} {number} {mutate.__name__}, kept in {tmp_path}/last: {answer.text[:200]}"
        assert answer.status_code in documented[path] - {500, 503}, about
        assert time.monotonic() - begin < LIMIT_S, about
        if answer.status_code != 200:
            code = answer.json()["code"]
            members = ["num_below_threshold"] if code == "no_eye_found" else []
            check_problem(answer, answer.status_code, code, *members)
