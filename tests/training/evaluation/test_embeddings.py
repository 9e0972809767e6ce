"""Face embeddings."""

import numpy as np
import torch

from training.evaluation.embeddings import embed_all, load_vgg, vgg_embedding


def test_the_layer_is_averaged_to_a_grid_and_named(archives: str) -> None:
    features, name = load_vgg(archives)
    faces = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    embedded = embed_all(vgg_embedding(features), faces, batch_size=2)
    assert name == "distilled relu4_1, averaged to 4 x 4"
    assert embedded.shape == (5, 4 * 16)
    whole = embed_all(vgg_embedding(features), faces, batch_size=5)
    torch.testing.assert_close(embedded, whole)
