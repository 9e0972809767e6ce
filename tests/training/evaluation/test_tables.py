"""The table that README shows, and where it goes."""

import json
from pathlib import Path

import pytest

from training.errors import ResultsError
from training.evaluation.tables import metrics_of, render_groups, render_scores

ROW = {
    "l2": 0.04,
    "feature_loss": 0.5,
    "std_features": 0.1,
    "std_map_features": 0.2,
    "sigma_ratio": 0.9,
    "ssim": 0.4,
    "frequency_error": 0.8,
}


@pytest.fixture
def scores_file(tmp_path: Path) -> Path:
    half = {name: value / 2 for name, value in ROW.items()}
    scores = {
        name: {**row, "num_samples": 7} for name, row in (("std", half), ("l1", ROW), ("mean face", ROW))
    }
    path = tmp_path / "scores.json"
    path.write_text(json.dumps({"split": "val", "layers": "genuine relu1_1 / 30", "scores": scores}))
    return path


def test_the_table_has_every_system(scores_file: Path) -> None:
    lines = render_scores(scores_file).splitlines()
    assert lines[0].startswith("| 7 eyes of the split `val` | L2 | feature loss |")
    assert "| l1 | 0.0400 | 0.5000 | 0.1000 | 0.2000 | 0.9000 | 0.4000 | 0.8000 |" in lines
    assert "genuine relu1_1 / 30" in lines[-1]


def test_what_was_not_measured_has_a_dash(scores_file: Path) -> None:
    written = json.loads(scores_file.read_text())
    del written["scores"]["l1"]["frequency_error"]
    scores_file.write_text(json.dumps(written))
    lines = render_scores(scores_file).splitlines()
    assert "| l1 | 0.0400 | 0.5000 | 0.1000 | 0.2000 | 0.9000 | 0.4000 | – |" in lines


def test_numbers_of_sets_have_a_table_of_their_own_and_say_who_judged(scores_file: Path) -> None:
    written = json.loads(scores_file.read_text())
    numbers = {"kid_relu3_4": 0.25, "kid_relu3_4_error": 0.01, "sharpness_ratio": 0.8, "rank_vgg": 0.05}
    written["scores"]["std"] |= {**numbers, "rank_vgg_error": 0.01}
    written["embeddings"] = {"vgg": "distilled relu4_1", "relu3_4": "genuine relu3_4"}
    written["judge"] = {"num_faces": 3000, "judge_accuracy": 0.91, "judge_accuracy_error": 0.02}
    scores_file.write_text(json.dumps(written))
    _, second, notes = render_scores(scores_file).split("\n\n")
    assert "| std | 0.250 ± 0.010 | – | – | 5.0 ± 1.0 | 0.80 | – | – | – |" in second.splitlines()
    assert "| l1 | – | – | – | – | – | – | – | – |" in second.splitlines()
    assert "VGG: distilled relu4_1. relu3_4: genuine relu3_4;" in notes
    assert "3,000 true faces of other people; it judges 91.0 ± 2.0 % of the true faces" in notes


def test_groups_have_a_table_a_system_but_none_of_baselines(scores_file: Path) -> None:
    assert render_groups(scores_file) == ""
    numbers = {
        "num_persons": 40,
        "l2": 0.05,
        "l2_error": 0.01,
        "cheek_lighter": -1.5,
        "cheek_lighter_error": 1,
    }
    written = json.loads(scores_file.read_text())
    written["groups"] = {"std": {"female": numbers}, "mean face": {"female": numbers}}
    scores_file.write_text(json.dumps(written))
    table, note = render_groups(scores_file).split("\n\n")
    head, _, row = table.splitlines()
    assert head.startswith("| std | people | L2 | rank")
    assert row == "| female | 40 | 0.0500 ± 0.0100 | – | – | – | -1.5 ± 1.0 | – | – |"
    assert note.startswith("Sex and group are crowd workers' impressions")


def test_the_numbers_of_one_system_are_read_by_its_name(scores_file: Path) -> None:
    assert metrics_of(scores_file, "l1") == {**ROW, "num_samples": 7}
    with pytest.raises(ResultsError, match="no system 'gan'; there are std, l1, mean face"):
        metrics_of(scores_file, "gan")


SCORES = '{"split": "val", "layers": "", "scores": %s}'


@pytest.mark.parametrize(
    "content",
    [
        *(None, "not json", "[]", '{"scores": {}}', "[" * 100_000),
        *(
            SCORES % each
            for each in ("{}", "[]", '{"l1": 1}', '{"l1": {"num_samples": "7"}}', '{"l1": {"l2": 1}}')
        ),
    ],
)
def test_a_file_that_evaluate_did_not_write_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "scores.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ResultsError, match=r"scores\.json is not what 'evaluate' writes"):
        render_scores(path)
