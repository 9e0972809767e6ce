"""Pictures without a human eye, through the whole service: no finder crashes or lets them pass silently."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import skimage.data
from onnx import TensorProto, numpy_helper
from starlette.testclient import TestClient

from service.http.app import create_app
from service.inference.eye_finder import LearnedEyeFinder
from service.inference.model_files import model_path
from service.settings import Settings
from service.vision.images import Image
from tests.fakes import encoded
from tests.service.shapes import check_problem
from training.finder.export import FinderMetadata, write_finder

PNG = {"content-type": "image/png"}
JSON = PNG | {"accept": "application/json"}


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finder that has learned nothing, so that its heat map is as good as noise: the shipped one's network
    with weights by chance, and no closer look."""
    network = onnx.load(model_path("eye_finder"))
    random = np.random.default_rng(0)
    for tensor in network.graph.initializer:
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16) and len(tensor.dims) == 4:
            weights = numpy_helper.to_array(tensor)
            spread = np.sqrt(1.5 / np.prod(weights.shape[1:]))  # what passes neither fades nor overflows
            by_chance = random.normal(0, spread, weights.shape).astype(weights.dtype)
            tensor.CopyFrom(numpy_helper.from_array(by_chance, tensor.name))
    path = tmp_path_factory.mktemp("finder") / "eye_finder.onnx"
    facts = FinderMetadata("0", "nothing", "open", "none", threshold=0.5, score_weights=(1.0, *[0.0] * 7))
    write_finder(network, path, facts, {})
    return path


@pytest.fixture(scope="module", params=["haar", "untrained", "shipped"])
def finding(request: pytest.FixtureRequest, model: Path, untrained: Path) -> Iterator[TestClient]:
    """The service with one of the finders."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "untrained":
            patch.setattr("service.inference.eye_finder.model_path", lambda name: untrained)
        finder = "haar" if request.param == "haar" else "learned"
        settings = Settings(model=str(model), device="cpu", eye_finder=finder)
        with TestClient(create_app(settings), raise_server_exceptions=False) as client:
            yield client


def cartoon() -> Image:
    """A smiling face as a child draws it."""
    photo: Image = np.full((300, 300, 3), 255, np.uint8)
    cv2.circle(photo, (150, 150), 110, (250, 210, 60), -1, cv2.LINE_AA)
    for x in (110, 190):
        cv2.circle(photo, (x, 120), 14, (20, 20, 20), -1, cv2.LINE_AA)
    cv2.ellipse(photo, (150, 170), (60, 45), 0, 10, 170, (20, 20, 20), 6, cv2.LINE_AA)
    return photo


def cat() -> Image:
    photo: Image = skimage.data.chelsea()  # type: ignore[no-untyped-call]
    return photo


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


PICTURES: dict[str, Callable[[], Image]] = {
    "the least that is taken": lambda: noise(16, 16),
    "a strip": lambda: noise(16, 5000),
    "a strip on end": lambda: noise(5000, 16),
    "noise": lambda: noise(240, 320),
    "one color": lambda: np.full((240, 320, 3), 128, np.uint8),
    "a cartoon": cartoon,
    "a cat": cat,
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_without_a_human_eye_is_refused_or_passes_threshold_and_gates(
    finding: TestClient, name: str
) -> None:
    body = encoded(PICTURES[name]())
    seen = finding.post("/eyes?all=true", content=body, headers=PNG)
    assert seen.status_code == 200, seen.text
    answer = finding.post("/synthesize", content=body, headers=JSON)
    if not seen.json()["eyes"]:
        below = seen.json().get("below_threshold")
        members = [] if below is None else ["num_below_threshold"]
        problem = check_problem(answer, 422, "no_eye_found", *members)
        assert problem.get("num_below_threshold") == (None if below is None else len(below))
        return
    if answer.status_code == 422:
        assert answer.json()["code"] in ("eye_too_small", "eye_too_dark", "eye_too_blurred")
        return
    gates = Settings()
    for face in answer.json()["faces"]:
        quality = face["quality"]
        assert quality["size_px"] >= gates.min_eye_px
        assert quality["light"] >= gates.min_eye_light
        assert quality["sharpness"] >= gates.min_eye_sharpness
        assert face["eye"] in [
            {k: v for k, v in eye.items() if k != "quality"} for eye in seen.json()["eyes"]
        ]


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 5000, 3)])
def test_what_is_too_small_for_any_eye_is_not_even_looked_at(
    finding: TestClient, shape: tuple[int, int, int]
) -> None:
    for path in ("/synthesize", "/synthesize?input=eye", "/eyes", "/eyes?overlay=true"):
        answer = finding.post(path, content=encoded(np.zeros(shape, np.uint8)), headers=PNG)
        check_problem(answer, 422, "image_too_small")


@pytest.mark.parametrize("name", ["the least that is taken", "a strip", "a strip on end", "a cat"])
def test_the_overlay_of_any_picture_is_drawn(finding: TestClient, name: str) -> None:
    answer = finding.post("/eyes?overlay=true", content=encoded(PICTURES[name]()), headers=PNG)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/png"


def test_one_that_has_learned_nothing_sees_eyes_where_there_are_none(untrained: Path) -> None:
    assert LearnedEyeFinder.load(untrained).detect(PICTURES["noise"]()).eyes


@pytest.mark.parametrize("name", ["the least that is taken", "a strip", "noise", "one color"])
def test_the_shipped_finder_sees_no_eye_in_noise(name: str) -> None:
    assert LearnedEyeFinder.load(model_path("eye_finder")).detect(PICTURES[name]()).eyes == []
