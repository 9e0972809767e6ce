"""One step of training: features, moments, losses, weights.

Letters of shapes: B batch, C channels, H and W height and width.
"""

from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from training.synthesizer import losses
from training.synthesizer.moments import random_directions
from training.synthesizer.objectives import LossInputs, Objective
from training.synthesizer.state import Adversary, SynthesizerState
from training.synthesizer.vgg import VGGFeatures


def train_step(
    fabric: Fabric, state: SynthesizerState, objective: Objective, batch: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """Moves the discriminator, if there is one, then the model; returns the step's loss terms by name.

    `batch` are eyes and faces as uint8; see the table in `training.synthesizer.train`.
    """
    eyes, faces = (_to_unit(part) for part in batch)
    state.model.train()
    pred = state.model(eyes)
    discriminator_terms: dict[str, Tensor] = {}
    inputs: dict[str, Any] = {}
    if state.features is not None:
        inputs |= _feature_inputs(fabric, state, state.features, pred, faces)
        if objective.needs_directions:  # of each layer 64 times what a face has
            inputs["directions"] = random_directions(inputs["true_features"])
    if state.adversary is not None:
        loss = _step_discriminator(fabric, state.adversary, pred.detach(), faces, eyes)
        discriminator_terms["discriminator"] = loss
        inputs["pred_scores"] = _score(fabric, state.adversary.discriminator, pred, eyes)
    total, terms = objective(LossInputs(pred, faces, **inputs))
    state.optimizer.zero_grad(set_to_none=True)
    fabric.backward(total)
    state.optimizer.step()
    return {"total": total.detach(), **terms, **discriminator_terms}


def _feature_inputs(
    fabric: Fabric, state: SynthesizerState, features: VGGFeatures, pred: Tensor, true: Tensor
) -> dict[str, Any]:
    """The fields of `LossInputs` that the perceptual network decides."""
    with fabric.autocast():
        with torch.no_grad():
            true_features = features(true)
        pred_features = features(pred)
    inputs = {
        "pred_features": pred_features, "true_features": true_features, "layer_weights": features.weights,
    }  # fmt: skip
    if state.moments is not None:
        state.moments.update(true_features)
        inputs["target_means"] = state.moments.mean()
        inputs["target_stds"] = state.moments.std(len(pred) * fabric.world_size)
    return inputs


def _step_discriminator(
    fabric: Fabric, adversary: Adversary, pred: Tensor, true: Tensor, eyes: Tensor
) -> Tensor:
    # Both halves in one call, so that the spectral norms are estimated once.
    scores = adversary.discriminator(torch.cat([pred, true]), torch.cat([eyes, eyes]))
    loss = losses.hinge(scores[: len(pred)], scores[len(pred) :])
    adversary.optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    adversary.optimizer.step()
    return loss.detach()


def _score(fabric: Fabric, discriminator: nn.Module, pred: Tensor, eyes: Tensor) -> Tensor:
    """Scores without a gradient for the discriminator's weights, past the wrapper that would share them."""
    plain = discriminator.module
    assert isinstance(plain, nn.Module)
    plain.requires_grad_(False)
    with fabric.autocast():
        scores: Tensor = plain(pred, eyes)
    plain.requires_grad_(True)
    return scores


def _to_unit(pixels_BCHW: Tensor) -> Tensor:
    return (pixels_BCHW.float() / 255).contiguous(memory_format=torch.channels_last)
