"""What a run of the synthesizer changes, at its first step and in a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from training.data.dataset import EyeFacePairs
from training.data.store import Pairs
from training.errors import RecipeError
from training.loop import checkpoint as checkpoints
from training.loop.checkpoint import State
from training.loop.loop import TrainState, ema_of
from training.synthesizer.autoencoder import Autoencoder, can_grow, grow
from training.synthesizer.discriminator import Discriminator, DiscriminatorConfig
from training.synthesizer.moments import RunningMoments
from training.synthesizer.objectives import OBJECTIVES
from training.synthesizer.recipes import Recipe
from training.synthesizer.vgg import VGGFeatures
from training.synthesizer.weights import config_of, load_weights

NUM_CALIBRATION_FACES = 256


@dataclass
class Adversary:
    """The discriminator of an adversarial run, as Fabric set it up, and its optimizer."""

    discriminator: nn.Module
    optimizer: Optimizer

    def state_dict(self) -> State:
        """What a checkpoint holds of it."""
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: State) -> None:
        """Goes back to a checkpoint."""
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])


@dataclass
class SynthesizerState(TrainState):
    """What a run of the synthesizer changes, and the frozen network that its losses look through."""

    features: VGGFeatures | None = None
    moments: RunningMoments | None = None
    adversary: Adversary | None = None

    def state_dict(self) -> State:
        """Everything that a checkpoint holds but the random states."""
        return {
            **super().state_dict(),
            "feature_scales": None if self.features is None else self.features.scales,
            "moments": None if self.moments is None else self.moments.state_dict(),
            "adversary": None if self.adversary is None else self.adversary.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Goes back to a checkpoint, random states included."""
        if self.features is not None:
            self.features.scales.copy_(state["feature_scales"])
        if self.moments is not None:
            self.moments.load_state_dict(state["moments"])
        if self.adversary is not None:
            self.adversary.load_state_dict(state["adversary"])
        super().load_state_dict(state)


def check_fits(recipe: Recipe, pairs: Pairs, start_from: Path | None) -> None:
    """Returns if the recipe can be run on the pairs and begin with these weights.

    Raises:
        RecipeError: pairs or weights are of sizes that do not lead to its model.
        RunNotFound: there are no weights at the path.
    """
    eye_size, face_size, model = pairs.eyes.shape[2], pairs.faces.shape[1], recipe.model
    if eye_size != model.eye_size or face_size < model.face_size:
        raise RecipeError(
            f"the pairs have eyes of {eye_size} px and faces of {face_size} px, the recipe {recipe.name!r} "
            f"wants eyes of {model.eye_size} px and faces of {model.face_size} px or more: prepare them so"
        )
    if start_from is None:
        return
    start = config_of(start_from)
    if start != recipe.model and not can_grow(start, recipe.model):
        raise RecipeError(
            f"{start_from} holds a model of {start}, the recipe {recipe.name!r} wants {recipe.model}"
        )


def begin(
    fabric: Fabric,
    recipe: Recipe,
    dataset: EyeFacePairs,
    features: VGGFeatures | None,
    folder: Path,
    start_from: Path | None,
) -> SynthesizerState:
    """The state at the folder's checkpoint or, without one, before the first step."""
    saved = checkpoints.load(folder)
    plain = _initial_model(recipe, start_from if saved is None else None)
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = ema_of(plain).to(fabric.device)
    optimizer = AdamW(plain.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    model, optimizer = fabric.setup(plain, optimizer)
    state = SynthesizerState(model, optimizer, ema)
    objective = OBJECTIVES[recipe.objective]
    if features is not None:
        if saved is None:
            features.calibrate(_calibration_faces(dataset))
        state.features = features.to(fabric.device)
    if objective.needs_moments:
        state.moments = RunningMoments(fabric.device)
    if objective.discriminator is not None:
        state.adversary = _begin_adversary(fabric, objective.discriminator, recipe.model.num_eyes)
    if saved is not None:
        state.load_state_dict(saved)
    return state


def _initial_model(recipe: Recipe, start_from: Path | None) -> Autoencoder:
    if start_from is None:
        return Autoencoder(recipe.model)
    start = load_weights(start_from)
    return start if start.config == recipe.model else grow(start, recipe.model)


def _calibration_faces(dataset: EyeFacePairs) -> Tensor:
    """Some hundred faces from all over the dataset, in 0…1."""
    step = max(1, len(dataset) // NUM_CALIBRATION_FACES)
    return torch.stack([dataset[i][1] for i in range(0, len(dataset), step)]).float() / 255


def _begin_adversary(fabric: Fabric, config: DiscriminatorConfig, num_eyes: int) -> Adversary:
    plain = Discriminator(config, num_eyes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Source of the betas: Radford et al. 2016 (DCGAN); a longer memory lets the two chase each other.
    optimizer = AdamW(plain.parameters(), lr=config.learning_rate, betas=(0.5, 0.999), weight_decay=0.0)
    return Adversary(*fabric.setup(plain, optimizer))
