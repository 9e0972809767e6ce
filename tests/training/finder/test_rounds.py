"""Round things drawn into pictures of nobody: the same again from the same number, and round."""

import numpy as np

from training.finder.rounds import draw_round_thing

SIDE = 200


def drawn(seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    picture = np.full((SIDE, SIDE, 3), 120, np.uint8)
    draw_round_thing(picture, np.random.default_rng(seed))
    return picture


def test_the_same_number_draws_the_same_thing() -> None:
    assert np.array_equal(drawn(7), drawn(7))
    assert not np.array_equal(drawn(7), drawn(8))


def test_most_things_are_seen_and_hardly_one_fills_the_picture() -> None:
    changed = [float((drawn(seed) != 120).any(2).mean()) for seed in range(60)]
    assert np.mean([part > 0.002 for part in changed]) > 0.9
    assert np.mean([part > 0.95 for part in changed]) < 0.1


def test_a_thing_is_as_wide_in_all_directions_as_its_slant_allows() -> None:
    seen = 0
    for seed in range(200):
        there = (np.abs(drawn(seed).astype(int) - 120) > 12).any(2)
        v, u = np.nonzero(there)
        inside = len(v) and v.min() > 0 and v.max() < SIDE - 1 and u.min() > 0 and u.max() < SIDE - 1
        if not inside or len(v) < 400:
            continue
        seen += 1
        spread = np.linalg.eigvalsh(np.cov(np.stack([u, v]).astype(float)))
        assert np.sqrt(spread[0] / spread[1]) > 0.5
    assert seen > 5
