"""A run computes in bfloat16 only where the machine has it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.tiny import TINY
from training.data.store import Pairs
from training.loop.precision import cpu_has_bfloat16, usable_precision
from training.synthesizer.train import RunSettings, train


def test_it_is_said_of_this_processor_as_linux_says_it() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    assert cpu_has_bfloat16() == bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags))


@pytest.mark.parametrize(("unit", "usable"), [
    ("avx512_bf16", "bf16-mixed"), ("amx_bf16", "bf16-mixed"), ("bf16", "bf16-mixed"), ("avx2", "32-true"),
])  # fmt: skip
def test_bfloat16_is_taken_where_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, unit: str, usable: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {unit: True, "amx_tile": False})
    assert usable_precision("bf16-mixed", "cpu") == usable
    assert usable_precision("32-true", "cpu") == "32-true"


@pytest.mark.parametrize("has_it", [True, False])
def test_a_gpu_is_asked_where_one_is_used(monkeypatch: pytest.MonkeyPatch, has_it: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": not has_it})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: has_it)
    assert (usable_precision("bf16-mixed", "auto") == "bf16-mixed") is has_it
    assert (usable_precision("bf16-mixed", "cuda") == "bf16-mixed") is has_it
    assert (usable_precision("bf16-mixed", "cpu") == "bf16-mixed") is not has_it


def test_a_run_says_in_what_it_computed_and_goes_on_where_that_differs(
    tmp_path: Path, tiny_pairs: Pairs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(TINY, precision="bf16-mixed", num_steps=1)
    settings = RunSettings(tmp_path, "", accelerator="cpu", preview_every=0)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    train(recipe, tiny_pairs, settings)
    assert json.loads((tmp_path / "run.json").read_text())["precision"] == "32-true"
    assert "tiny computes in float32" in capsys.readouterr().err
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    train(replace(recipe, num_steps=2), tiny_pairs, settings)
    assert json.loads((tmp_path / "run.json").read_text())["precision"] == "bf16-mixed"
