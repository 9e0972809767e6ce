"""The way of one request through the service: short enough to be read."""

from pathlib import Path

import pytest

from bench.call_path import CallPath, trace
from bench.photos import write_photos


@pytest.mark.parametrize("photo", ["250px", "1080p"])
def test_a_request_passes_20_modules_and_changes_module_80_times_at_most(tmp_path: Path, photo: str) -> None:
    path = trace(write_photos(tmp_path)[photo].read_bytes())
    assert len(path.calls) <= 20, path.calls.most_common()
    assert path.changes.total() <= 80, path.changes.most_common()
    assert {"http.protocol", "pipeline", "provenance.marking"} <= set(path.calls)  # all of it is traced


def test_a_change_is_a_call_in_another_module_than_the_one_before_in_the_same_thread() -> None:
    path = CallPath()
    for module, thread in (("a", 1), ("a", 1), ("b", 2), ("b", 1), ("b", 2), ("a", 1)):
        path.note(module, thread)
    assert path.calls == {"a": 3, "b": 3}
    assert path.changes == {("", "a"): 1, ("", "b"): 1, ("a", "b"): 1, ("b", "a"): 1}
