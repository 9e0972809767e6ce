"""The experiment's numbers, on faces whose numbers are known."""

import numpy as np
import pytest
import torch

from training.evaluation import metrics


@pytest.fixture
def faces() -> torch.Tensor:
    return torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def embedded() -> torch.Tensor:
    return torch.randn(60, 6, generator=torch.Generator().manual_seed(1))


PERSONS = np.array([f"p{i // 2}" for i in range(60)])


def test_the_deviation_ratio_of_half_the_deviation_is_a_half() -> None:
    true = np.random.default_rng(0).integers(0, 200, (30, 4, 4, 3)).astype(np.uint8)
    assert metrics.std_ratio(true // 2, true) == pytest.approx(0.5, abs=0.01)


def test_the_perceptual_distance_sees_direction_and_not_length(faces: torch.Tensor) -> None:
    assert metrics.perceptual_distances([faces], [3 * faces]).max() == pytest.approx(0.0, abs=1e-6)
    apart = torch.zeros(2, 2, 1, 1), torch.zeros(2, 2, 1, 1)
    apart[0][:, 0], apart[1][:, 1] = 1.0, 5.0
    assert metrics.perceptual_distances([apart[0]], [apart[1]]).tolist() == pytest.approx([2.0, 2.0])


def test_the_kernel_distance_of_two_halves_of_one_set_is_nought_within_its_error() -> None:
    both = torch.randn(400, 6, generator=torch.Generator().manual_seed(2))
    found = metrics.kid(both[:200], both[200:])
    assert abs(found.value) < 3 * found.error


def test_the_kernel_distance_grows_with_the_distance(embedded: torch.Tensor) -> None:
    near, far = (metrics.kid(embedded + shift, embedded).value for shift in (0.3, 1.0))
    assert 0 < near < far


def test_the_kernel_distance_is_the_one_of_its_formula(embedded: torch.Tensor) -> None:
    # The unbiased estimate, written out; over subsets its mean stays what it is, near enough.
    pred, true = embedded[:30].double(), embedded[30:].double() + 1
    products = [(a @ b.T / 6 + 1) ** 3 for a, b in ((pred, pred), (true, true), (true, pred))]
    within = sum((each.sum() - each.trace()) / (30 * 29) for each in products[:2])
    wanted = within - 2 * products[2].mean()
    found = metrics.kid(pred, true)
    assert found.value == pytest.approx(float(wanted), abs=3 * found.error / 10)


def test_faces_that_are_all_alike_have_no_diversity(faces: torch.Tensor) -> None:
    assert metrics.diversity_ratio(faces[:1].expand(40, 3, 8, 8), faces) == pytest.approx(0.0, abs=1e-3)
    assert metrics.diversity_ratio(faces / 2, faces) == pytest.approx(0.5, rel=1e-4)


def test_a_blurred_face_is_less_sharp_and_itself_as_sharp(faces: torch.Tensor) -> None:
    blurred = torch.nn.functional.avg_pool2d(faces, 3, stride=1, padding=1)
    assert metrics.sharpness_ratio(blurred, faces) < 0.3
    assert metrics.sharpness_ratio(faces, faces) == 1.0


def test_the_true_face_ranks_first_for_itself_and_in_the_middle_for_chance(embedded: torch.Tensor) -> None:
    assert metrics.ranks_of_true_face(embedded, embedded, PERSONS).max() == 0.0
    noise = torch.randn(60, 6, generator=torch.Generator().manual_seed(5))
    assert metrics.ranks_of_true_face(noise, embedded, PERSONS).mean() == pytest.approx(0.5, abs=0.1)
    alike = torch.zeros(60, 6)
    assert metrics.ranks_of_true_face(alike, alike, PERSONS).mean() == pytest.approx(0.5)


def test_other_photos_of_the_same_person_do_not_count() -> None:
    true = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
    pred = torch.tensor([[0.1], [0.1], [5.0], [5.1]])
    persons = np.array(["a", "a", "b", "b"])
    assert metrics.ranks_of_true_face(pred, true, persons).tolist() == [0, 0, 0, 0]
    strangers = np.array(["a", "c", "b", "d"])
    assert metrics.ranks_of_true_face(pred, true, strangers)[0] == pytest.approx(1 / 3)


def test_the_interval_counts_persons_and_not_photos() -> None:
    rng = np.random.default_rng(0)
    per_person = rng.random(30)
    few = metrics.mean_over_persons(per_person, np.array([f"p{i}" for i in range(30)]))
    many = metrics.mean_over_persons(np.repeat(per_person, 9), np.repeat([f"p{i}" for i in range(30)], 9))
    assert many.value == pytest.approx(few.value) and many.error == pytest.approx(few.error)
    # 1.96 standard errors of 30 persons.
    assert few.error == pytest.approx(1.96 * per_person.std() / 30**0.5, rel=0.1)


def test_recited_training_faces_are_found_out(embedded: torch.Tensor) -> None:
    train = torch.randn(50, 6, generator=torch.Generator().manual_seed(3))
    assert metrics.memorisation_ratio(train[:20], embedded[:20], train) < 0.01
    assert metrics.memorisation_ratio(embedded, embedded, train) == 1.0


def test_cheeks_are_compared_by_the_color_that_people_see() -> None:
    true = np.full((2, 64, 64, 3), 118, np.uint8)
    lighter = np.full((2, 64, 64, 3), 143, np.uint8)  # L* is 49.6 and 59.4, by the formula of sRGB
    difference, by = metrics.cheek_color_differences(lighter, true)
    assert difference == pytest.approx([9.77, 9.77], abs=0.05) and by == pytest.approx(difference)
    difference, by = metrics.cheek_color_differences(true, lighter)
    assert difference == pytest.approx([9.77, 9.77], abs=0.05) and by == pytest.approx(-difference)


def test_a_red_face_is_off_in_color_and_not_only_in_lightness() -> None:
    true = np.full((1, 64, 64, 3), 118, np.uint8)
    red = true.copy()
    red[..., 0] = 160
    difference, by = metrics.cheek_color_differences(red, true)
    assert difference[0] > 2 * abs(by[0])


def test_only_the_cheeks_count_and_both_alike() -> None:
    true = np.full((1, 100, 100, 3), 118, np.uint8)
    drawn = np.full((1, 100, 100, 3), 250, np.uint8)
    for x in (27, 73):
        drawn[:, 55:65, x - 5 : x + 5] = 118
    assert metrics.cheek_color_differences(drawn, true)[0] == 0.0
    drawn[:, 55:65, 68:78] = 143
    assert metrics.cheek_color_differences(drawn, true)[0] == pytest.approx(4.88, abs=0.05)
