"""A run's description and statistics."""

import json
from pathlib import Path

import pytest
import torch

from training.errors import RunConflict, RunError, RunNotFound
from training.loop import checkpoint as checkpoints
from training.loop.run_folder import StatsWriter, claim, read_description, read_stats, unfinished

RUN = {"recipe": {"num_steps": 5, "widths": (1, 2)}, "seed": 0}


def test_the_folder_of_another_run_is_refused_and_of_another_length_is_not(tmp_path: Path) -> None:
    claim(tmp_path, RUN, precision="32-true")
    longer = {**RUN, "recipe": {"num_steps": 9, "widths": (1, 2)}}
    claim(tmp_path, longer, precision="bf16-mixed")
    assert read_description(tmp_path)["recipe"]["num_steps"] == 9
    assert read_description(tmp_path)["precision"] == "bf16-mixed"
    for key, other in (("seed", {**RUN, "seed": 1}), ("recipe", {**RUN, "recipe": {"num_steps": 5}})):
        with pytest.raises(RunConflict, match=f"another {key}"):
            claim(tmp_path, other)


def test_a_finished_run_keeps_its_description(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(tmp_path, RUN)
    before = (tmp_path / "run.json").read_bytes()
    checkpoints.save(tmp_path, {"step": 5})
    monkeypatch.setattr("training.loop.run_folder.commit_hash", lambda: "a later one")
    claim(tmp_path, RUN)
    assert (tmp_path / "run.json").read_bytes() == before
    claim(tmp_path, {**RUN, "recipe": {"num_steps": 6, "widths": (1, 2)}})
    assert json.loads((tmp_path / "run.json").read_text())["commit"] == "a later one"


@pytest.mark.parametrize(
    ("step", "remark"), [(None, ""), (0, "; {} is unfinished: step 0 of 4,000"), (4000, "")]
)
def test_an_unfinished_run_is_told(step: int | None, remark: str, tmp_path: Path) -> None:
    claim(tmp_path, {"recipe": {"num_steps": 4000}})
    if step is not None:
        checkpoints.save(tmp_path, {"step": step})
    assert unfinished(tmp_path) == remark.format(tmp_path)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunNotFound, match="holds no run"):
        read_description(tmp_path)


def test_a_line_holds_the_means_since_the_line_before(tmp_path: Path) -> None:
    stats = StatsWriter(tmp_path, 0, every=2)
    for step, value in enumerate([1.0, 3.0, 5.0], 1):
        stats.add(step, {"l1": torch.tensor(value)}, last=step == 3)
    assert [(line["step"], line["l1"]) for line in read_stats(tmp_path)] == [(2, 2.0), (3, 5.0)]


def test_a_run_that_resumes_drops_the_lines_after_its_checkpoint(tmp_path: Path) -> None:
    stats = StatsWriter(tmp_path, 0, every=1)
    for step in (1, 2, 3):
        stats.add(step, {"l1": torch.tensor(0.0)}, last=False)
    StatsWriter(tmp_path, 2, every=1)
    assert [line["step"] for line in read_stats(tmp_path)] == [1, 2]


def test_a_line_that_a_kill_has_cut_off_is_dropped(tmp_path: Path) -> None:
    StatsWriter(tmp_path, 0, every=1).add(1, {"l1": torch.tensor(0.0)}, last=False)
    with (tmp_path / "stats.jsonl").open("a") as file:
        file.write('{"step": 2, "l1"')
    StatsWriter(tmp_path, 1, every=1).add(2, {"l1": torch.tensor(0.0)}, last=False)
    assert [line["step"] for line in read_stats(tmp_path)] == [1, 2]


@pytest.mark.parametrize(
    "line",
    ["no", "[]", "7", '{"l1": 1}', '{"step": "2"}', '{"step": 2, "l1": null}', "[" * 100_000, "\udcff"],
)
def test_a_whole_line_of_other_content_is_named(tmp_path: Path, line: str) -> None:
    text = f'{{"step": 1, "l1": 0.5}}\n{line}\n{{"step": 3, "l1": 0.5}}\n'
    (tmp_path / "stats.jsonl").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match=r"line 2 of .*stats\.jsonl is damaged"):
        StatsWriter(tmp_path, 3, every=1)


@pytest.mark.parametrize("damage", ['{"recipe": ', "null", "[1]", "[" * 100_000])
def test_a_damaged_description_is_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / "run.json").write_text(damage)
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        claim(tmp_path, RUN)
