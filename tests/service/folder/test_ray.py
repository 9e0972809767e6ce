"""Many photos on a real Ray cluster of two nodes on this machine, one of which is killed in between.

Ray is not installed by `make test`: it is large, and the service does without it. `deploy/ray/README.md` says
how these are run.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.cluster import Running, started_cluster
from tests.fakes import astronaut, encoded, pixels_of
from tests.service.folder.test_draw import rows_of

pytestmark = pytest.mark.slow

pytest.importorskip("ray.data", reason="Ray is not installed: deploy/ray/README.md says how these are run")

NUM_PHOTOS = 160


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A cluster of two nodes with a core each."""
    with started_cluster(tmp_path_factory.mktemp("ray") / "log", max_replicas=0) as running:
        running.order("grow")
        yield running


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder: the astronaut, two of her, nobody, and what is no picture."""
    folder = tmp_path / "photos"
    folder.mkdir()
    face = astronaut()[:256, 96:352]
    (folder / "one.jpg").write_bytes(encoded(face, "jpeg"))
    (folder / "two.png").write_bytes(encoded(np.hstack([face, face])))
    (folder / "nobody.png").write_bytes(encoded(np.zeros((64, 64, 3), np.uint8)))
    (folder / "none.png").write_bytes(b"no picture")
    return folder


def start(address: str, *arguments: object, **environ: str) -> "subprocess.Popen[str]":
    """`eye2face synthesize --ray` with these arguments, on the cluster at `address`."""
    own = {
        "RAY_USAGE_STATS_ENABLED": "0", "EYE2FACE_DEVICE": "cpu",
        "EYE2FACE_EYE_FINDER": "haar",
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "service", "synthesize", "--ray", address, *map(str, arguments)],
        env=os.environ | own | environ, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(address: str, *arguments: object, **environ: str) -> tuple[int, str]:
    """Its exit status, and what it says."""
    process = start(address, *arguments, **environ)
    told = process.communicate(timeout=240)[1]
    return process.returncode, told


def test_on_a_cluster_the_faces_and_the_manifest_are_those_of_one_machine_and_nothing_is_done_twice(
    cluster: Running, photos: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    subprocess.run(
        [sys.executable, "-m", "service", "synthesize", photos, "-o", here, "--person", "all"],
        env=os.environ | {"EYE2FACE_DEVICE": "cpu", "EYE2FACE_EYE_FINDER": "haar"}, check=False,
    )  # fmt: skip
    status, told = run(cluster.address, photos, "-o", there, "--person", "all")
    assert status == 1 and "2 of 4 photos have a face" in told, told
    by_input = [sorted(rows_of(each), key=json.dumps) for each in (here, there)]
    assert by_input[0] == by_input[1]
    faces = {path.name for path in there.glob("*.face*.png")}
    assert faces == {"one.face.png", "two.face.png", "two.face-1.png"}
    there_pixels, here_pixels = (
        [pixels_of((folder / name).read_bytes()) for name in faces] for folder in (there, here)
    )
    assert there_pixels == here_pixels
    status, told = run(cluster.address, photos, "-o", there, "--person", "all")
    assert status == 1 and "(4 were done before)" in told, told
    assert len(rows_of(there)) == len(by_input[1])


def test_without_a_cluster_or_with_another_model_there_the_command_says_so_in_one_line(
    cluster: Running, photos: Path, tmp_path: Path
) -> None:
    status, told = run("127.0.0.2:9", photos, "-o", tmp_path / "faces")
    assert status == 1 and told.count("\n") == 1, told
    assert "No Ray cluster answers at 127.0.0.2:9: [Errno 111] Connection refused" in told
    status, told = run(cluster.address, photos, "-o", tmp_path / "faces", EYE2FACE_DEVICE="cuda")
    assert status == 1 and "The cluster has no GPU." in told.splitlines()[-1], told
    assert not list(tmp_path.glob("faces/*.png"))


def test_a_machine_with_another_model_or_service_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.util

    from service.folder.draw import ClusterError, DrawOptions, run_fingerprint
    from service.folder.ray import _RayWorker
    from service.selection import SynthesisOptions
    from service.settings import Settings

    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")  # there is none without a node
    settings, options = Settings(), DrawOptions(SynthesisOptions(), "png")
    _RayWorker(settings, options, run_fingerprint(settings, options))
    with pytest.raises(ClusterError, match="the same on all"):
        _RayWorker(settings, options, "another run")


def test_a_node_that_is_killed_costs_no_photo(cluster: Running, tmp_path: Path) -> None:
    photos, faces = tmp_path / "photos", tmp_path / "faces"
    photos.mkdir()
    face = encoded(astronaut()[:256, 96:352], "jpeg")
    for number in range(NUM_PHOTOS):
        (photos / f"{number}.jpg").write_bytes(face)
    process = start(cluster.address, photos, "-o", faces)
    manifest = faces / "manifest.jsonl"
    while not manifest.exists() or manifest.read_bytes().count(b"\n") < NUM_PHOTOS // 8:
        assert process.poll() is None, process.communicate()[1]
    cluster.order("kill")
    noted_then = manifest.read_bytes().count(b"\n")
    told = process.communicate(timeout=240)[1]
    assert process.returncode == 0 and f"{NUM_PHOTOS} of {NUM_PHOTOS} photos have a face" in told, told
    assert noted_then < NUM_PHOTOS, "it was over before the node was killed"
    assert set(Counter(row["input"] for row in rows_of(faces)).values()) == {1}
    assert len(list(faces.glob("*.png"))) == NUM_PHOTOS
