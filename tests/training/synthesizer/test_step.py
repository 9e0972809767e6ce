"""One step: what the losses are given, and which weights it moves."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from tests.training.tiny import TINY
from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.synthesizer import step as steps
from training.synthesizer.objectives import OBJECTIVES, LossInputs
from training.synthesizer.recipes import Recipe
from training.synthesizer.state import SynthesizerState, begin
from training.synthesizer.vgg import load_features, training_layers

Batch = tuple[Tensor, Tensor]


@pytest.fixture
def batch(tiny_pairs: Pairs) -> Batch:
    dataset = EyeFacePairs(tiny_pairs, "train")
    eyes, faces = (torch.stack(each) for each in zip(*(dataset[i] for i in range(8)), strict=True))
    return eyes, faces


def begun(recipe: Recipe, pairs: Pairs, archives: str, folder: Path) -> SynthesizerState:
    features = load_features(archives, training_layers(archives, recipe.convs))
    fabric = Fabric(accelerator="cpu")
    return begin(fabric, recipe, EyeFacePairs(pairs, "train"), features, folder, None)


def inputs_of_steps(
    monkeypatch: pytest.MonkeyPatch, recipe: Recipe, state: SynthesizerState, batches: list[Batch]
) -> list[LossInputs]:
    seen: list[LossInputs] = []
    objective = OBJECTIVES[recipe.objective]

    def look(*arguments: Any, **fields: Any) -> LossInputs:
        seen.append(LossInputs(*arguments, **fields))
        return seen[-1]

    monkeypatch.setattr(steps, "LossInputs", look)
    for each in batches:
        steps.train_step(Fabric(accelerator="cpu"), state, objective, each)
    return seen


def test_losses_get_the_weights_of_layers(
    monkeypatch: pytest.MonkeyPatch, tiny_pairs: Pairs, archives: str, tmp_path: Path, batch: Batch
) -> None:
    recipe = replace(TINY, objective="feature", convs=("1_1", "2_1"))
    state = begun(recipe, tiny_pairs, archives, tmp_path)
    (inputs,) = inputs_of_steps(monkeypatch, recipe, state, [batch])
    assert state.features is not None and inputs.layer_weights == state.features.weights
    dataset = EyeFacePairs(tiny_pairs, "train")  # so few that the scales are means over all of them
    faces = torch.stack([dataset[i][1] for i in range(len(dataset))]).float() / 255
    means = torch.stack([each.mean() for each in state.features(faces)])
    torch.testing.assert_close(state.features.scales, means, rtol=1e-4, atol=0)


def test_a_step_trains_batch_norms_whatever_the_model_was_used_for_before(
    tiny_pairs: Pairs, archives: str, tmp_path: Path, batch: Batch
) -> None:
    state = begun(TINY, tiny_pairs, archives, tmp_path)
    state.model.eval()
    steps.train_step(Fabric(accelerator="cpu"), state, OBJECTIVES[TINY.objective], batch)
    counts = [
        value for name, value in state.model.state_dict().items() if name.endswith("num_batches_tracked")
    ]
    assert counts and all(count == 1 for count in counts)


def test_running_targets_move_with_every_batch(
    monkeypatch: pytest.MonkeyPatch, tiny_pairs: Pairs, archives: str, tmp_path: Path, batch: Batch
) -> None:
    recipe = replace(TINY, objective="moments-ema", convs=("1_1",))
    state = begun(recipe, tiny_pairs, archives, tmp_path)
    eyes, faces = batch
    first, second = inputs_of_steps(monkeypatch, recipe, state, [batch, (eyes, 255 - faces)])
    torch.testing.assert_close(first.target_means[0], first.true_features[0].mean(0))
    assert not torch.allclose(second.target_means[0], first.target_means[0])
    assert second.target_stds[0].shape == second.true_features[0].shape[1:]


def test_the_models_loss_leaves_the_discriminator_without_a_gradient(
    monkeypatch: pytest.MonkeyPatch, tiny_pairs: Pairs, archives: str, tmp_path: Path, batch: Batch
) -> None:
    state = begun(replace(TINY, objective="cgan"), tiny_pairs, archives, tmp_path)
    assert state.adversary is not None
    moved: list[int] = []
    monkeypatch.setattr(state.adversary.optimizer, "step", lambda: moved.append(1))
    state.adversary.optimizer.zero_grad(set_to_none=True)
    monkeypatch.setattr(steps, "_step_discriminator", lambda *arguments: torch.zeros(()))
    steps.train_step(Fabric(accelerator="cpu"), state, OBJECTIVES["cgan"], batch)
    assert all(each.grad is None for each in state.adversary.discriminator.parameters())
    assert all(each.requires_grad for each in state.adversary.discriminator.parameters())
    assert any(each.grad is not None for each in state.model.parameters())
