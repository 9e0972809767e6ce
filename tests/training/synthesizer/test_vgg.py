"""Perceptual networks: the three sources of weights, their layers and scales, and the download."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.perceptual import write_archives, write_torchvision
from training.errors import FeaturesUnavailable
from training.synthesizer import vgg as features_module
from training.synthesizer.vgg import (
    CONVS,
    REPORT_CONVS,
    Layer,
    load_features,
    report_layers,
    training_layers,
)

TORCHVISION = tuple(Layer("torchvision", conv) for conv in REPORT_CONVS)


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    return write_archives(tmp_path)


def test_the_two_archives_give_the_report_layers(archives: Path) -> None:
    found = load_features(str(archives), report_layers(str(archives)))
    assert [layer.name for layer in found.layers] == [
        "genuine relu1_1", "genuine relu2_1", "genuine relu3_1", "distilled relu4_1", "distilled relu5_1",
    ]  # fmt: skip
    sizes = [activations.shape[2] for activations in found(torch.rand(2, 3, 32, 32))]
    assert sizes == [32, 16, 8, 4, 2]


def test_torchvisions_file_runs_as_the_same_layers_in_plain_torch(tmp_path: Path) -> None:
    path, plain = write_torchvision(tmp_path / "vgg19.pth")
    faces = torch.rand(2, 3, 32, 32)
    (found,) = load_features(str(path), (Layer("torchvision", "3_1"),))(faces)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalized = (faces - mean.reshape(1, 3, 1, 1)) / deviation.reshape(1, 3, 1, 1)
    torch.testing.assert_close(found, plain[:12](normalized), rtol=1e-4, atol=1e-5)


def test_the_genuine_network_sees_bgr_minus_the_caffe_means(archives: Path) -> None:
    (found,) = load_features(str(archives), (Layer("genuine", "1_1"),))(torch.full((1, 3, 8, 8), 0.5))
    arrays = np.load(archives / features_module.GENUINE_FILE)
    conv = nn.Conv2d(3, 4, 3, padding=1)
    weight, bias = (torch.from_numpy(arrays[f"conv1_1.{kind}"]) for kind in ("weight", "bias"))
    conv.load_state_dict({"weight": weight, "bias": bias})
    bgr = torch.tensor([127.5 - 103.939, 127.5 - 116.779, 127.5 - 123.68]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(found, conv(bgr.expand(1, 3, 8, 8)).relu(), rtol=1e-4, atol=1e-3)


def test_calibrated_weights_divide_each_layer_by_its_mean_activation(archives: Path) -> None:
    found = load_features(str(archives), training_layers(str(archives), ("2_1", "3_1", "5_1")))
    faces = torch.rand(20, 3, 32, 32)
    found.calibrate(faces)
    means = [activations.mean().item() for activations in found(faces)]
    weighted = [weight * mean for weight, mean in zip(found.weights, means, strict=True)]
    assert weighted == pytest.approx([1 / len(means)] * len(means), rel=1e-4)


def test_features_are_frozen_but_pass_gradients_to_faces(archives: Path) -> None:
    found = load_features(str(archives), training_layers(str(archives), ("2_1", "3_1", "5_1")))
    assert not any(parameter.requires_grad for parameter in found.parameters())
    faces = torch.rand(2, 3, 32, 32, requires_grad=True)
    total = torch.stack([activations.sum() for activations in found(faces)]).sum()
    (gradient,) = torch.autograd.grad(total, faces)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("content", [b"", b"not a network", b"PK\x03\x04"])
def test_a_file_that_is_no_network_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vgg19.pth"
    path.write_bytes(content)
    with pytest.raises(FeaturesUnavailable, match=r"vgg19\.pth is not torchvision's"):
        load_features(str(path), TORCHVISION)


def test_a_missing_file_says_what_to_pass(tmp_path: Path) -> None:
    with pytest.raises(FeaturesUnavailable, match="--perceptual"):
        load_features(str(tmp_path / "absent.pth"), TORCHVISION)


def test_an_empty_folder_names_the_archive_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FeaturesUnavailable, match="vgg19_distilled_16x"):
        load_features(str(tmp_path), training_layers(str(tmp_path), ("1_1",)))


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Says nothing on the terminal."""


@pytest.fixture
def file_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def test_a_download_is_checked_cached_and_loaded(
    file_server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served = file_server
    path, _ = write_torchvision(served / "draft.pth")
    digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    path = path.rename(served / f"vgg19-{digits}.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    url = f"{address}/{path.name}"
    assert load_features(url, report_layers(url)).layers == TORCHVISION
    path.unlink()
    load_features(url, TORCHVISION)  # from the cache: the server has it no more


def test_a_download_with_another_checksum_is_thrown_away(
    file_server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served = file_server
    (served / "vgg19-00000000.pth").write_bytes(b"changed on the way")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with pytest.raises(FeaturesUnavailable, match=r'invalid hash value \(expected "00000000"'):
        load_features(f"{address}/vgg19-00000000.pth", TORCHVISION)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_server_without_the_file_says_how_to_go_on(
    file_server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with pytest.raises(FeaturesUnavailable, match=r"404.*--perceptual"):
        load_features(f"{file_server[0]}/vgg19-11111111.pth", TORCHVISION)


def test_all_sixteen_convolutions_are_named_in_order() -> None:
    assert len(CONVS) == 16 and CONVS[0] == "1_1" and CONVS[-1] == "5_4"
