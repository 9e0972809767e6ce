"""One training run: a loop on Lightning Fabric that can be killed at any step and goes on exactly there.

A run's folder holds `run.json` (recipe, seed, data, precision, commit), `checkpoint.pt`, `stats.jsonl` (one
line per logged step), `curves.png` and `grid.png` (real faces: keep it out of any repository).
Letters of shapes: B batch, C channels, H and W height and width.
"""

import copy
import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.utils.data import DataLoader
from tqdm import tqdm

from training.data.dataset import EyeFacePairs, ResumableSampler
from training.data.store import Pairs
from training.loop import checkpoint as checkpoints
from training.loop import previews as pictures
from training.loop.precision import usable_precision
from training.loop.run_folder import Stats, is_finished, load_average, read_description
from training.synthesizer.autoencoder import Autoencoder, grow
from training.synthesizer.discriminator import Critic, CriticConfig
from training.synthesizer.moments import TargetStatistics
from training.synthesizer.objectives import OBJECTIVES, Objective
from training.synthesizer.recipes import FinderRecipe, Precision, Recipe, RefinerRecipe, completed, describe
from training.synthesizer.regions import place_weights
from training.synthesizer.step import Adversary, Run, make_step
from training.synthesizer.vgg import Features, load_features, training_layers

NUM_CALIBRATION_FACES = 256
NUM_GRID_EYES = 12


class RunConflict(Exception):
    """The folder holds a run of another recipe, seed or data."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Where and how a recipe runs; of it only the seed and the start change the result on one machine.

    `start_from` is the folder of a finished run, whose averaged weights this one begins with.
    """

    folder: Path
    perceptual: str
    seed: int = 0
    start_from: Path | None = None
    accelerator: str = "auto"
    devices: int = 1
    num_workers: int = 0
    checkpoint_every: int = 200
    log_every: int = 20
    picture_every: int = 1000


def train(recipe: Recipe, pairs: Pairs, settings: RunSettings) -> Path:
    """Runs the recipe to its last step, from its checkpoint if there is one, and returns the folder.

    Raises:
        RunConflict: the folder belongs to another run.
        FeaturesUnavailable: the objective needs features and there are none.
        ValueError: the pairs have other sizes than the recipe's model; it grows and nothing is named to
            start from, or the model to start from has other sizes.
        DataError: they have no crops of the recipe's part.
    """
    pairs = pairs.of_part(recipe.part)
    check_sizes(recipe, pairs)
    if recipe.grow and settings.start_from is None:
        raise ValueError(f"the recipe {recipe.name!r} goes on from a model: name it with --start-from")
    keep_freed_memory()
    precision = usable_precision(recipe.precision, settings.accelerator)
    fabric = Fabric(
        accelerator=settings.accelerator,
        devices=settings.devices,
        strategy="ddp" if settings.devices > 1 else "auto",
        precision=precision,
    )
    fabric.launch()
    fabric.seed_everything(settings.seed, verbose=False)
    objective = OBJECTIVES[recipe.objective]
    layers = training_layers(settings.perceptual, recipe.convs)
    features = load_features(settings.perceptual, layers) if objective.needs_features else None
    if fabric.is_global_zero:
        if precision != recipe.precision:
            tqdm.write(f"bfloat16 would be emulated here: {recipe.name} computes in float32", file=sys.stderr)
        _claim_folder(recipe, pairs, settings, features, precision)
    fabric.barrier()
    dataset = EyeFacePairs(
        pairs, "train", jitter=recipe.jitter, seed=settings.seed, num_eyes=recipe.model.num_eyes
    )
    run = begin_run(fabric, recipe, dataset, settings, features)
    loader = fabric.setup_dataloaders(
        make_loader(fabric, dataset, recipe, settings, run.step), use_distributed_sampler=False
    )
    assert not isinstance(loader, list)
    batches: Iterator[tuple[Tensor, Tensor]] = iter(loader)
    stats = Stats(settings.folder, run.step, every=settings.log_every) if fabric.is_global_zero else None
    with tqdm(total=recipe.num_steps, initial=run.step, desc=recipe.name, disable=stats is None) as bar:
        while run.step < recipe.num_steps:
            _set_learning_rate(run.optimizer, recipe, run.step)
            terms = make_step(fabric, run, objective, next(batches))
            update_average(run.average, run.model, decay_at(recipe.ema_decay, run.step))
            run.step += 1
            bar.update()
            if stats is not None:
                stats.add(run.step, terms, last=run.step == recipe.num_steps)
                _write_now_and_then(run, recipe, pairs, settings)
    fabric.barrier()
    return settings.folder


def learning_rate(recipe: Recipe | FinderRecipe | RefinerRecipe, step: int) -> float:
    """Warm-up, constant, then down to zero over the last part in a straight line.

    Source: Hägele et al. 2024 ("warm-up, stable, decay"): the length may change until the cooldown.
    """
    warmup = min(1.0, (step + 1) / recipe.warmup_steps)
    cooldown = min(1.0, (recipe.num_steps - step) / max(1.0, recipe.cooldown_part * recipe.num_steps))
    return recipe.learning_rate * min(warmup, cooldown)


def decay_at(decay: float, step: int) -> float:
    """The average's decay, smaller in the first steps so that the start is forgotten."""
    return min(decay, (1 + step) / (10 + step))


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Moves the average towards the model: weights and batch-norm statistics, counters copied."""
    for averaged, current in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if averaged.is_floating_point():
            averaged.lerp_(current, 1 - decay)
        else:
            averaged.copy_(current)


def keep_freed_memory() -> None:
    """Tells glibc to keep big freed blocks: handing them back and faulting them in again costs more
    than half of a step on a CPU (measured: 16 against 8 ms a face in the perceptual network)."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # not glibc: other allocators keep memory by themselves
        return
    m_trim_threshold, m_mmap_threshold = -1, -3
    libc.mallopt(m_mmap_threshold, 1 << 30)
    libc.mallopt(m_trim_threshold, (1 << 31) - 1)


def begin_run(
    fabric: Fabric, recipe: Recipe, dataset: EyeFacePairs, settings: RunSettings, features: Features | None
) -> Run:
    """What a run is at its checkpoint or, without one, at its start; nothing is written."""
    plain = Autoencoder(recipe.model)
    state = checkpoints.load(settings.folder)
    if state is None and settings.start_from is not None:
        start = load_average(settings.start_from)
        if recipe.grow:
            start = grow(start, recipe.model)
        if start.config != recipe.model:
            raise ValueError(
                f"{settings.start_from} holds a model of {start.config}, expected {recipe.model}"
            )
        plain = start
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(plain).requires_grad_(False).eval()
    optimizer = AdamW(plain.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    model, optimizer = fabric.setup(plain, optimizer)
    objective = OBJECTIVES[recipe.objective]
    if features is not None:
        if state is None:
            features.calibrate(_calibration_faces(dataset))
        features.to(fabric.device)
    run = Run(model, optimizer, average.to(fabric.device), features)
    if objective.needs_statistics:
        run.statistics = TargetStatistics()
    if recipe.background_weight != 1:
        weights = place_weights(recipe.model.face_size, recipe.background_weight)
        run.places = weights.to(fabric.device)
    if objective.critic is not None:
        run.adversary = _make_adversary(fabric, objective.critic, recipe)
    if state is not None:
        run.restore(state, fabric.device)
    return run


def _make_adversary(fabric: Fabric, config: CriticConfig, recipe: Recipe) -> Adversary:
    critic = Critic(config, recipe.model.num_eyes).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Source of the betas: Radford et al. 2016 (DCGAN); a longer memory lets the two chase each other.
    optimizer = AdamW(critic.parameters(), lr=config.learning_rate, betas=(0.5, 0.999), weight_decay=0.0)
    return Adversary(*fabric.setup(critic, optimizer))


def _calibration_faces(dataset: EyeFacePairs) -> Tensor:
    """Some hundred faces from all over the dataset, in 0…1."""
    step = max(1, len(dataset) // NUM_CALIBRATION_FACES)
    return torch.stack([dataset[i][1] for i in range(0, len(dataset), step)]).float() / 255


def make_loader(
    fabric: Fabric, dataset: EyeFacePairs, recipe: Recipe, settings: RunSettings, first_step: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of eyes and faces from the step on, without end; this process's part of each."""
    sampler = ResumableSampler(
        dataset.balanced_weights(recipe.source_power), recipe.batch_size, seed=settings.seed,
        first_step=first_step, rank=fabric.global_rank, world_size=fabric.world_size,
    )  # fmt: skip
    # A generator of its own: making an iterator draws from it, which a run that resumes does again.
    return DataLoader(
        dataset, batch_sampler=sampler, num_workers=settings.num_workers, generator=torch.Generator(),
        persistent_workers=settings.num_workers > 0, pin_memory=fabric.device.type == "cuda",
    )  # fmt: skip


def _set_learning_rate(optimizer: Optimizer, recipe: Recipe, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(recipe, step)


def _write_now_and_then(run: Run, recipe: Recipe, pairs: Pairs, settings: RunSettings) -> None:
    last = run.step == recipe.num_steps
    if last or run.step % settings.checkpoint_every == 0:
        checkpoints.save(settings.folder, run.state())
    if last or run.step % settings.picture_every == 0:
        pictures.draw_curves(settings.folder)
        pictures.draw_grid(run.average, pairs, settings.folder / "grid.png", num_eyes=NUM_GRID_EYES)


def check_sizes(recipe: Recipe, pairs: Pairs) -> None:
    """Returns if the pairs have the sizes of the recipe's model.

    Raises:
        ValueError: they have others.
    """
    found = pairs.eyes.shape[2], pairs.faces.shape[1]
    if found != (recipe.model.eye_size, recipe.model.face_size):
        raise ValueError(
            f"the pairs have eyes and faces of {found} px, the recipe {recipe.name!r} wants "
            f"{(recipe.model.eye_size, recipe.model.face_size)}: prepare them at these sizes"
        )


def _claim_folder(
    recipe: Recipe, pairs: Pairs, settings: RunSettings, features: Features | None, precision: Precision
) -> None:
    """Writes what the run is, or compares it with what an earlier start wrote; the length may differ.

    So may the precision: a run that goes on on another machine computes in what that one has. Where nothing
    is left to compute the file stays as it is.
    """
    described = {
        "recipe": describe(recipe),
        **described_objective(OBJECTIVES[recipe.objective]),
        "layers": [layer.name for layer in features.layers] if features else [],
        "seed": settings.seed,
        "start_from": None if settings.start_from is None else read_description(settings.start_from),
        "data": {"settings": pairs.manifest["settings"], "rows_sha256": pairs.manifest["rows_sha256"],
                 "rows_by_licence": pairs.manifest["rows_by_licence"]},
    }  # fmt: skip
    settings.folder.mkdir(parents=True, exist_ok=True)
    path = settings.folder / "run.json"
    if path.exists():
        earlier = json.loads(path.read_text())
        earlier["recipe"] = completed(earlier["recipe"])
        for key, value in described.items():
            if _but_length(earlier.get(key)) != _but_length(value):
                raise RunConflict(
                    f"{settings.folder} holds a run with another {key}: {earlier.get(key)}, now {value}. "
                    "Choose another folder, or remove it to begin anew"
                )
    if is_finished(settings.folder, recipe.num_steps):
        return
    of_this_start = {"precision": precision, "commit": commit_hash()}
    path.write_text(json.dumps({**described, **of_this_start}, indent=1) + "\n")


def described_objective(objective: Objective) -> dict[str, Any]:
    """An objective as JSON: its weights and, if there is one, its critic."""
    critic = None if objective.critic is None else json.loads(json.dumps(asdict(objective.critic)))
    return {"objective": dict(objective.weights), "critic": critic}


def _but_length(value: Any) -> Any:
    return {k: v for k, v in value.items() if k != "num_steps"} if isinstance(value, dict) else value


def commit_hash() -> str:
    """The repository's commit, with `+` if code differs from it, or "unknown" outside a repository.

    Only code counts: the experiment's results are committed, and grow while it runs.
    """
    folder = Path(__file__).parent
    try:
        head = ["git", "rev-parse", "--short=12", "HEAD"]
        commit = subprocess.run(head, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
        differ = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ":(top)*.py"], cwd=folder).returncode
        return commit + ("+" if differ else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
