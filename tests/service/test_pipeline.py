import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from service.decoding.reader import InProcessReader
from service.errors import (
    EyeRefused,
    EyeTooBlurred,
    EyeTooDark,
    EyeTooSmall,
    ImageTooLarge,
    InvalidParameter,
    NoEyeFound,
    NoSuchEye,
    NoSuchPerson,
    NotAnImage,
    ReadingFailed,
)
from service.inference.synthesizer import Floats, Synthesizer
from service.observability.stage_timer import StageTimer
from service.pipeline import (
    DRAW_OVERLAY,
    FIND_EYES,
    SHRINK,
    Face,
    PhotoCrops,
    PhotoEyes,
    PhotoRequest,
    Pipeline,
    quality_thresholds,
)
from service.selection import EyeCrop, QualityThresholds, SelectedCrops, SynthesisOptions
from service.settings import Settings
from service.vision.eyes import Eye, EyeDetections, Quality, crop_eye
from service.vision.images import Image
from tests import fakes

RIGHT, LEFT = fakes.astronaut_eyes()
MAX_PIXELS = 50_000_000
GATES = quality_thresholds(Settings())


@pytest.fixture(scope="module")
def synthesizer(tmp_path_factory: pytest.TempPathFactory) -> Synthesizer:
    return Synthesizer.load(fakes.tiny_model(tmp_path_factory.mktemp("model") / "tiny.onnx"), device="cpu")


def parts(*eyes: Eye, side: float = 512) -> fakes.KnownEyes:
    """A finder that answers these eyes of a square photo of `side`."""
    return fakes.KnownEyes(
        [
            Eye(
                (eye.x + 0.5) / side - 0.5 / side,
                (eye.y + 0.5) / side - 0.5 / side,
                eye.size_px / side,
                eye.roll_deg,
                eye.side,
                eye.score,
                eye.person,
            )
            for eye in eyes
        ]
    )


def find(pipe: Pipeline, data: bytes) -> PhotoEyes:
    return pipe.reader(data, FIND_EYES, StageTimer())


def overlay(pipe: Pipeline, data: bytes) -> Image:
    return pipe.reader(data, DRAW_OVERLAY, StageTimer())


def pipeline(synthesizer: Synthesizer, *eyes: Eye) -> Pipeline:
    return Pipeline(InProcessReader(parts(*eyes), max_pixels=MAX_PIXELS), synthesizer)


def pipeline_of(photo: Image, synthesizer: Synthesizer, *eyes: Eye) -> Pipeline:
    """A pipeline that finds these eyes in a square photo."""
    return Pipeline(InProcessReader(parts(*eyes, side=len(photo)), max_pixels=MAX_PIXELS), synthesizer)


def difference(photo: Image, other: Image) -> float:
    return float(np.abs(photo.astype(float) - other.astype(float)).mean())


def shown(face: Image) -> Image:
    """The eye that the tiny model was given: it answers each pixel twice."""
    return face[::2, ::2]


def enlarged(factor: int) -> Image:
    large = cv2.resize(fakes.astronaut(), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, dtype=np.uint8)


def test_a_right_eye_becomes_a_face(synthesizer: Synthesizer) -> None:
    result = pipeline(synthesizer, RIGHT, LEFT).synthesize(
        fakes.encoded(fakes.astronaut()), SynthesisOptions(eye="right")
    )
    (face,) = result.faces
    assert face.pixels.shape == (128, 128, 3)
    assert face.eye.side == "right"
    assert (face.eye.x, face.eye.y) == pytest.approx((RIGHT.x, RIGHT.y))
    np.testing.assert_array_equal(shown(face.pixels), crop_eye(fakes.astronaut(), face.eye, 64))
    assert set(result.timings_ms) == {"decode", "find", "crop", "infer"}
    assert all(ms >= 0 for ms in result.timings_ms.values())


def test_the_face_of_a_left_eye_is_mirrored_back(synthesizer: Synthesizer) -> None:
    pipe = pipeline(synthesizer, RIGHT, LEFT)
    (face,) = pipe.synthesize(fakes.encoded(fakes.astronaut()), SynthesisOptions(eye="left")).faces
    assert face.eye.side == "left"
    np.testing.assert_array_equal(face.pixels[:, ::-1][::2, ::2], crop_eye(fakes.astronaut(), face.eye, 64))


def test_the_mirrored_photo_gives_the_mirrored_face(synthesizer: Synthesizer) -> None:
    photo = fakes.astronaut()
    mirrored = [
        Eye(511 - eye.x, eye.y, eye.size_px, -eye.roll_deg, "left" if eye.side == "right" else "right")
        for eye in (RIGHT, LEFT)
    ]
    (face,) = pipeline(synthesizer, RIGHT).synthesize(fakes.encoded(photo), SynthesisOptions()).faces
    (other,) = (
        pipeline(synthesizer, mirrored[0]).synthesize(fakes.encoded(photo[:, ::-1]), SynthesisOptions()).faces
    )
    assert difference(face.pixels[:, ::-1], other.pixels) < 4  # the model answers on a grid from one side


def test_the_left_eye_is_taken_where_it_is_clearly_better_seen(synthesizer: Synthesizer) -> None:
    blurred = fakes.astronaut().copy()
    blurred[80:120, 180:225] = cv2.GaussianBlur(blurred[80:120, 180:225], (0, 0), 4)
    face = pipeline(synthesizer, RIGHT, LEFT).synthesize(fakes.encoded(blurred), SynthesisOptions()).faces[0]
    assert face.eye.side == "left"


@pytest.mark.parametrize("score", [0.2, 0.9])
def test_of_eyes_seen_alike_the_right_one_is_taken(synthesizer: Synthesizer, score: float) -> None:
    left = Eye(LEFT.x, LEFT.y, LEFT.size_px, LEFT.roll_deg, "left", score=score)
    photo = fakes.encoded(fakes.astronaut())
    assert (
        pipeline(synthesizer, RIGHT, left).synthesize(photo, SynthesisOptions()).faces[0].eye.side == "right"
    )


def test_of_more_people_than_may_be_drawn_the_largest_are_and_the_rest_is_counted(
    synthesizer: Synthesizer,
) -> None:
    people = [replace(RIGHT, person=number) for number in range(5)]
    photo, pipe = fakes.encoded(fakes.astronaut()), pipeline(synthesizer, *people)
    some = pipe.synthesize(photo, SynthesisOptions(person="all", max_people=3))
    assert ([face.eye.person for face in some.faces], some.num_left_out) == ([0, 1, 2], 2)
    every = pipe.synthesize(photo, SynthesisOptions(person="all", max_people=5))
    assert (len(every.faces), every.num_left_out) == (5, 0)
    assert pipe.synthesize(photo, SynthesisOptions(person=4, max_people=1)).faces[0].eye.person == 4


def test_people_are_chosen_by_number(synthesizer: Synthesizer) -> None:
    photo = fakes.encoded(fakes.astronaut())
    second = Eye(300, 300, 40, 0, "left", person=1)
    pipe = pipeline(synthesizer, RIGHT, LEFT, second)
    assert [face.eye.person for face in pipe.synthesize(photo, SynthesisOptions(person="all")).faces] == [
        0,
        1,
    ]
    assert [face.eye.person for face in pipe.synthesize(photo, SynthesisOptions(person="largest")).faces] == [
        0
    ]
    assert [face.eye.person for face in pipe.synthesize(photo, SynthesisOptions(person=1)).faces] == [1]
    assert [
        face.eye.person for face in pipe.synthesize(photo, SynthesisOptions(person="all", eye="right")).faces
    ] == [0]
    with pytest.raises(NoSuchPerson, match=r"person=2 .* shows 2.*from 0 .* to 1"):
        pipe.synthesize(photo, SynthesisOptions(person=2))
    with pytest.raises(NoSuchPerson):
        pipe.synthesize(photo, SynthesisOptions(person=-1))


def test_an_eye_that_is_hidden_is_not_replaced_by_the_other(synthesizer: Synthesizer) -> None:
    with pytest.raises(NoSuchEye, match=r"left eye .* eye=right or eye=auto"):
        pipeline(synthesizer, RIGHT).synthesize(
            fakes.encoded(fakes.astronaut()), SynthesisOptions(eye="left")
        )


def test_a_photo_without_eyes_gives_no_face_and_no_eyes(synthesizer: Synthesizer) -> None:
    photo = fakes.encoded(fakes.astronaut())
    with pytest.raises(NoEyeFound, match=r"512 x 512 .* \(input: eye\)"):
        pipeline(synthesizer).synthesize(photo, SynthesisOptions())
    assert find(pipeline(synthesizer), photo).eyes == []


@pytest.mark.parametrize(("below_threshold", "told"), [([], 0), ([RIGHT, LEFT], 2), (None, None)])
def test_who_finds_no_eye_says_how_many_were_in_doubt(
    synthesizer: Synthesizer, below_threshold: list[Eye] | None, told: int | None
) -> None:
    finder = fakes.KnownEyes([], below_threshold)
    with pytest.raises(NoEyeFound) as caught:
        Pipeline(InProcessReader(finder, max_pixels=MAX_PIXELS), synthesizer).synthesize(
            fakes.encoded(fakes.astronaut()), SynthesisOptions()
        )
    assert caught.value.members == ({} if told is None else {"num_below_threshold": told})
    assert ("below the finder's threshold" in str(caught.value)) == bool(told)


def close_up(margin: float) -> tuple[Image, Eye]:
    """The astronaut's right eye with so many times its crop's side around it."""
    half = round(RIGHT.size_px * margin / 2)
    x, y = round(RIGHT.x), round(RIGHT.y)
    photo = fakes.astronaut()[y - half : y + half, x - half : x + half]
    return photo, replace(RIGHT, x=RIGHT.x - x + half, y=RIGHT.y - y + half)


@pytest.mark.parametrize(("margin", "input"), [(1.2, "eye"), (2.0, "eye"), (3.0, "photo"), (6.0, "photo")])
def test_auto_tells_a_close_up_from_a_photo_and_takes_the_eye_where_it_was_found(
    synthesizer: Synthesizer, margin: float, input: str
) -> None:
    photo, eye = close_up(margin)
    result = pipeline_of(photo, synthesizer, eye).synthesize(fakes.encoded(photo), SynthesisOptions())
    assert result.input == input
    assert (result.faces[0].eye.x, result.faces[0].eye.size_px) == pytest.approx((eye.x, eye.size_px))


def test_a_close_up_is_a_photo_to_whom_says_so_and_an_eye_is_an_eye(synthesizer: Synthesizer) -> None:
    photo, eye = close_up(1.5)
    pipe = pipeline_of(photo, synthesizer, eye)
    assert pipe.synthesize(fakes.encoded(photo), SynthesisOptions(input="photo")).input == "photo"
    assert pipe.synthesize(fakes.encoded(fakes.astronaut()), SynthesisOptions(input="eye")).input == "eye"


def test_two_people_are_no_close_up_however_large(synthesizer: Synthesizer) -> None:
    photo, eye = close_up(1.5)
    other = replace(eye, person=1, side="left")
    assert (
        pipeline_of(photo, synthesizer, eye, other).synthesize(fakes.encoded(photo), SynthesisOptions()).input
        == "photo"
    )


def test_auto_without_an_eye_invents_none_of_a_close_up(synthesizer: Synthesizer) -> None:
    photo, _ = close_up(1.2)
    with pytest.raises(NoEyeFound):
        pipeline_of(photo, synthesizer).synthesize(fakes.encoded(photo), SynthesisOptions())


def half_smeared() -> Image:
    """The astronaut with a smear over her right eye."""
    photo = fakes.astronaut().copy()
    photo[80:120, 180:225] = cv2.GaussianBlur(photo[80:120, 180:225], (0, 0), 9)
    return photo


def gated(*eyes: Eye, synthesizer: Synthesizer, thresholds: QualityThresholds = GATES) -> Pipeline:
    return Pipeline(InProcessReader(parts(*eyes), max_pixels=MAX_PIXELS), synthesizer, thresholds=thresholds)


def test_a_refused_eye_is_not_drawn_from(synthesizer: Synthesizer) -> None:
    with pytest.raises(EyeTooBlurred, match="MIN_EYE_SHARPNESS"):
        gated(RIGHT, LEFT, synthesizer=synthesizer).synthesize(
            fakes.encoded(half_smeared()), SynthesisOptions(eye="right")
        )


def test_in_the_place_of_a_refused_eye_auto_takes_the_persons_other_and_tells(
    synthesizer: Synthesizer,
) -> None:
    shadowed = fakes.astronaut().copy()
    shadowed[:, :226] = np.rint(shadowed[:, :226] * 0.3)
    pipe = gated(RIGHT, LEFT, synthesizer=synthesizer, thresholds=QualityThresholds(min_light=0.4))
    result = pipe.synthesize(fakes.encoded(shadowed), SynthesisOptions())
    assert [face.eye.side for face in result.faces] == ["left"]
    assert [(each.eye.side, type(each.error)) for each in result.refused] == [("right", EyeTooDark)]


def test_where_both_eyes_are_refused_the_better_one_speaks(synthesizer: Synthesizer) -> None:
    both = gated(replace(RIGHT, size_px=3.0), replace(LEFT, size_px=4.0), synthesizer=synthesizer)
    with pytest.raises(EyeTooSmall, match=r"4\.0 pixels"):
        both.synthesize(fakes.encoded(fakes.astronaut()), SynthesisOptions())


def test_the_refused_do_not_keep_the_others_from_their_faces(synthesizer: Synthesizer) -> None:
    people = [replace(RIGHT, size_px=4.0), replace(LEFT, person=1), replace(RIGHT, size_px=3.0, person=2)]
    result = gated(*people, synthesizer=synthesizer).synthesize(
        fakes.encoded(fakes.astronaut()), SynthesisOptions(person="all")
    )
    assert [face.eye.person for face in result.faces] == [1]
    assert [(each.eye.person, type(each.error)) for each in result.refused] == [
        (0, EyeTooSmall),
        (2, EyeTooSmall),
    ]


def test_where_all_are_refused_the_first_says_why(synthesizer: Synthesizer) -> None:
    people = [replace(RIGHT, size_px=4.0), replace(LEFT, size_px=3.0, person=1)]
    with pytest.raises(EyeTooSmall, match=r"4\.0 pixels"):
        gated(*people, synthesizer=synthesizer).synthesize(
            fakes.encoded(fakes.astronaut()), SynthesisOptions(person="all")
        )


@pytest.mark.parametrize(
    ("spoilt", "error"),
    [
        (lambda photo: np.rint(photo * 0.05), EyeTooDark),
        (lambda photo: cv2.GaussianBlur(photo, (0, 0), 0.2 * len(photo)), EyeTooBlurred),
    ],
)
def test_a_picture_of_an_eye_passes_the_same_gates(
    synthesizer: Synthesizer, spoilt: Callable[[Image], Image], error: type[EyeRefused]
) -> None:
    photo, _ = close_up(1.0)
    options = SynthesisOptions(input="eye")
    assert gated(synthesizer=synthesizer).synthesize(fakes.encoded(photo), options).input == "eye"
    data = fakes.encoded(np.asarray(spoilt(photo), dtype=np.uint8))
    with pytest.raises(error):
        gated(synthesizer=synthesizer).synthesize(data, options)
    assert gated(synthesizer=synthesizer, thresholds=QualityThresholds()).synthesize(data, options).faces


def test_the_quality_of_every_eye_is_told_alike_by_both_questions(synthesizer: Synthesizer) -> None:
    data = fakes.encoded(enlarged(4), "jpeg", quality=95)
    eyes = [replace(eye, x=4 * eye.x, y=4 * eye.y, size_px=4 * eye.size_px) for eye in (RIGHT, LEFT)]
    pipe = Pipeline(InProcessReader(parts(*eyes, side=2048), max_pixels=MAX_PIXELS), synthesizer)
    (right, _), (face,) = find(pipe, data).eyes, pipe.synthesize(data, SynthesisOptions(eye="right")).faces
    assert right.quality.sharpness == pytest.approx(face.quality.sharpness, abs=0.02)
    assert right.quality.size_px == face.quality.size_px == pytest.approx(4 * RIGHT.size_px)


def test_what_was_in_doubt_is_found_in_pixels_of_the_whole_photo(synthesizer: Synthesizer) -> None:
    finder = fakes.KnownEyes([], [Eye(0.5, 0.5, 0.1, 0.0, "left", 0.2)])
    data = fakes.encoded(enlarged(4), "jpeg")
    below_threshold = find(
        Pipeline(InProcessReader(finder, max_pixels=MAX_PIXELS), synthesizer), data
    ).below_threshold
    assert below_threshold is not None
    (eye,) = below_threshold
    assert (eye.x, eye.size_px) == pytest.approx((1024.5, 204.8))


def test_bad_pictures_are_refused_before_anything_is_sought(synthesizer: Synthesizer) -> None:
    with pytest.raises(NotAnImage):
        pipeline(synthesizer, RIGHT).synthesize(b"hello", SynthesisOptions())
    with pytest.raises(ImageTooLarge):
        find(
            Pipeline(InProcessReader(parts(RIGHT), max_pixels=512 * 511), synthesizer),
            fakes.encoded(fakes.astronaut()),
        )


@pytest.mark.parametrize(("eye", "side"), [("auto", "right"), ("right", "right"), ("left", "left")])
def test_a_picture_of_an_eye_is_its_central_square(synthesizer: Synthesizer, eye: str, side: str) -> None:
    photo = fakes.astronaut()[:100, :200]
    options = SynthesisOptions(eye=eye, input="eye")  # type: ignore[arg-type]
    (face,) = pipeline(synthesizer).synthesize(fakes.encoded(photo), options).faces
    assert face.eye == Eye(99.5, 49.5, 100, 0.0, side)  # type: ignore[arg-type]
    np.testing.assert_array_equal(
        shown(face.pixels if side == "right" else face.pixels[:, ::-1]), crop_eye(photo, face.eye, 64)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_gives_the_same_face(synthesizer: Synthesizer, orientation: int) -> None:
    photo = np.ascontiguousarray(enlarged(4)[: 4 * 512 - 3, : 4 * 512 - 5])  # no side is a multiple of 8
    eyes = [
        Eye(4 * eye.x + 1.5, 4 * eye.y + 1.5, 4 * eye.size_px, eye.roll_deg, eye.side)
        for eye in (RIGHT, LEFT)
    ]
    data = fakes.turned(photo, orientation, quality=95)

    class Finder:
        input_side_px = 1000

        def detect(self, photo: Image) -> EyeDetections:
            assert photo.shape == (1023, 1022, 3)  # decoded at a half
            beyond = (1 if orientation in (2, 3, 6, 7) else 0, 1 if orientation in (3, 4, 7, 8) else 0)
            return EyeDetections(
                [
                    Eye(
                        (e.x + 0.5 + beyond[0]) / 2 - 0.5,
                        (e.y + 0.5 + beyond[1]) / 2 - 0.5,
                        e.size_px / 2,
                        e.roll_deg,
                        e.side,
                    )
                    for e in eyes
                ]
            )

    pipe = Pipeline(InProcessReader(Finder(), max_pixels=MAX_PIXELS), synthesizer)
    assert (found := find(pipe, data)).width == 2043 and found.height == 2045
    (face,) = pipe.synthesize(data, SynthesisOptions(eye="right")).faces
    assert math.dist((face.eye.x, face.eye.y), (eyes[0].x, eyes[0].y)) < 1e-6
    assert difference(shown(face.pixels), crop_eye(photo, eyes[0], 64)) < 1.5  # quality 95


def test_the_overlay_is_the_photo_with_its_eyes(synthesizer: Synthesizer) -> None:
    plain = overlay(pipeline(synthesizer), fakes.encoded(fakes.astronaut()))
    np.testing.assert_array_equal(plain, fakes.astronaut())
    marked = overlay(pipeline(synthesizer, RIGHT, LEFT), fakes.encoded(fakes.astronaut()))
    ys, xs = np.nonzero((marked != plain).any(axis=2))
    half = RIGHT.size_px / 2
    around = 15  # the labels reach beyond the squares
    assert xs.min() == pytest.approx(RIGHT.x - half, abs=around)
    assert xs.max() == pytest.approx(LEFT.x + half, abs=around)
    assert ys.max() == pytest.approx(LEFT.y + half, abs=4)


def test_the_overlay_of_a_large_photo_is_1280_px(synthesizer: Synthesizer) -> None:
    data = fakes.encoded(enlarged(5), "jpeg")
    assert overlay(pipeline(synthesizer, RIGHT), data).shape == (1280, 1280, 3)


class CountingReader(InProcessReader):
    """Compares the pixels of its answers with what their tasks allow a decoder process to send."""

    def __call__(self, data: bytes, task: Any, timer: StageTimer) -> Any:
        """The answer."""
        answer = super().__call__(data, task, timer)
        images = [crop.pixels for crop in answer.crops] if isinstance(answer, SelectedCrops) else [answer]
        assert sum(image.nbytes for image in images) == task.max_pixel_bytes
        return answer


def test_tasks_allow_as_many_pixels_as_they_may_answer(synthesizer: Synthesizer) -> None:
    people = [replace(RIGHT, person=number) for number in range(20)]
    pipe = Pipeline(CountingReader(parts(*people), max_pixels=MAX_PIXELS), synthesizer)
    large = fakes.encoded(enlarged(5), "jpeg")
    pipe.synthesize(large, SynthesisOptions())
    pipe.synthesize(large, SynthesisOptions(person="all", max_people=20))
    pipe.reader(large, DRAW_OVERLAY, StageTimer())
    pipe.reader(large, SHRINK, StageTimer())


class LyingReader(InProcessReader):
    """Answers as a compromised decoder process would."""

    answer: Any = None

    def __call__(self, data: bytes, task: Any, timer: StageTimer) -> Any:
        """The answer, whatever is asked."""
        return self.answer


CROP = EyeCrop(np.zeros((64, 64, 3), np.uint8), RIGHT, Quality(30.0, 0.5, 0.5, 0.5, 0.5, 0.0))


@pytest.mark.parametrize("answer", [
    SelectedCrops([], [], "photo", 0), SelectedCrops([CROP, CROP], [], "photo", 0),
    SelectedCrops([replace(CROP, pixels=CROP.pixels[1:])], [], "photo", 0),
])  # fmt: skip
def test_crops_of_another_number_or_size_spoil_no_call_that_others_share(
    synthesizer: Synthesizer, answer: SelectedCrops
) -> None:
    reader = LyingReader(parts(RIGHT), max_pixels=MAX_PIXELS)
    reader.answer = answer
    with pytest.raises(ReadingFailed, match="expected 1 to 1 of 64 px"):
        Pipeline(reader, synthesizer).synthesize(b"", SynthesisOptions())
    reader.answer = SelectedCrops([CROP] * 3, [], "photo", 0)
    assert len(Pipeline(reader, synthesizer).synthesize(b"", SynthesisOptions(person="all")).faces) == 3
    with pytest.raises(ReadingFailed, match="3 crops; expected 1 to 2"):
        Pipeline(reader, synthesizer).synthesize(b"", SynthesisOptions(person="all", max_people=2))


def test_several_photos_are_drawn_in_one_call_and_each_has_its_own_faces(synthesizer: Synthesizer) -> None:
    photo, sizes = fakes.encoded(fakes.astronaut()), list[int]()

    def draw(eyes_BHWC: Image, noise_BD: Floats) -> tuple[Image, Floats]:
        sizes.append(len(eyes_BHWC))
        return synthesizer.draw(eyes_BHWC, noise_BD)

    reader = InProcessReader(parts(RIGHT, replace(LEFT, person=1)), max_pixels=MAX_PIXELS)
    pipe = Pipeline(reader, synthesizer, draw=draw)
    wanted = [
        SynthesisOptions(person="all", guesses=3),
        SynthesisOptions(person=0),
        SynthesisOptions(person=1, guesses=2, seed=5),
    ]
    read = pipe.read([(PhotoRequest(photo, options), StageTimer()) for options in wanted])
    crops = [each for each in read if isinstance(each, PhotoCrops)]
    together = [pipe.finish(each, StageTimer()) for each in pipe.draw(crops)]
    assert sizes == [2 * 3 + 1 + 2]
    for options, synthesis in zip(wanted, together, strict=True):
        for face, alone in zip(synthesis.faces, pipe.synthesize(photo, options).faces, strict=True):
            np.testing.assert_array_equal(face.guesses, alone.guesses)
            assert face.certainty == alone.certainty


def guesses_of(synthesizer: Synthesizer, **options: Any) -> list[Face]:
    pipe = pipeline(synthesizer, RIGHT, replace(LEFT, person=1))
    return pipe.synthesize(fakes.encoded(fakes.astronaut()), SynthesisOptions(**options)).faces


def test_guesses_are_the_default_face_and_others_that_the_seed_decides(synthesizer: Synthesizer) -> None:
    (alone,), (one,), (again,), (other,) = (
        guesses_of(synthesizer, guesses=guesses, seed=seed)
        for guesses, seed in [(1, 0), (4, 1), (3, 1), (3, 2)]
    )
    assert (alone.guesses.shape, one.guesses.shape) == ((1, 128, 128, 3), (4, 128, 128, 3))
    np.testing.assert_array_equal(one.guesses[:3], again.guesses)
    for face in (one, other):
        np.testing.assert_array_equal(face.pixels, alone.pixels)
    assert len({face.guesses[guess].tobytes() for face in (one, other) for guess in (1, 2)}) == 4
    assert alone.spread == 0
    assert one.spread == pytest.approx(np.sqrt(np.mean(np.std(one.guesses.astype(float), axis=0) ** 2)))


def test_every_guess_of_a_left_eye_is_mirrored_back(synthesizer: Synthesizer) -> None:
    (face,) = guesses_of(synthesizer, guesses=3, person=1)
    crop = crop_eye(fakes.astronaut(), face.eye, 64).astype(int)
    for pixels in face.guesses:
        lighter = shown(pixels[:, ::-1]).astype(int) - crop
        assert np.ptp(lighter[(crop > 60) & (crop < 195)]) == 0


def test_people_have_their_own_certainty_and_guesses(synthesizer: Synthesizer) -> None:
    faces = guesses_of(synthesizer, guesses=2, person="all")
    for face, eye in zip(faces, (RIGHT, LEFT), strict=True):
        crop = crop_eye(fakes.astronaut(), eye, 64)
        assert face.certainty == pytest.approx(crop.mean() / 255, rel=0.01)
        (alone,) = guesses_of(synthesizer, guesses=2, person=face.eye.person)
        np.testing.assert_array_equal(face.guesses, alone.guesses)


def test_guesses_of_many_people_are_bounded(synthesizer: Synthesizer) -> None:
    eyes = [replace(RIGHT, person=person) for person in range(5)]
    pipe, photo = pipeline(synthesizer, *eyes), fakes.encoded(fakes.astronaut())
    faces = pipe.synthesize(photo, SynthesisOptions(person="all", guesses=12)).faces
    assert sum(len(face.guesses) for face in faces) == 60
    with pytest.raises(InvalidParameter, match="guesses=13 for each of 5 people are 65 faces; at most 64"):
        pipe.synthesize(photo, SynthesisOptions(person="all", guesses=13))
    assert len(pipe.synthesize(photo, SynthesisOptions(guesses=16)).faces) == 1
