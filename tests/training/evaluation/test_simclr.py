"""The face encoder: it learns, the same for the same seed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.errors import RunConflict
from training.evaluation.simclr import EncoderRecipe, FaceEncoder, contrast, random_view, train_encoder
from training.loop.run_folder import RunOutput

TINY = EncoderRecipe(num_steps=3, batch_size=8, widths=(8, 8), head_size=4)


def test_embeddings_have_one_length_whatever_the_size_of_the_face() -> None:
    encoder = FaceEncoder((8, 16)).eval()
    for size in (64, 128):
        embedded = encoder(torch.rand(3, 3, size, size))
        torch.testing.assert_close(embedded.square().mean(1), torch.ones(3))


def test_the_contrast_is_low_where_views_find_their_partner() -> None:
    own = torch.eye(4)
    assert contrast(own, own, 0.1).item() < 0.01 < contrast(own, own.roll(1, 0), 0.1).item()


def test_views_are_other_pictures_of_the_same_size_and_the_same_again_from_the_same_seed() -> None:
    faces = torch.rand(4, 3, 64, 64)
    first, again, other = (random_view(faces, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first.shape == faces.shape and torch.equal(first, again) and not torch.equal(first, other)
    assert first.min() >= 0 and first.max() <= 1


def test_about_half_of_the_views_are_mirrored() -> None:
    ramp = torch.linspace(0, 1, 64).expand(200, 3, 64, 64)  # brighter to the right
    view = random_view(ramp, torch.Generator().manual_seed(0))
    mirrored = (view[..., :32].mean((1, 2, 3)) > view[..., 32:].mean((1, 2, 3))).float().mean().item()
    assert 0.35 < mirrored < 0.65


def test_training_repeats_itself_and_a_trained_one_stays(tmp_path: Path, small_pairs: Pairs) -> None:
    first, second = (train_encoder(TINY, small_pairs, RunOutput(tmp_path / name)) for name in "ab")
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert not first.training and not any(each.requires_grad for each in first.parameters())
    before = (tmp_path / "a" / "checkpoint.pt").read_bytes()
    again = train_encoder(TINY, small_pairs, RunOutput(tmp_path / "a"))
    faces = torch.rand(2, 3, 64, 64)
    assert torch.equal(again(faces), first(faces))
    assert (tmp_path / "a" / "checkpoint.pt").read_bytes() == before
    with pytest.raises(RunConflict, match="another recipe"):
        train_encoder(replace(TINY, seed=1), small_pairs, RunOutput(tmp_path / "a"))


@pytest.mark.slow
def test_it_learns_to_find_a_face_again(tmp_path: Path, small_pairs: Pairs) -> None:
    dataset = EyeFacePairs(small_pairs, "train")
    faces = torch.stack([dataset[i][1] for i in range(len(dataset))]).float() / 255

    def found(encoder: FaceEncoder) -> float:
        generator = torch.Generator().manual_seed(9)
        hits = []
        for _ in range(10):
            with torch.no_grad():
                first, second = (encoder(random_view(faces, generator)) for _ in range(2))
            hits.append(torch.cdist(first, second).argmin(1) == torch.arange(len(faces)))
        return torch.stack(hits).float().mean().item()

    torch.manual_seed(0)
    widths = (16, 32, 32)
    recipe = EncoderRecipe(num_steps=60, batch_size=16, widths=widths, head_size=16)
    trained = train_encoder(recipe, small_pairs, RunOutput(tmp_path))
    assert found(trained) > 1.2 * found(FaceEncoder(widths).eval())
