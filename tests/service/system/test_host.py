"""Counting cores: affinity and quota, whichever is less."""

import os
from pathlib import Path

import pytest

from service.system.host import cgroup_folders, count_cores

NUM_ALLOWED = len(os.sched_getaffinity(0))


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert count_cores([tmp_path]) == NUM_ALLOWED


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("max 100000", NUM_ALLOWED),
        ("100000000 100000", NUM_ALLOWED),
    ],
)
def test_the_quota_of_cgroup_2_counts(tmp_path: Path, cpu_max: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max + "\n")
    assert count_cores([tmp_path]) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", NUM_ALLOWED), ("20000", 1)])
def test_the_quota_of_cgroup_1_counts(tmp_path: Path, quota: str, expected: int) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert count_cores([tmp_path]) == expected


@pytest.mark.parametrize("cpu_max", ["", "nonsense", "1 0", "a b"])
def test_a_cgroup_that_cannot_be_read_sets_no_limit(tmp_path: Path, cpu_max: str) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)
    assert count_cores([tmp_path]) == NUM_ALLOWED


def test_affinity_lowers_the_count(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert count_cores([tmp_path]) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_the_least_quota_of_a_group_and_those_above_it_counts(tmp_path: Path) -> None:
    for name, quota in (("above", "100000 100000"), ("own", "max 100000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cpu.max").write_text(quota)
    assert count_cores([tmp_path / "own", tmp_path / "above"]) == 1


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ("0::/system.slice/eye2face.service", {"system.slice", "system.slice/eye2face.service"}),
        ("5:cpu,memory:/docker/abc\n1:name=systemd:/other", {"memory/docker", "memory/docker/abc"}),
        ("9:memory:/\n0::/", set()),
        (None, set()),
    ],
)
def test_the_folders_of_our_group_are_looked_at_and_those_above(
    tmp_path: Path, told: str | None, found: set[str]
) -> None:
    own = tmp_path / "cgroup"
    if told is not None:
        own.write_text(f"{told}\n")
    expected = {Path("/x"), Path("/x/memory"), *(Path("/x") / each for each in found)}
    assert set(cgroup_folders("memory", Path("/x"), own)) == expected
