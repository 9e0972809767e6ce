"""One step of a run, and everything that a step changes.

Letters of shapes: B batch, C channels, H and W height and width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from training.loop import checkpoint as checkpoints
from training.synthesizer import losses
from training.synthesizer.autoencoder import Autoencoder
from training.synthesizer.moments import TargetStatistics
from training.synthesizer.objectives import Batch, Objective
from training.synthesizer.vgg import Features


@dataclass(slots=True)
class Adversary:
    """The critic of an adversarial run, as Fabric set it up, and its optimizer."""

    critic: nn.Module
    optimizer: Optimizer

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold."""
        return {"critic": self.critic.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.critic.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])


@dataclass(slots=True)
class Run:
    """What changes while a run goes on."""

    model: nn.Module
    optimizer: Optimizer
    average: Autoencoder
    features: Features | None
    statistics: TargetStatistics | None = None
    adversary: Adversary | None = None
    places: Tensor | None = None
    step: int = 0

    def state(self) -> checkpoints.State:
        """Everything needed to go on at `step`."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "feature_scales": None if self.features is None else self.features.get_buffer("scales"),
            "statistics": None if self.statistics is None else self.statistics.state(),
            "adversary": None if self.adversary is None else self.adversary.state(),
        }

    def restore(self, state: checkpoints.State, device: torch.device) -> None:
        """Goes on from a state, random states included."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        if self.features is not None:
            self.features.get_buffer("scales").copy_(state["feature_scales"])
        if self.statistics is not None:
            self.statistics.restore(state["statistics"], device)
        if self.adversary is not None:
            self.adversary.restore(state["adversary"])
        checkpoints.restore_random(state)


def make_step(
    fabric: Fabric, run: Run, objective: Objective, batch: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """Moves the critic, if there is one, then the model; answers the terms that the step had."""
    eyes, faces = (_to_unit(part) for part in batch)
    run.model.train()
    pred = run.model(eyes)
    terms: dict[str, Tensor] = {}
    looks: dict[str, Any] = {}
    if run.features is not None:
        looks |= _features_of(fabric, run, objective, run.features, pred, faces)
    if run.adversary is not None:
        terms["critic"] = _step_critic(fabric, run.adversary, pred.detach(), faces, eyes)
        looks["pred_scores"] = _score(fabric, run.adversary.critic, pred, eyes)
    total, weighed = objective(Batch(pred, faces, places=run.places, **looks))
    run.optimizer.zero_grad(set_to_none=True)
    fabric.backward(total)
    run.optimizer.step()
    return {"total": total.detach(), **weighed, **terms}


def _features_of(
    fabric: Fabric, run: Run, objective: Objective, features: Features, pred: Tensor, true: Tensor
) -> dict[str, Any]:
    """What a batch has of features."""
    with fabric.autocast():
        with torch.no_grad():
            true_features = features(true)
        pred_features = features(pred)
    found = {
        "pred_features": pred_features, "true_features": true_features, "layer_weights": features.weights,
    }  # fmt: skip
    if run.statistics is not None:
        run.statistics.add(true_features)
        found["target_means"] = run.statistics.mean()
        found["target_stds"] = run.statistics.std(len(pred) * fabric.world_size)
        if objective.needs_directions:  # of each layer 64 times what a face has
            found["directions"] = run.statistics.directions(true_features)
    return found


def _step_critic(fabric: Fabric, adversary: Adversary, pred: Tensor, true: Tensor, eyes: Tensor) -> Tensor:
    # Both halves in one call, so that the spectral norms are estimated once.
    scores = adversary.critic(torch.cat([pred, true]), torch.cat([eyes, eyes]))
    loss = losses.hinge(scores[: len(pred)], scores[len(pred) :])
    adversary.optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    adversary.optimizer.step()
    return loss.detach()


def _score(fabric: Fabric, critic: nn.Module, pred: Tensor, eyes: Tensor) -> Tensor:
    """The critic's scores with no slope for its own weights, past the wrapper that would share them."""
    plain = critic.module
    assert isinstance(plain, nn.Module)
    plain.requires_grad_(False)
    with fabric.autocast():
        scores: Tensor = plain(pred, eyes)
    plain.requires_grad_(True)
    return scores


def _to_unit(pixels_BCHW: Tensor) -> Tensor:
    return (pixels_BCHW.float() / 255).contiguous(memory_format=torch.channels_last)
