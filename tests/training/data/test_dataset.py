"""Samples, their order and their jitter: the same for the same seed, wherever a run begins."""

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from training.data.augmentation import Jitter
from training.data.dataset import EyeFacePairs, ResumableSampler, SampleKey
from training.data.face_alignment import EYE_DISTANCE
from training.data.store import Pairs
from training.errors import DataError


def test_without_jitter_the_eye_is_the_services_crop(drawn_pairs: Pairs) -> None:
    dataset = EyeFacePairs(drawn_pairs, "train")
    for index, (row, side) in enumerate(dataset.samples):
        eye, _ = dataset[index]
        assert np.array_equal(eye.permute(1, 2, 0).numpy(), drawn_pairs.eyes[row, side])


def test_the_face_of_a_left_eye_is_mirrored(drawn_pairs: Pairs) -> None:
    dataset = EyeFacePairs(drawn_pairs, "train")
    row = dataset.samples[0, 0]
    right, left = (index for index, sample in enumerate(dataset.samples) if sample[0] == row)
    assert torch.equal(dataset[right][1], dataset[left][1].flip(2))


def test_an_eye_that_is_not_ok_is_no_sample(drawn_pairs: Pairs) -> None:
    rows = drawn_pairs.rows.copy()
    rows["left_ok"] = False
    pairs = Pairs(drawn_pairs.faces, drawn_pairs.eyes, drawn_pairs.eyes_wide, rows, drawn_pairs.manifest)
    assert set(EyeFacePairs(pairs, "train").samples[:, 1]) == {0}


def test_an_empty_split_is_refused_by_name(drawn_pairs: Pairs) -> None:
    rows = drawn_pairs.rows.copy()
    rows["split"] = "train"
    pairs = Pairs(drawn_pairs.faces, drawn_pairs.eyes, drawn_pairs.eyes_wide, rows, drawn_pairs.manifest)
    with pytest.raises(DataError, match="'val'"):
        EyeFacePairs(pairs, "val")


def test_photos_of_a_kind_are_drawn_less_often_than_others_of_their_source(drawn_pairs: Pairs) -> None:
    rows = drawn_pairs.rows.copy()
    rows["source"], rows["monochrome"], rows["ai_made"] = "one", False, False
    rows["monochrome"][::2], rows["ai_made"][::3] = True, True
    dataset = EyeFacePairs(replace(drawn_pairs, rows=rows), "train")
    weights = dataset.balanced_weights(0.5, monochrome=0.25, ai_made=0.5)
    seen = rows[dataset.samples[:, 0]]
    relative = np.where(seen["monochrome"], 0.25, 1) * np.where(seen["ai_made"], 0.5, 1)
    np.testing.assert_allclose(weights, relative / relative.sum())


def test_faces_are_shrunk_to_the_size_that_is_asked_for(drawn_pairs: Pairs) -> None:
    side = drawn_pairs.faces.shape[1]
    whole, halved = (EyeFacePairs(drawn_pairs, "train", face_size=size) for size in (None, side // 2))
    means = torch.nn.functional.avg_pool2d(whole[0][1].float(), 2)
    assert halved[0][1].shape == (3, side // 2, side // 2) and (halved[0][1] - means).abs().max() <= 0.5
    assert torch.equal(halved[0][0], whole[0][0])


def test_faces_that_were_narrow_in_their_photo_are_left_out(drawn_pairs: Pairs) -> None:
    widths = drawn_pairs.rows["eye_distance_px"] / EYE_DISTANCE
    least = float(np.median(widths))
    chosen = EyeFacePairs(drawn_pairs, "train", min_face_px=least).samples[:, 0]
    everybody = EyeFacePairs(drawn_pairs, "train").samples[:, 0]
    assert (widths[chosen] >= least).all() and set(everybody) - set(chosen)
    with pytest.raises(DataError, match="1e\\+06 px or wider"):
        EyeFacePairs(drawn_pairs, "train", min_face_px=1e6)


def test_jitter_depends_on_seed_epoch_and_index_alone(drawn_pairs: Pairs) -> None:
    first, again = (EyeFacePairs(drawn_pairs, "train", jitter=Jitter(), seed=3) for _ in range(2))
    other = EyeFacePairs(drawn_pairs, "train", jitter=Jitter(), seed=4)
    key = SampleKey(epoch=2, index=5)
    eye, face = first[key]
    first[SampleKey(0, 0)]  # what was drawn before does not matter
    assert torch.equal(first[key][0], eye) and torch.equal(again[key][0], eye)
    assert not torch.equal(other[key][0], eye)
    assert not torch.equal(first[SampleKey(epoch=3, index=5)][0], eye)
    assert torch.equal(other[key][1], face)  # the face is never jittered


def test_a_sampler_that_begins_later_goes_on_exactly() -> None:
    weights = np.full(20, 1 / 20)
    whole = list(islice(ResumableSampler(weights, 4, seed=1), 17))
    assert list(islice(ResumableSampler(weights, 4, seed=1, first_step=7), 10)) == whole[7:]


def test_the_processes_of_a_run_share_each_batch() -> None:
    weights = np.full(20, 1 / 20)
    whole = next(iter(ResumableSampler(weights, 8, seed=1)))
    parts = [next(iter(ResumableSampler(weights, 8, seed=1, rank=rank, world_size=2))) for rank in (0, 1)]
    assert sorted(parts[0] + parts[1], key=lambda key: key.index) == sorted(whole, key=lambda key: key.index)


@pytest.mark.parametrize(("power", "expected"), [(1.0, 0.75), (0.0, 0.5)])
def test_sources_are_balanced_by_the_power(drawn_pairs: Pairs, power: float, expected: float) -> None:
    rows = drawn_pairs.rows.copy()
    rows["split"] = "train"
    rows["source"] = ["rare"] * (len(rows) // 4) + ["common"] * (len(rows) - len(rows) // 4)
    pairs = Pairs(drawn_pairs.faces, drawn_pairs.eyes, drawn_pairs.eyes_wide, rows, drawn_pairs.manifest)
    dataset = EyeFacePairs(pairs, "train")
    common = pairs.rows["source"][dataset.samples[:, 0]] == "common"
    assert dataset.balanced_weights(power)[common].sum() == pytest.approx(expected, abs=0.03)


def test_the_other_eye_follows_the_first(drawn_pairs: Pairs) -> None:
    alone, both = (EyeFacePairs(drawn_pairs, "train", num_eyes=num) for num in (1, 2))
    for index, (row, side) in enumerate(both.samples):
        eyes, face = both[index]
        assert torch.equal(eyes[:3], alone[index][0]) and torch.equal(face, alone[index][1])
        assert np.array_equal(eyes[3:].permute(1, 2, 0).numpy(), drawn_pairs.eyes[row, 1 - side])


def test_a_second_eye_leaves_the_jitter_of_the_first_as_it_is(drawn_pairs: Pairs) -> None:
    alone, both = (
        EyeFacePairs(drawn_pairs, "train", jitter=Jitter(), seed=3, num_eyes=num) for num in (1, 2)
    )
    assert torch.equal(both[SampleKey(1, 2)][0][:3], alone[SampleKey(1, 2)][0])


def test_samples_are_drawn_by_their_weights() -> None:
    weights = np.array([0.7, 0.2, 0.1, 0.0])
    batches = islice(ResumableSampler(weights, 4, seed=0), 500)
    drawn = [key.index for batch in batches for key in batch]
    assert np.bincount(drawn, minlength=4) / len(drawn) == pytest.approx(weights, abs=0.04)
