"""The list of models, the metadata of each, and the one in use."""

import hashlib
import os
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from service.errors import ModelContractUnknown, ModelNotFound
from service.http.app import create_app
from service.inference import synthesizer
from service.inference.catalog import Catalog
from service.inference.model_files import model_path, read_model
from service.inference.onnx_metadata import read_metadata
from service.settings import Settings
from tests.fake_finders import seen_right, tiny_finder
from tests.fakes import claim, hungry_model, tiny_model
from tests.service.shapes import check_problem, check_standard_headers


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A folder with a good model, one of another contract, one that is none, and an eye finder."""
    folder = tmp_path / "mounted"
    tiny_model(folder / "good.onnx")
    tiny_model(folder / "old.onnx", contract_version="0")
    tiny_finder(folder / "finder.onnx", [seen_right(100, 100, 40)])
    (folder / "rubbish.onnx").write_bytes(b"no model at all")
    return folder


def test_every_file_is_listed_with_what_it_says_or_its_problem(mounted: Path) -> None:
    entries = {entry.name: entry for entry in Catalog(mounted).list() if entry.source == "mounted"}
    assert set(entries) == {"good", "old", "finder", "rubbish"}
    assert entries["good"].info is not None and entries["good"].info.name == "tiny"
    assert entries["finder"].info is not None and entries["finder"].info.name == "tiny_finder"
    assert entries["good"].num_bytes == (mounted / "good.onnx").stat().st_size
    assert "contract version 0" in (entries["old"].problem or "")
    assert "cannot be loaded" in (entries["rubbish"].problem or "")
    assert not any(str(mounted) in (entry.problem or "") for entry in entries.values())


def test_the_shipped_model_is_listed() -> None:
    shipped = [entry for entry in Catalog(None).list() if entry.name == "synthesizer"]
    assert [(entry.source, entry.problem) for entry in shipped] == [("shipped", None)]


def test_a_file_is_read_once_and_again_when_it_changes(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(mounted)
    before = catalog.list()
    read: list[Path] = []

    def count(path: Path) -> bytes:
        read.append(path)
        return read_model(path)

    monkeypatch.setattr(synthesizer, "read_model", count)
    assert [entry.info for entry in catalog.list()] == [entry.info for entry in before]
    assert read == []
    tiny_model(mounted / "good.onnx", version="0.0.2")
    (mounted / "rubbish.onnx").unlink()
    entries = {entry.name: entry for entry in catalog.list()}
    assert read == [mounted / "good.onnx"]
    assert entries["good"].info is not None and entries["good"].info.version == "0.0.2"
    assert "rubbish" not in entries


def test_a_folder_that_is_not_there_is_no_empty_one(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="EYE2FACE_MODELS_DIR"):
        model_path("synthesizer", tmp_path / "nowhere")


def test_the_route_tells_size_part_license_training_data_metrics_and_who_answers(mounted: Path) -> None:
    settings = Settings(model="good", models_dir=str(mounted), device="cpu")
    with TestClient(create_app(settings)) as client:
        answer = client.get("/models")
        check_standard_headers(answer)
        document = answer.json()
        assert set(document) == {
            "answering", "device", "last_failure", "models", "not_for_identification", "request_id"
        }  # fmt: skip
        assert (document["device"], document["last_failure"]) == ("cpu", None)
        listed = {each["name"]: each for each in document["models"]}
        assert [name for name, each in listed.items() if each["answers"]] == ["good"]
        assert listed["good"]["about"] == document["answering"]
        about = document["answering"]
        assert (about["part"], about["licence_class"], about["training_data"]) == ("eye", "open", "none")
        assert (about["metrics"], about["eye_size"], about["face_size"]) == ({"l2": 0.5}, 64, 128)
        assert about["sha256"] == hashlib.sha256((mounted / "good.onnx").read_bytes()).hexdigest()
        assert listed["finder"]["about"]["part"] == "eye_finder"
        assert listed["rubbish"]["about"] is None and listed["rubbish"]["problem"]
        # The file changes, the model in memory does not.
        (mounted / "good.onnx").write_bytes(b"rubbish")
        document = client.get("/models").json()
        assert document["answering"] == about
        assert not any(each["answers"] for each in document["models"])


def test_metadata_without_bounds_is_the_problem_of_its_file_alone(mounted: Path) -> None:
    tiny_model(mounted / "deep.onnx", metrics="[" * 100_000)
    tiny_model(mounted / "long.onnx", name="n" * 50_000_000)
    tiny_model(mounted / "other.onnx", contract_version="9" * 1_000_000)
    tiny_model(mounted / "forged.onnx", version="1\nERROR: forged")
    (mounted / "cyclic.onnx").symlink_to("cyclic.onnx")
    os.mkfifo(mounted / "fifo.onnx")
    with (mounted / "large.onnx").open("wb") as file:
        file.truncate(3 << 30)
    settings = Settings(model="good", models_dir=str(mounted), device="cpu")
    with TestClient(create_app(settings)) as client:
        answer = client.get("/models")
    assert answer.status_code == 200 and len(answer.content) < 20_000
    problems = {each["name"]: each["problem"] for each in answer.json()["models"]}
    assert problems["good"] is None
    for name, told in {
        "deep": "at `$[0]`", "long": "bytes of metadata", "other": "contract version 9",
        "forged": "$.version", "cyclic": "cannot be read", "fifo": "Not a regular file",
        "large": "Larger than",
    }.items():  # fmt: skip
        assert told in problems[name]


def test_metadata_of_many_megabytes_are_not_decoded(tmp_path: Path) -> None:
    emojis = "a" * 1_000_000 + "\N{GRINNING FACE}"  # one makes the whole text four times as large
    path = claim(tiny_model(tmp_path / "heavy.onnx"), **{f"k{number}": emojis for number in range(30)})
    content = path.read_bytes()
    tracemalloc.start()
    try:
        with pytest.raises(ModelContractUnknown, match="bytes of metadata"):
            read_metadata(content, path)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_one_file_is_read_at_a_time(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, reading, most = Catalog(mounted), list[Path](), list[int]()

    def count(path: Path) -> bytes:
        reading.append(path)
        time.sleep(0.01)
        most.append(len(reading))
        reading.remove(path)
        return read_model(path)

    monkeypatch.setattr(synthesizer, "read_model", count)
    with ThreadPoolExecutor(4) as threads:
        listed = [running.result() for running in [threads.submit(catalog.list) for _ in range(4)]]
    assert set(most) == {1} and all(each == listed[0] for each in listed)


def test_a_name_that_is_no_text_does_not_spoil_the_list(mounted: Path) -> None:
    tiny_model(mounted / "fine.onnx").rename(mounted / os.fsdecode(b"\xff.onnx"))
    (mounted / os.fsdecode(b"\xfe.onnx")).mkdir()
    (mounted / os.fsdecode(b"\xfd.onnx")).symlink_to(mounted / "nowhere")
    with TestClient(create_app(Settings(models_dir=mounted, device="cpu"))) as client:
        listed = client.get("/models").json()["models"]
    assert [each["problem"] for each in listed if each["name"] == "?"] == [
        "?.onnx cannot be read (No such file or directory).",
        "?.onnx cannot be read (Is a directory): copy or export it again.",
        None,
    ]


def test_a_listed_model_is_not_loaded(mounted: Path) -> None:
    """Its constants alone would take 50 GB."""
    hungry_model(mounted / "hungry.onnx", 50 << 30, constant=True)
    entries = {entry.name: entry for entry in Catalog(mounted).list()}
    assert entries["hungry"].problem is None


def test_a_model_beside_the_folders_is_listed_too(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "mine.onnx")
    with TestClient(create_app(Settings(model=str(model), device="cpu"))) as client:
        document = client.get("/models").json()
    assert [(each["name"], each["source"]) for each in document["models"] if each["answers"]] == [
        ("mine", "path")
    ]
    assert str(tmp_path) not in str(document)


def test_the_route_wants_a_key_and_a_folder(mounted: Path) -> None:
    hashes = (hashlib.sha256(b"first").hexdigest(),)
    settings = Settings(model="good", models_dir=str(mounted), device="cpu", api_keys=hashes)
    with TestClient(create_app(settings)) as client:
        check_problem(client.get("/models"), 401, "unauthorized")
        key = {"X-API-Key": "first"}
        assert client.get("/models", headers=key).status_code == 200
        mounted.rename(mounted.with_name("gone"))
        check_problem(client.get("/models", headers=key), 503, "model_not_found")
