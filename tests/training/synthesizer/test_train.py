"""Training runs: they learn, and a killed one ends exactly as an undisturbed one."""

import json
import multiprocessing
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.training import tiny_run
from tests.training.tiny import HALF_MODEL, TINY
from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.errors import RecipeError, RunConflict
from training.loop import checkpoint as checkpoints
from training.loop.run_folder import read_stats
from training.synthesizer.autoencoder import Autoencoder, ModelConfig
from training.synthesizer.recipes import Recipe
from training.synthesizer.train import RunSettings, train
from training.synthesizer.weights import load_weights, save_weights


def settings_of(folder: Path, **changes: object) -> RunSettings:
    return replace(RunSettings(folder, "", accelerator="cpu", log_every=1, preview_every=0), **changes)  # type: ignore[arg-type]


def test_a_run_leaves_its_description_statistics_pictures_and_checkpoint(
    tmp_path: Path, tiny_pairs: Pairs
) -> None:
    train(TINY, tiny_pairs, settings_of(tmp_path, preview_every=4))
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"run.json", "stats.jsonl", "checkpoint.pt", "curves.png", "grid.png"}
    described = json.loads((tmp_path / "run.json").read_text())
    assert described["recipe"]["num_steps"] == 6 and described["objective"] == {"l1": 1.0}
    assert [line["step"] for line in read_stats(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_faces_are_drawn_now_and_then_and_at_the_end(
    tmp_path: Path, tiny_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def look(folder: Path) -> None:
        steps.append(list(read_stats(folder))[-1]["step"])  # type: ignore[arg-type]

    monkeypatch.setattr("training.synthesizer.train.draw_curves", look)
    train(TINY, tiny_pairs, settings_of(tmp_path, preview_every=4))
    assert steps == [4, 6]


def test_the_faces_that_are_drawn_are_of_people_whom_versions_are_chosen_by(
    tmp_path: Path, tiny_pairs: Pairs
) -> None:
    train(TINY, tiny_pairs, settings_of(tmp_path, preview_every=6))
    grid = cv2.imread(str(tmp_path / "grid.png"), cv2.IMREAD_COLOR_RGB)
    dataset = EyeFacePairs(tiny_pairs, "dev")
    assert grid is not None and {"train", "dev", "val"} == set(tiny_pairs.rows["split"])
    for column, sample in ((0, 0), (11, len(dataset) - 1)):
        true = dataset[sample][1].permute(1, 2, 0).numpy()
        assert np.array_equal(grid[-32:, 32 * column :][:, :32], true)


def test_a_run_learns(tmp_path: Path, tiny_pairs: Pairs) -> None:
    train(replace(TINY, num_steps=40), tiny_pairs, settings_of(tmp_path))
    losses = [line["l1"] for line in read_stats(tmp_path)]
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])


@pytest.mark.parametrize("num_steps", [6, 4])
def test_a_finished_run_is_not_run_again(
    tmp_path: Path, tiny_pairs: Pairs, monkeypatch: pytest.MonkeyPatch, num_steps: int
) -> None:
    train(TINY, tiny_pairs, settings_of(tmp_path))
    kept = [tmp_path / "checkpoint.pt", tmp_path / "run.json"]
    before = [path.read_bytes() for path in kept]
    monkeypatch.setattr("training.loop.run_folder.commit_hash", lambda: "a later one")
    train(replace(TINY, num_steps=num_steps), tiny_pairs, settings_of(tmp_path))
    assert [path.read_bytes() for path in kept] == before
    train(replace(TINY, num_steps=8), tiny_pairs, settings_of(tmp_path))
    described = json.loads((tmp_path / "run.json").read_text())
    assert described["commit"] == "a later one" and described["recipe"]["num_steps"] == 8


def test_a_longer_run_goes_on_from_a_shorter_one(tmp_path: Path, tiny_pairs: Pairs) -> None:
    train(TINY, tiny_pairs, settings_of(tmp_path))
    train(replace(TINY, num_steps=8), tiny_pairs, settings_of(tmp_path))
    assert [line["step"] for line in read_stats(tmp_path)] == list(range(1, 9))


@pytest.mark.parametrize(
    ("changed", "seed", "named"), [(replace(TINY, batch_size=4), 0, "recipe"), (TINY, 1, "seed")]
)
def test_a_folder_of_another_run_is_refused(
    tmp_path: Path, tiny_pairs: Pairs, changed: Recipe, seed: int, named: str
) -> None:
    train(TINY, tiny_pairs, settings_of(tmp_path))
    with pytest.raises(RunConflict, match=f"another {named}"):
        train(changed, tiny_pairs, settings_of(tmp_path, seed=seed))


def test_a_run_may_begin_with_the_weights_of_another(tmp_path: Path, tiny_pairs: Pairs) -> None:
    train(replace(TINY, num_steps=40), tiny_pairs, settings_of(tmp_path / "first"))
    settings = settings_of(tmp_path / "second", start_from=tmp_path / "first")
    train(replace(TINY, num_steps=1, learning_rate=0.0), tiny_pairs, settings)
    first, second = (load_weights(tmp_path / name).to_pixels.weight for name in ("first", "second"))
    assert torch.equal(first, second)
    described = json.loads((tmp_path / "second" / "run.json").read_text())
    assert described["start_from"]["recipe"]["num_steps"] == 40


def test_a_run_goes_on_with_a_model_of_half_the_side_and_learns_as_a_whole(
    tmp_path: Path, tiny_pairs: Pairs
) -> None:
    small, start = Autoencoder(HALF_MODEL), tmp_path / "small.safetensors"
    save_weights(start, small, {"recipe": {"model": asdict(small.config)}})
    train(replace(TINY, num_steps=1), tiny_pairs, settings_of(tmp_path / "run", start_from=start))
    first, grown = small.state_dict(), load_weights(tmp_path / "run").state_dict()
    for name in ("encoder.0.0.weight", "decoder.1.0.weight"):
        # One step of warm-up at half of 1e-3, of which the average takes nine tenths.
        torch.testing.assert_close(grown[name], first[name], atol=1e-3, rtol=0)
        assert not torch.equal(grown[name], first[name])


def test_a_first_stage_is_trained_before_by_another_seed(tmp_path: Path, tiny_pairs: Pairs) -> None:
    small = replace(TINY, name="small", model=HALF_MODEL, num_steps=2)
    recipe = replace(TINY, first=small, num_steps=2)
    for _ in range(2):  # the second time both are finished
        train(recipe, tiny_pairs, settings_of(tmp_path))
    assert [len(list(read_stats(folder))) for folder in (tmp_path / "small", tmp_path)] == [2, 2]
    described = json.loads((tmp_path / "run.json").read_text())
    assert (described["seed"], described["start_from"]["seed"]) == (0, 1)
    assert described["recipe"]["first"]["model"]["face_size"] == TINY.model.face_size // 2
    first, whole = (load_weights(folder).state_dict() for folder in (tmp_path / "small", tmp_path))
    difference = (first["encoder.0.0.weight"] - whole["encoder.0.0.weight"]).abs().max()
    assert 0 < difference < 0.01


def test_a_start_of_another_size_is_refused_before_anything_is_written(
    tmp_path: Path, tiny_pairs: Pairs, run: Path
) -> None:
    wide = replace(TINY, model=replace(TINY.model, vector_size=5))
    with pytest.raises(RecipeError, match="holds a model of"):
        train(wide, tiny_pairs, settings_of(tmp_path / "run", start_from=run))
    assert not (tmp_path / "run").exists()


def test_devices_that_would_have_unequal_parts_of_a_batch_are_refused(
    tmp_path: Path, tiny_pairs: Pairs
) -> None:
    with pytest.raises(
        RecipeError, match="3 devices cannot share the batches of 'tiny', of 16 pairs, equally"
    ):
        train(replace(TINY, batch_size=16), tiny_pairs, settings_of(tmp_path / "run", devices=3))


def test_samples_are_drawn_by_the_recipes_balance_of_sources(
    tmp_path: Path, tiny_pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, float, float]] = []
    plain = EyeFacePairs.balanced_weights

    def look(
        dataset: EyeFacePairs, power: float, *, monochrome: float, ai_made: float
    ) -> NDArray[np.float64]:
        asked.append((power, monochrome, ai_made))
        return plain(dataset, power, monochrome=monochrome, ai_made=ai_made)

    monkeypatch.setattr(EyeFacePairs, "balanced_weights", look)
    recipe = replace(TINY, num_steps=1, source_power=0.25, monochrome=0.5, ai_made=0.75)
    train(recipe, tiny_pairs, settings_of(tmp_path))
    assert asked == [(0.25, 0.5, 0.75)]


@pytest.mark.parametrize("model", [replace(TINY.model, face_size=40), replace(TINY.model, eye_size=16)])
def test_pairs_of_too_small_faces_or_other_eyes_are_refused_before_anything_is_written(
    tmp_path: Path, tiny_pairs: Pairs, model: ModelConfig
) -> None:
    told = "the pairs have eyes of 32 px and faces of 32 px, the recipe 'tiny'"
    with pytest.raises(RecipeError, match=told):
        train(replace(TINY, model=model), tiny_pairs, settings_of(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path, archives: str) -> Path:
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    command = [
        sys.executable,
        "-m",
        "tests.training.tiny_run",
        str(tiny_folder),
        str(run),
        archives,
        "layer-stdmap",
    ]
    subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
    return run


class Starts(Protocol):
    def __call__(self, run: Path, *options: str, objective: str = "layer-stdmap") -> BaseProcess: ...


@pytest.fixture(scope="module")
def start(tiny_folder: Path, archives: str) -> Starts:
    """Begins or resumes the run of tests/training/tiny_run.py in a process of its own. It comes of one that
    has imported torch and done nothing else: to import takes longer than the run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.training.tiny_run"])

    def begin(run: Path, *options: str, objective: str = "layer-stdmap") -> BaseProcess:
        arguments = [str(tiny_folder), str(run), archives, objective, *options]
        process = context.Process(target=tiny_run.main, args=[arguments])
        process.start()
        return process

    return begin


def exit_code(process: BaseProcess) -> int | None:
    """Once it has ended."""
    process.join(120)
    return process.exitcode


@pytest.mark.slow
def test_killed_at_a_random_step_a_run_ends_bitwise_the_same(
    tmp_path: Path, start: Starts, undisturbed: Path
) -> None:
    run = tmp_path / "killed"
    process = start(run)
    wanted = random.randrange(4, 21)
    stats = run / "stats.jsonl"
    while not stats.exists() or len(stats.read_text().splitlines()) < wanted:
        assert process.is_alive()
        time.sleep(0.002)
    process.kill()
    assert exit_code(process) == -signal.SIGKILL
    assert exit_code(start(run)) == 0
    assert_equal_runs(run, undisturbed, note=f"killed after step {wanted}")


@pytest.mark.slow
def test_killed_while_it_writes_a_checkpoint_a_run_ends_bitwise_the_same(
    tmp_path: Path, start: Starts, undisturbed: Path
) -> None:
    run = tmp_path / "killed"
    assert exit_code(start(run, "--die-while-saving", "5")) == -signal.SIGKILL
    assert (run / "checkpoint.pt.new").exists()
    assert exit_code(start(run)) == 0
    assert_equal_runs(run, undisturbed, note="killed while saving")


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["cgan", "moments-ema-cov"])
def test_a_critic_and_running_targets_go_on_bitwise_the_same(
    tmp_path: Path, start: Starts, objective: str
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = start(whole, objective=objective)
    process = start(killed, "--die-while-saving", "5", objective=objective)
    assert exit_code(process) == -signal.SIGKILL
    assert exit_code(undisturbed) == 0
    assert exit_code(start(killed, objective=objective)) == 0
    assert_equal_runs(killed, whole, note=objective)


def assert_equal_runs(run: Path, other: Path, *, note: str) -> None:
    """Every logged loss and every number of the last checkpoint is the same to the bit."""
    lines, other_lines = (
        [{k: v for k, v in line.items() if k != "seconds_per_step"} for line in read_stats(folder)]
        for folder in (run, other)
    )
    assert lines == other_lines, note
    state, other_state = checkpoints.load(run), checkpoints.load(other)
    assert state is not None and other_state is not None
    assert state["step"] == other_state["step"] == 24
    for part in ("model", "average"):
        for name, value in state[part].items():
            assert torch.equal(value, other_state[part][name]), f"{note}: {part} {name}"
    moments = [state["optimizer"]["state"][0]["exp_avg"], other_state["optimizer"]["state"][0]["exp_avg"]]
    assert torch.equal(moments[0], moments[1]), note
    assert torch.equal(state["random"]["torch"], other_state["random"]["torch"]), note
