"""Numbers by labeled sex and group."""

from pathlib import Path

import numpy as np
import pytest
import torch

from training.data.store import Pairs
from training.errors import DataError
from training.evaluation.benchmark import Benchmark, make_benchmark
from training.evaluation.groups import LabeledSplit, Labels, fit_judge, label_split, read_labels


@pytest.fixture(scope="module")
def benchmark(small_pairs: Pairs, archives: str) -> Benchmark:
    return make_benchmark(small_pairs, "train", archives)


@pytest.fixture(scope="module")
def labeled(benchmark: Benchmark, small_pairs: Pairs) -> LabeledSplit:
    """Sources for groups, and for sexes; nobody of one person is labeled."""
    source, person = small_pairs.rows["source"], small_pairs.rows["person"]
    unknown = person == person[benchmark.dataset.samples[0, 0]]
    sex = np.where(unknown, "", np.where(source == "drawn-light", "female", "male"))
    return label_split(benchmark, Labels(sex, np.where(unknown, "", source)))


def write_labels(folder: Path, pairs: Pairs, sexes: tuple[str, ...]) -> Path:
    files = pairs.rows["file"]
    lines = [f"{file},{sexes[i % len(sexes)]},group {i % 3}" for i, file in enumerate(files[1:])]
    path = folder / "labels.csv"
    path.write_text("\n".join(["file,sex,group", *lines, "another.jpg,male,other"]))
    return path


def test_labels_are_joined_by_the_name_of_the_file(small_pairs: Pairs, tmp_path: Path) -> None:
    labels = read_labels(write_labels(tmp_path, small_pairs, ("female", "male")), small_pairs)
    assert labels.sex[:3].tolist() == ["", "female", "male"]
    assert labels.group[:4].tolist() == ["", "group 0", "group 1", "group 2"]
    assert len(labels.sex) == len(labels.group) == len(small_pairs.rows)


@pytest.mark.parametrize(("sexes", "missing"), [(("female",), "male"), (("f", "m"), "female or male")])
def test_labels_without_both_sexes_are_refused(
    small_pairs: Pairs, tmp_path: Path, sexes: tuple[str, ...], missing: str
) -> None:
    with pytest.raises(DataError, match=f"labels.csv labels no photo of `train` as {missing}$"):
        read_labels(write_labels(tmp_path, small_pairs, sexes), small_pairs)


def test_the_judge_learns_from_labeled_faces_and_judges_the_others(labeled: LabeledSplit) -> None:
    judged = ~np.isnan(labeled.accuracy)
    assert np.array_equal(judged, labeled.labels.sex != "") and not judged.all()
    # Dark and light skin, which it was trained on: even random weights tell it.
    assert labeled.accuracy[judged].mean() > 0.8
    assert labeled.describe()["judge_accuracy"] == labeled.accuracy[judged].mean()


def test_faces_of_the_other_sex_do_not_agree(labeled: LabeledSplit, benchmark: Benchmark) -> None:
    true = benchmark.spaces[1].true
    assert np.array_equal(labeled.agreement(true), labeled.accuracy, equal_nan=True)
    other = np.where(labeled.labels.sex == "male", "female", np.where(labeled.labels.sex, "male", ""))
    swapped = LabeledSplit(Labels(other, other), labeled.rows, true, labeled.judge)
    assert np.array_equal(swapped.agreement(true), 1 - labeled.accuracy, equal_nan=True)


def test_each_sex_and_group_has_its_own_mean(labeled: LabeledSplit) -> None:
    light = labeled.labels.group == "drawn-light"
    values = np.where(light, 3.0, np.where(labeled.labels.group, 5.0, np.nan))
    found = labeled.by_group({"l2": values})
    assert list(found) == ["female", "male", "drawn-dark", "drawn-light"]
    assert (found["drawn-light"]["l2"], found["male"]["l2"]) == (3.0, 5.0)
    assert found["drawn-light"]["l2_error"] == 0.0
    assert found["drawn-light"]["num_samples"] == light.sum()
    assert found["drawn-light"]["num_persons"] == len(set(labeled.rows["person"][light]))
    assert found["drawn-light"]["judge_accuracy"] == labeled.accuracy[light].mean()


def embeddings(sexes: np.ndarray, seed: int) -> torch.Tensor:
    """Noise in 50 directions, more than there are faces in a fit, and the sex in one of them."""
    noise = torch.randn(len(sexes), 50, generator=torch.Generator().manual_seed(seed))
    noise[:, 3] += torch.from_numpy(np.where(sexes == "male", 4.0, -4.0)).float()
    return noise + 7


def test_faces_are_judged_by_what_tells_the_sexes_apart() -> None:
    learned, others = (np.array(["female", "male"] * num) for num in (20, 100))
    judge = fit_judge(embeddings(learned, 0), learned)
    assert (judge(embeddings(others, 1)) == others).mean() > 0.95
    assert judge.num_faces == 40


def test_the_rarer_sex_is_judged_as_well_as_the_other() -> None:
    learned, others = np.array(["male"] * 60 + ["female"] * 6), np.array(["female"] * 200)
    judge = fit_judge(embeddings(learned, 0), learned)
    assert (judge(embeddings(others, 1)) == others).mean() > 0.9
