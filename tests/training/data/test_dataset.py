"""Samples, their order and their jitter: the same for the same seed, wherever a run begins."""

from itertools import islice

import numpy as np
import pytest
import torch

from training.data.augmentation import Jitter
from training.data.dataset import EyeFacePairs, ResumableSampler, SampleKey
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
