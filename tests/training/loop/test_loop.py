"""The loop that every trainer runs: rates, averages, checkpoints and statistics of each step."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from training.errors import RunConflict, Stopped
from training.loop import checkpoint as checkpoints
from training.loop.loop import TrainState, begin, run_loop, train_network
from training.loop.run_folder import RunOutput, read_stats
from training.loop.schedule import Schedule, learning_rate

PLAN = Schedule(num_steps=4, learning_rate=9.0, weight_decay=0.0, warmup_steps=2)
EACH = {"checkpoint_every": 2, "log_every": 1}


def begun(settings: RunOutput) -> TrainState:
    torch.manual_seed(0)
    return begin(nn.Conv2d(3, 3, 1), PLAN, settings)


def stepping(state: TrainState, seen: list[float]) -> Callable[[], dict[str, Tensor]]:
    def take_step() -> dict[str, Tensor]:
        seen.append(state.optimizer.param_groups[0]["lr"])
        loss = state.model(torch.ones(1, 3, 2, 2)).square().mean()
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
        return {"loss": loss.detach()}

    return take_step


def test_each_step_has_the_learning_rate_of_the_schedule(tmp_path: Path) -> None:
    seen: list[float] = []
    state = begun(RunOutput(tmp_path, **EACH))
    run_loop(PLAN, state, stepping(state, seen), RunOutput(tmp_path, **EACH))
    assert seen == [learning_rate(PLAN, step) for step in range(4)]
    assert [line["step"] for line in read_stats(tmp_path)] == [1, 2, 3, 4]


def test_a_run_that_ended_early_goes_on_from_its_last_checkpoint_bitwise_the_same(tmp_path: Path) -> None:
    whole, killed = RunOutput(tmp_path / "whole", **EACH), RunOutput(tmp_path / "killed", **EACH)

    class Killed(Exception):
        pass

    def dies(step: int) -> None:
        if step == 3:
            raise Killed

    for settings in (whole, killed):
        settings.folder.mkdir()
    state = begun(whole)
    run_loop(PLAN, state, stepping(state, []), whole)
    state = begun(killed)
    with pytest.raises(Killed):
        run_loop(PLAN, state, stepping(state, []), killed, after_step=dies)
    state = begun(killed)
    assert state.step == 2
    run_loop(PLAN, state, stepping(state, []), killed)
    one, other = (checkpoints.load(settings.folder) for settings in (whole, killed))
    assert one is not None and other is not None
    for part in ("model", "average"):
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
    assert not torch.equal(one["model"]["weight"], one["average"]["weight"])
    assert [line["step"] for line in read_stats(killed.folder)] == [1, 2, 3, 4]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_told_to_stop_saves_its_step_and_goes_on_to_the_same_weights(
    tmp_path: Path, number: int
) -> None:
    whole, stopped = (RunOutput(tmp_path / name, checkpoint_every=100) for name in ("whole", "stopped"))
    for output in (whole, stopped):
        output.folder.mkdir()
    state = begun(whole)
    run_loop(PLAN, state, stepping(state, []), whole)
    expected = state.ema.state_dict()
    state, seen = begun(stopped), list[float]()
    take_step = stepping(state, seen)

    def is_stopped() -> dict[str, Tensor]:
        if len(seen) == 2:
            os.kill(os.getpid(), number)
        return take_step()

    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=r"3 of 4 steps are done and saved in .*; the same command goes on"):
        run_loop(PLAN, state, is_stopped, stopped)
    assert signal.getsignal(number) == before
    state = begun(stopped)
    assert state.step == 3
    run_loop(PLAN, state, stepping(state, []), stopped)
    assert all(torch.equal(state.ema.state_dict()[name], each) for name, each in expected.items())


def test_a_checkpoint_is_at_most_a_minute_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 30.0, 61.0, 61.0, 90.0])
    monkeypatch.setattr("training.loop.loop.time.monotonic", lambda: next(now))
    output = RunOutput(tmp_path, checkpoint_every=100)
    state, steps = begun(output), list[object]()

    class Killed(Exception):
        pass

    def dies(step: int) -> None:
        saved = checkpoints.load(tmp_path)
        steps.append(saved and saved["step"])
        if step == 3:
            raise Killed

    with pytest.raises(Killed):
        run_loop(PLAN, state, stepping(state, []), output, after_step=dies)
    assert steps == [None, 2, 2]


def test_a_network_is_trained_with_bounded_gradients(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)

    def loss(model: nn.Module, batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return 1e6 * model(batch).square().mean(), {}

    def batches(first_step: int) -> Iterator[tuple[Tensor]]:
        assert first_step == 0
        return iter([(torch.ones(3, 2),)] * PLAN.num_steps)

    model.eval()
    train_network(model, PLAN, RunOutput(tmp_path, **EACH), {"seed": 0}, batches, loss)
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    assert torch.cat([each.flatten() for each in gradients]).norm().item() == pytest.approx(5.0, rel=1e-3)
    assert model.training
    with pytest.raises(RunConflict, match="another seed"):
        train_network(model, PLAN, RunOutput(tmp_path, **EACH), {"seed": 1}, batches, loss)


def test_a_process_that_does_not_write_leaves_no_file(tmp_path: Path) -> None:
    state = begun(RunOutput(tmp_path, **EACH))
    run_loop(PLAN, state, stepping(state, []), RunOutput(tmp_path, **EACH), writes=False)
    assert state.step == 4 and list(tmp_path.iterdir()) == []
