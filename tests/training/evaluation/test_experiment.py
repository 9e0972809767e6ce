"""The experiment from pairs to tables, with two steps a run."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from training.data.store import Pairs
from training.errors import ResultsError, RunNotFound
from training.evaluation.experiment import BASELINES, PLAN, Entry, Experiment
from training.evaluation.results import read_results
from training.evaluation.simclr import EncoderRecipe
from training.evaluation.tables import group_by_system, render_corruptions, render_results
from training.synthesizer.recipes import RECIPES

pytestmark = pytest.mark.slow

SYSTEMS = ("l1-64", "layer-stdmap-64", "mean face", "nearest training eye", "amplified l1", "l2-64")
SMALL = (
    *(Entry(name) for name in SYSTEMS), Entry("l1-64", 1),
    Entry("cgan-two-eyes-64"),
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _small_batches() -> Iterator[None]:
    """Steps of 16 samples, not 64: they are what takes time here."""
    small = {name: replace(recipe, batch_size=16) for name, recipe in RECIPES.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.evaluation.experiment.RECIPES", small)
        yield


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, small_pairs: Pairs, archives: str) -> Experiment:
    folder = tmp_path_factory.mktemp("experiment")
    encoder = EncoderRecipe(num_steps=2, batch_size=8, widths=(8,))
    results = folder / "results.jsonl"
    return Experiment(small_pairs, folder / "runs", results, archives, "val", 2, encoder)


@pytest.fixture(scope="module")
def finished(begun: Experiment) -> Experiment:
    begun.run(SMALL)
    return begun


def test_every_run_of_the_plan_has_a_recipe_or_is_a_baseline() -> None:
    assert len(set(PLAN)) == len(PLAN)
    assert all(entry.system in RECIPES or entry.system in BASELINES for entry in PLAN)
    for system in ("l1-64", "layer-stdmap-64"):
        assert {entry.seed for entry in PLAN if entry.system == system} == {0, 1, 2}


def test_trained_runs_of_the_plan_have_equal_budgets() -> None:
    recipes = [RECIPES[entry.system] for entry in PLAN if entry.system in RECIPES]
    assert len({(recipe.num_steps, recipe.batch_size, recipe.learning_rate) for recipe in recipes}) == 1


def test_what_a_baseline_is_made_of_comes_before_it() -> None:
    made: set[str] = set()
    for entry in PLAN:
        assert BASELINES.get(entry.system) in {None, *made}
        made.add(entry.system)


def test_every_entry_leaves_a_row_with_all_that_is_needed_to_repeat_it(finished: Experiment) -> None:
    rows = read_results(finished.results)
    assert [Entry(row["system"], row["seed"]) for row in rows] == list(SMALL)
    trained = [row for row in rows if "recipe" in row]
    assert {row["system"] for row in trained} == {
        "l1-64", "layer-stdmap-64", "l2-64", "cgan-two-eyes-64",
    }  # fmt: skip
    for row in trained:
        assert row["recipe"]["num_steps"] == 2 and row["seconds"] > 0 and row["samples_per_second"] > 0
        assert row["commit"] and row["objective"] and row["data"]["rows_sha256"]
        assert row["metrics"]["num_samples"] > 0 and row["measured_with"]["features"]
    assert rows[-1]["discriminator"]["sees_eyes"] is True and rows[0]["discriminator"] is None


def test_a_second_start_makes_nothing_twice(finished: Experiment) -> None:
    before = finished.results.read_bytes()
    replace(finished).run(SMALL)
    assert finished.results.read_bytes() == before


def test_a_lost_row_comes_back_the_same(finished: Experiment, tmp_path: Path) -> None:
    rows = read_results(finished.results)
    shorter = tmp_path / "shorter.jsonl"
    shorter.write_text("".join(json.dumps(row) + "\n" for row in rows if row["system"] != "layer-stdmap-64"))
    replace(finished, results=shorter).run([Entry("layer-stdmap-64")])
    (before,) = group_by_system(rows)["layer-stdmap-64"]
    assert read_results(shorter)[-1]["metrics"] == before["metrics"]


def test_the_table_of_corrupted_eyes_has_a_row_a_system(finished: Experiment) -> None:
    rows = read_results(finished.results)
    lines = render_corruptions(rows).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == ["| l1-64, 2 seeds", "| layer-stdmap-64"]
    (std,) = group_by_system(rows)["layer-stdmap-64"]
    head = [each.strip() for each in lines[0].split("|")]
    for name in ("made dark", "background"):
        value = lines[3].split("|")[head.index(f"L2: {name}")]
        assert float(value) == pytest.approx(std["slices"][name]["l2"], abs=1e-4)


def test_another_length_is_another_run(finished: Experiment) -> None:
    with pytest.raises(ResultsError, match="another recipe"):
        replace(finished, num_steps=3).run(SMALL)


def test_a_baseline_without_its_run_is_refused(begun: Experiment, tmp_path: Path) -> None:
    elsewhere = replace(begun, out=tmp_path / "runs", results=tmp_path / "results.jsonl")
    with pytest.raises(RunNotFound, match="l1-64-seed0 holds no run"):
        elsewhere.run([Entry("amplified l1")])


def test_the_table_has_a_row_a_system_and_its_notes(finished: Experiment) -> None:
    text = render_results(read_results(finished.results))
    lines = text.splitlines()
    assert lines[2].startswith("| l1-64, 2 seeds | ") and " ± " in lines[2].split("|")[2]
    assert [line.split(" | ")[0] for line in lines[3:7]] == [
        "| layer-stdmap-64", "| mean face", "| nearest training eye", "| amplified l1",
    ]  # fmt: skip
    assert "Every run sees 32 samples in 2 steps" in text
    assert "genuine relu1_1" in text
