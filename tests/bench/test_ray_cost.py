"""The overhead of Ray: differences within a round, written between the document's marks."""

from pathlib import Path
from typing import get_args

import pytest

from bench.ray_cost import Server, Told, describe_method, write_table
from tests.write_docs import find_between_marks

ROOT = Path(__file__).parent.parent.parent


def test_what_ray_adds_is_the_median_of_the_differences_within_a_round() -> None:
    # In the second round the machine was busy: both are slower, and the difference is the same.
    told: Told = {
        ("250px", 1): {
            "by itself": [(10, 9, 100), (30, 9, 33), (11, 9, 90)],
            "Ray, HAProxy": [(15, 20, 66), (35, 20, 28), (14, 20, 70)],
        }
    }
    assert write_table(told).splitlines()[2:] == [
        "| 250px, 1 | by itself | 11.0 (10.0 to 30.0) | 9.0 (9.0 to 9.0) | 90.0 (33.0 to 100.0) |",
        "| 250px, 1 | Ray, HAProxy | 15.0 (14.0 to 35.0), +5.0 | 20.0 (20.0 to 20.0), +11.0 "
        "| 66.0 (28.0 to 70.0), -20.0 |",
    ]


def test_every_row_of_the_table_has_the_cells_of_its_head() -> None:
    told: Told = {
        (photo, 8): {server: [(1, 2, 3)] for server in get_args(Server)} for photo in ("250px", "1080p")
    }
    lines = write_table(told).splitlines()
    assert len(lines) == 8
    assert len({line.count("|") for line in lines}) == 1


def test_the_document_has_the_marks() -> None:
    assert find_between_marks(ROOT / "docs" / "scale-out.md", "RAY").startswith("| ")


def test_how_it_was_measured_names_the_version_of_ray() -> None:
    pytest.importorskip("ray", reason="Ray is not installed: deploy/ray/README.md says how these are run")
    assert "ray 2." in describe_method(7, 4.0, 0.5)
