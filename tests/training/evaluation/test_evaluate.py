"""What `evaluate` reports, on systems that are known."""

import json
from pathlib import Path

import numpy as np
import pytest

from training.data.store import Pairs
from training.errors import ResultsError
from training.evaluation.benchmark import Benchmark, make_benchmark
from training.evaluation.evaluate import Report, evaluate, write_reports
from training.evaluation.groups import LabeledSplit, Labels, label_split
from training.evaluation.systems import mean_face, nearest_eye
from training.evaluation.tables import GROUP_COLUMNS, SET_COLUMNS, render_groups, render_scores


@pytest.fixture(scope="module")
def benchmark(small_pairs: Pairs, archives: str) -> Benchmark:
    return make_benchmark(small_pairs, "train", archives)


@pytest.fixture(scope="module")
def labeled(benchmark: Benchmark, small_pairs: Pairs) -> LabeledSplit:
    source = small_pairs.rows["source"]
    return label_split(benchmark, Labels(np.where(source == "drawn-light", "female", "male"), source))


@pytest.fixture(scope="module")
def reports(benchmark: Benchmark, labeled: LabeledSplit, small_pairs: Pairs) -> dict[str, Report]:
    systems = {"truth": nearest_eye(small_pairs), "mean face": mean_face(small_pairs)}
    return evaluate(systems, benchmark, labeled)


def test_the_truth_is_best_in_every_number(reports: dict[str, Report], labeled: LabeledSplit) -> None:
    truth, mean = reports["truth"].numbers, reports["mean face"].numbers
    assert truth["l2"] == truth["cheek_difference"] == 0.0
    assert truth["rank_relu3_4"] == pytest.approx(0.0, abs=0.01) == truth["rank_vgg"]
    assert truth["sharpness_ratio"] == pytest.approx(1.0)
    assert truth["sex_agreement"] == labeled.describe()["judge_accuracy"]
    for worse in ("l2", "rank_relu3_4", "cheek_difference", "kid_relu3_4", "kid_vgg"):
        assert mean[worse] > truth[worse], worse


def test_every_column_of_the_tables_is_measured(reports: dict[str, Report]) -> None:
    for report in reports.values():
        assert {column.key for column in SET_COLUMNS} <= set(report.numbers)
        assert set(report.groups) == {"female", "male", "drawn-light", "drawn-dark"}
        for numbers in report.groups.values():
            assert {column.key for column in GROUP_COLUMNS} <= set(numbers)


def test_the_mean_face_is_too_light_for_dark_skin(reports: dict[str, Report]) -> None:
    groups = reports["mean face"].groups
    assert groups["drawn-dark"]["cheek_lighter"] > 0 > groups["drawn-light"]["cheek_lighter"]


def test_the_worst_samples_are_of_ten_people(reports: dict[str, Report], benchmark: Benchmark) -> None:
    worst = reports["mean face"].worst
    people = benchmark.rows["person"][worst]
    assert len(set(people)) == len(people) == min(10, len(set(benchmark.rows["person"])))
    faces = benchmark.draw(mean_face(benchmark.dataset.pairs))
    ranks = benchmark.per_sample(faces, benchmark.embed(faces))["rank_relu3_4"]
    assert ranks[worst[0]] == ranks.max() and (np.diff(ranks[worst]) <= 0).all()


def test_without_labels_nobody_is_grouped_or_judged(benchmark: Benchmark, tmp_path: Path) -> None:
    reports = evaluate({"mean face": mean_face(benchmark.dataset.pairs)}, benchmark)
    assert reports["mean face"].groups == {} and "sex_agreement" not in reports["mean face"].numbers
    write_reports(tmp_path / "scores.json", reports, benchmark, None, keep=False)
    assert "| mean face |" in render_scores(tmp_path / "scores.json")
    assert render_groups(tmp_path / "scores.json") == ""


def test_what_is_written_is_what_the_tables_show(
    reports: dict[str, Report], benchmark: Benchmark, labeled: LabeledSplit, tmp_path: Path
) -> None:
    path = tmp_path / "scores.json"
    for name, report in reports.items():
        write_reports(path, {name: report}, benchmark, labeled, keep=True)
    written = json.loads(path.read_text())
    assert list(written["scores"]) == list(written["groups"]) == ["truth", "mean face"]
    judge = written["judge"]
    assert f"judges {100 * judge['judge_accuracy']:.1f} ±" in render_scores(path)
    assert "genuine relu3_4, averaged to 4 x 4" in render_scores(path)
    assert "| drawn-dark |" in render_groups(path)
    before = path.read_bytes()
    with pytest.raises(ResultsError, match="write to another file"):
        write_reports(path, {"truth": reports["truth"]}, benchmark, None, keep=True)
    assert path.read_bytes() == before
    write_reports(path, {"truth": reports["truth"]}, benchmark, None, keep=False)
    assert list(json.loads(path.read_text())["scores"]) == ["truth"]


def test_a_damaged_file_is_named_and_stays(benchmark: Benchmark, tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    path.write_text('{"scores": 1}')
    with pytest.raises(ResultsError, match=r"scores\.json is not what 'evaluate' writes"):
        write_reports(path, {}, benchmark, None, keep=True)
    assert path.read_text() == '{"scores": 1}'
