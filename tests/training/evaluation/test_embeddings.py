"""Face embeddings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.perceptual import write_torchvision
from training.evaluation.embeddings import embed_all, embedding_layers, untrained_layers, vgg_embedding
from training.synthesizer.recipes import RECIPES
from training.synthesizer.vgg import load_features


def test_the_layer_is_averaged_to_a_grid(archives: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features = load_features(archives, embedding_layers(archives))
    faces = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    whole = embed_all(vgg_embedding(features), faces)
    assert features.layers[0].name == "distilled relu4_1"
    assert whole.shape == (5, 4 * 16)
    monkeypatch.setattr("training.evaluation.embeddings.EMBED_BATCH", 2)
    torch.testing.assert_close(embed_all(vgg_embedding(features), faces), whole)


def test_the_layer_that_no_recipe_trains_on_is_of_the_original_network(archives: str, tmp_path: Path) -> None:
    assert untrained_layers(archives)[0].name == "genuine relu3_4"
    file, _ = write_torchvision(tmp_path / "vgg19.pth")
    assert untrained_layers(str(file))[0].name == "torchvision relu3_4"
    assert not any("3_4" in recipe.convs for recipe in RECIPES.values())
