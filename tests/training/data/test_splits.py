"""Splits into training and held-out people: by person, the same for every model."""

import pytest

from training.data.splits import Split, hash_fraction, split_by_person, split_with_calibration

PEOPLE: list[tuple[str, Split]] = [(f"p{number}", "train") for number in range(2000)]
HELD_OUT: list[tuple[str, Split]] = [(f"v{number}", "val") for number in range(100)]


def test_a_person_named_in_two_splits_goes_to_the_one_further_from_training() -> None:
    named: list[tuple[str, Split]] = [
        ("a", "train"),
        ("a", "val"),
        ("b", "dev"),
        ("b", "train"),
        ("c", "val"),
    ]
    assert split_by_person([*named, ("c", "dev")]) == {"a": "val", "b": "dev", "c": "val"}


def test_dev_is_the_stated_part_of_the_training_people_and_of_nobody_else() -> None:
    named = [*PEOPLE, *HELD_OUT]
    splits = split_by_person(named, dev_part=0.2)
    # 400 expected, standard deviation 18.
    assert 340 < list(splits.values()).count("dev") < 460
    assert list(splits.values()).count("val") == 100


def test_where_anybody_is_named_dev_nobody_else_becomes_it() -> None:
    splits = split_by_person([*PEOPLE, ("x", "dev")], dev_part=0.5)
    assert [person for person, split in splits.items() if split == "dev"] == ["x"]


def test_the_order_of_photos_and_who_else_is_there_change_nobodys_split() -> None:
    splits = split_by_person(PEOPLE, dev_part=0.2)
    assert split_by_person(PEOPLE[::-2], dev_part=0.2).items() <= splits.items()


def test_whom_a_small_part_holds_out_a_larger_one_holds_out_too() -> None:
    small, large = (split_by_person(PEOPLE, dev_part=part) for part in (0.05, 0.2))
    assert {p for p in small if small[p] == "dev"} < {p for p in large if large[p] == "dev"}


def test_scores_are_calibrated_on_people_taken_out_of_training_alone() -> None:
    named = [*PEOPLE, *HELD_OUT]
    plain = split_by_person(named, dev_part=0.1)
    splits = split_with_calibration(named, dev_part=0.1, calibration_part=0.1)
    calibration = {person for person in splits if splits[person] == "calibration"}
    # 200 expected, standard deviation 13.
    assert 150 < len(calibration) < 250
    assert {plain[person] for person in calibration} == {"train"}
    assert all(splits[person] == plain[person] for person in splits if person not in calibration)


def test_fractions_of_a_hash_are_evenly_spread_and_differ_by_seed() -> None:
    fractions = [hash_fraction(str(number)) for number in range(2000)]
    assert all(0 <= fraction < 1 for fraction in fractions)
    assert sum(fractions) / 2000 == pytest.approx(0.5, abs=0.03)
    assert hash_fraction("a", seed=1) != hash_fraction("a")
