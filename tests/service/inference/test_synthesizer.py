import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.errors import InferenceFailed, ModelContractUnknown, ModelNotFound
from service.inference.synthesizer import Synthesizer, guess_noise, read_model_info
from tests import fakes

ROOT = Path(__file__).parents[3]


def test_faces_come_in_the_order_of_the_eyes(tmp_path: Path) -> None:
    synthesizer = Synthesizer.load(fakes.tiny_model(tmp_path / "tiny.onnx"), device="cpu")
    eyes_BHWC = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    faces_BHWC, certainty_B = synthesizer.draw(eyes_BHWC, np.zeros((3, fakes.NOISE_SIZE), np.float32))
    assert faces_BHWC.shape == (3, 128, 128, 3) and faces_BHWC.dtype == np.uint8
    np.testing.assert_array_equal(faces_BHWC[:, ::2, ::2], eyes_BHWC)
    np.testing.assert_array_equal(faces_BHWC, synthesizer(eyes_BHWC))
    np.testing.assert_allclose(certainty_B, eyes_BHWC.mean(axis=(1, 2, 3)) / 255, rtol=1e-4)


def test_noise_makes_other_faces_and_no_other_certainty(tmp_path: Path) -> None:
    synthesizer = Synthesizer.load(fakes.tiny_model(tmp_path / "tiny.onnx"), device="cpu")
    eye_BHWC = np.full((1, 64, 64, 3), 100, np.uint8)
    noise_GD = guess_noise(3, seed=1, size=synthesizer.info.noise_size)
    faces_GHWC, certainty_G = synthesizer.draw(eye_BHWC.repeat(3, axis=0), noise_GD)
    assert len(np.unique(faces_GHWC[:, 0, 0, 0])) == 3 and np.ptp(certainty_G) == 0
    np.testing.assert_array_equal(faces_GHWC[:1], synthesizer(eye_BHWC))


def test_on_a_cpu_a_run_has_four_eyes_at_most(tmp_path: Path) -> None:
    synthesizer, sizes = Synthesizer.load(fakes.tiny_model(tmp_path / "tiny.onnx"), device="cpu"), list[int]()
    synthesizer.observe = sizes.append
    eyes_BHWC = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)
    noise_BD = guess_noise(10, seed=1, size=synthesizer.info.noise_size)
    faces_BHWC, certainty_B = synthesizer.draw(eyes_BHWC, noise_BD)
    assert sizes == [4, 4, 2]
    for number in range(10):
        alone = synthesizer.draw(eyes_BHWC[number : number + 1], noise_BD[number : number + 1])
        np.testing.assert_array_equal(faces_BHWC[number], alone[0][0])
        assert certainty_B[number] == pytest.approx(alone[1][0])
    synthesizer.device = "cuda"
    synthesizer.draw(eyes_BHWC, noise_BD)
    assert sizes[-1] == 10


def test_the_noise_of_a_guess_is_the_same_for_ever() -> None:
    noise_GD = guess_noise(3, seed=2**32 - 1, size=128)
    assert noise_GD.shape == (3, 128) and noise_GD.dtype == np.float32 and not noise_GD[0].any()
    np.testing.assert_array_equal(noise_GD[:2], guess_noise(2, seed=2**32 - 1, size=128))
    expected = [-0.63587147, -1.23438656, 1.77951777]
    np.testing.assert_allclose(guess_noise(2, seed=7, size=3)[1], expected, rtol=1e-6)


def test_the_sizes_are_read_from_the_model(tmp_path: Path) -> None:
    synthesizer = Synthesizer.load(fakes.tiny_model(tmp_path / "tiny.onnx", eye_size=32, face_size=96))
    assert (synthesizer.info.eye_size, synthesizer.info.face_size) == (32, 96)
    assert synthesizer(np.zeros((1, 32, 32, 3), np.uint8)).shape == (1, 96, 96, 3)


def test_the_model_tells_about_itself(tmp_path: Path) -> None:
    path = fakes.tiny_model(
        tmp_path / "tiny.onnx", licence_class="research", metrics='{"l2": 0.04, "ssim": 1}'
    )
    info = Synthesizer.load(path).info
    assert (info.name, info.licence_class, info.contract_version) == ("tiny", "research", 2)
    assert info.metrics == {"l2": 0.04, "ssim": 1.0}
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("overrides", "found", "expected"),
    [
        ({"contract_version": "1"}, "contract version 1", "expects 2"),
        ({"contract_version": "3"}, "contract version 3", "expects 2"),
        ({"contract_version": None}, "contract version none", "expects 2"),
        ({"crop_version": "99"}, "crop version 99", "expects 1"),
        ({"recipe": None}, "metadata that cannot be read", "recipe"),
    ],
)
def test_a_model_of_another_contract_is_refused(
    tmp_path: Path, overrides: dict[str, str | None], found: str, expected: str
) -> None:
    path = fakes.tiny_model(tmp_path / "tiny.onnx", **overrides)  # type: ignore[arg-type]
    with pytest.raises(ModelContractUnknown, match=f"{found}.*{expected}.*Export the model again"):
        Synthesizer.load(path)


def test_a_model_whose_weights_lie_in_another_file_is_refused(tmp_path: Path) -> None:
    path = fakes.spoil(fakes.tiny_model(tmp_path / "tiny.onnx"), "same")
    onnx.save(onnx.load(path), path, save_as_external_data=True, size_threshold=0, location="weights")
    assert (tmp_path / "weights").exists()
    with pytest.raises(ModelContractUnknown, match="weights"):
        Synthesizer.load(path)


def test_a_model_of_another_part_of_the_face_is_refused(tmp_path: Path) -> None:
    path = fakes.tiny_model(tmp_path / "tiny.onnx", part="mouth")
    with pytest.raises(ModelContractUnknown, match=r"part 'mouth'; expected .* 'eye'"):
        Synthesizer.load(path)
    with pytest.raises(ModelContractUnknown, match="'mouth'"):
        read_model_info(path)
    assert Synthesizer.load(path, part="mouth").info.part == "mouth"


@pytest.mark.parametrize(
    ("claims", "found", "expected"),
    [
        ({"licence_class": "Open"}, "metadata that cannot be read", "licence_class"),
        ({"licence_class": "apache-2.0"}, "metadata that cannot be read", "licence_class"),
        ({"eye_size": "many"}, "metadata that cannot be read", "eye_size"),
        ({"metrics": "{"}, "metadata that cannot be read", "truncated"),
        ({"metrics": "3"}, "metadata that cannot be read", "metrics"),
        ({"metrics": '{"l2": null}'}, "metadata that cannot be read", "metrics"),
        (
            {"eye_size": "48"},
            r"inputs eyes tensor\(uint8\) \[64, 64, 3\]",
            r"eyes tensor\(uint8\) \[48, 48, 3\]",
        ),
        ({"face_size": "96"}, r"outputs faces tensor\(uint8\) \[128, 128, 3\]", r"\[96, 96, 3\]"),
        ({"noise_size": "5"}, r"noise tensor\(float\) \[4\]", r"noise tensor\(float\) \[5\]"),
        ({"noise_size": "0"}, "metadata that cannot be read", "noise_size"),
    ],
)
def test_a_model_that_claims_what_it_is_not_is_refused(
    tmp_path: Path, claims: dict[str, str], found: str, expected: str
) -> None:
    path = fakes.claim(fakes.tiny_model(tmp_path / "tiny.onnx"), **claims)
    with pytest.raises(ModelContractUnknown, match=f"{found}.*{expected}"):
        Synthesizer.load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model file .*gone\.onnx"):
        Synthesizer.load(tmp_path / "gone.onnx")


def test_a_run_that_fails_is_told_and_remembered(tmp_path: Path) -> None:
    synthesizer = Synthesizer.load(fakes.failing_model(tmp_path / "failing.onnx"))
    assert synthesizer.last_run.error is None
    white = np.full((1, 64, 64, 3), 255, np.uint8)
    with pytest.raises(InferenceFailed, match="failed on the cpu"):
        synthesizer(white)
    assert synthesizer.last_run.error is not None and "indices" in synthesizer.last_run.error
    synthesizer(white // 2)
    assert synthesizer.last_run.error is None and synthesizer.last_run.ms > 0


def test_failures_in_a_row_are_counted(tmp_path: Path) -> None:
    synthesizer = Synthesizer.load(fakes.failing_model(tmp_path / "failing.onnx"), device="cpu")
    size = synthesizer.info.eye_size
    for number in (1, 2):
        with pytest.raises(InferenceFailed):
            synthesizer(np.full((1, size, size, 3), 255, np.uint8))
        assert synthesizer.last_run.num_failed == number
    synthesizer(np.zeros((1, size, size, 3), np.uint8))
    assert synthesizer.last_run.num_failed == 0
