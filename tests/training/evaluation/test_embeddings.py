"""Face embeddings."""

from pathlib import Path

import numpy as np
import torch

from tests.training.perceptual import write_torchvision
from training.evaluation.embeddings import embed_all, load_untrained_vgg, load_vgg, vgg_embedding
from training.synthesizer.recipes import RECIPES


def test_the_layer_is_averaged_to_a_grid_and_named(archives: str) -> None:
    features, name = load_vgg(archives)
    faces = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    embedded = embed_all(vgg_embedding(features), faces, batch_size=2)
    assert name == "distilled relu4_1, averaged to 4 x 4"
    assert embedded.shape == (5, 4 * 16)
    whole = embed_all(vgg_embedding(features), faces, batch_size=5)
    torch.testing.assert_close(embedded, whole)


def test_the_layer_that_no_recipe_trains_on_is_of_the_original_network(archives: str, tmp_path: Path) -> None:
    assert load_untrained_vgg(archives)[1] == "genuine relu3_4, averaged to 4 x 4"
    file, _ = write_torchvision(tmp_path / "vgg19.pth")
    assert load_untrained_vgg(str(file))[1] == "torchvision relu3_4, averaged to 4 x 4"
    assert not any("3_4" in recipe.convs for recipe in RECIPES.values())
