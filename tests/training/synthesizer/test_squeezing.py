"""A squeezed model draws nearly what it was made from, costs less, and a run can begin with one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.training.exported import FACTS
from training.data.store import Pairs
from training.export.importing import read_exported
from training.export.onnx import export
from training.loop.previews import draw_faces
from training.loop.run_folder import load_average
from training.synthesizer.autoencoder import Autoencoder, ModelConfig, not_squeezed, num_macs
from training.synthesizer.recipes import RECIPES
from training.synthesizer.squeezing import squeeze
from training.synthesizer.train import RunSettings, train

NARROW = ModelConfig(vector_size=96, squeezed_widths=(128, 160, 96, 64))
SLIM = replace(
    RECIPES["std-128-slim"], num_steps=3, batch_size=8, warmup_steps=1, objective="l1", precision="32-true"
)


@pytest.fixture(scope="module")
def whole(eyes: Tensor) -> Autoencoder:
    """A model whose norms know these eyes, with a vector of which only 40 numbers are free."""
    torch.manual_seed(0)
    model = Autoencoder(ModelConfig(face_size=64, decoder_widths=(48, 32, 24)))
    with torch.no_grad():
        model.to_vector.weight[40:] = torch.randn(216, 40) @ model.to_vector.weight[:40] / 6
        for _ in range(30):
            model(eyes)
    return model.eval()


def difference(whole: Autoencoder, config: ModelConfig, eyes: Tensor) -> float:
    """Mean difference, over how much the faces differ from one another."""
    with torch.no_grad():
        drawn, expected = squeeze(whole, config, eyes)(eyes), whole(eyes)
    return float((drawn - expected).abs().mean() / expected.std(0).mean())


def test_what_carries_nothing_is_left_out_without_a_trace(whole: Autoencoder, eyes: Tensor) -> None:
    # 40 free numbers and the constant one of the bias.
    assert difference(whole, replace(whole.config, vector_size=41), eyes) < 1e-3
    assert difference(whole, replace(whole.config, squeezed_widths=(48, 48, 32)), eyes) < 1e-3


def test_the_less_is_left_the_more_the_faces_differ(whole: Autoencoder, eyes: Tensor) -> None:
    widths = [(32, 32, 24), (16, 16, 12), (4, 4, 4)]
    differences = [difference(whole, replace(whole.config, squeezed_widths=each), eyes) for each in widths]
    assert 0.01 < differences[0] < 0.9 * differences[1] < 0.8 * differences[2]


def test_what_eyes_do_counts_more_than_large_weights(whole: Autoencoder, eyes: Tensor) -> None:
    # The same rank from the weights alone, as a plain singular value decomposition would have it.
    config = replace(whole.config, vector_size=12)
    plain = Autoencoder(config).eval()
    left, strength, right = torch.linalg.svd(whole.from_vector.weight.detach(), full_matrices=False)
    state = whole.state_dict()
    state["to_vector.weight"] = right[:12] @ whole.to_vector.weight.detach()
    state["to_vector.bias"] = right[:12] @ whole.to_vector.bias.detach()
    state["from_vector.weight"] = left[:, :12] * strength[:12]
    plain.load_state_dict(state)
    with torch.no_grad():
        expected = whole(eyes)
        by_weights = float((plain(eyes) - expected).abs().mean() / expected.std(0).mean())
    assert difference(whole, config, eyes) < 0.8 * by_weights


def test_blocks_that_are_not_squeezed_stay_as_they_are(whole: Autoencoder, eyes: Tensor) -> None:
    squeezed = squeeze(whole, replace(whole.config, squeezed_widths=(0, 16, 0)), eyes)
    kept = {name: each for name, each in whole.state_dict().items() if name.startswith("decoder.5.")}
    assert kept
    assert all(torch.equal(squeezed.state_dict()[name], each) for name, each in kept.items())


def test_a_model_of_other_sizes_is_refused(whole: Autoencoder, eyes: Tensor) -> None:
    with pytest.raises(ValueError, match="is not squeezed from"):
        squeeze(whole, NARROW, eyes)


def test_as_many_widths_as_blocks_are_wanted() -> None:
    with pytest.raises(ValueError, match="squeezed widths"):
        Autoencoder(ModelConfig(squeezed_widths=(8, 8)))


def test_the_recipe_saves_a_third_and_half_of_the_weights() -> None:
    before, after = ModelConfig(), RECIPES["std-128-slim"].model
    assert not_squeezed(after) == before
    assert num_macs(after) < 0.75 * num_macs(before)
    sizes = [sum(each.numel() for each in Autoencoder(config).parameters()) for config in (after, before)]
    assert sizes[0] < 0.65 * sizes[1]


def test_a_run_begins_with_a_model_and_squeezes_it_and_its_file_comes_back(
    drawn_pairs: Pairs, eyes: Tensor, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    whole = replace(SLIM, model=ModelConfig(), squeeze=False)
    train(whole, drawn_pairs, RunSettings(first, "", accelerator="cpu"))
    run = tmp_path / "run"
    train(SLIM, drawn_pairs, RunSettings(run, "", start_from=first, accelerator="cpu"))
    average = load_average(run)
    assert average.config == SLIM.model
    path = tmp_path / "slim.onnx"
    assert export(run, path, FACTS, drawn_pairs.eyes[:, 0]) <= 1
    read = read_exported(path, SLIM.model, eyes)
    drawn = draw_faces(read, drawn_pairs.eyes[:, 1]).astype(int)
    assert np.abs(drawn - draw_faces(average, drawn_pairs.eyes[:, 1])).max() <= 1
    # What is squeezed already is gone on with as it is, a file and a run.
    still = replace(SLIM, num_steps=1, learning_rate=0.0, ema_decay=1.0)
    for start in (path, run):
        again = tmp_path / f"again-{start.suffix}"
        train(still, drawn_pairs, RunSettings(again, "", start_from=start, accelerator="cpu"))
        weights = load_average(again).from_vector.weight
        torch.testing.assert_close(weights, average.from_vector.weight, atol=1e-3, rtol=1e-2)


def test_a_run_that_squeezes_must_begin_with_something(drawn_pairs: Pairs, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name it with --start-from"):
        train(SLIM, drawn_pairs, RunSettings(tmp_path / "run", "", accelerator="cpu"))
    assert not (tmp_path / "run").exists()
