"""The experiment: every objective and every baseline, trained with equal budgets and measured alike.

`PLAN` is the order. A run that stands in the results is skipped, so the same command goes on where it
was killed, and several processes may share the plan with `only`.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from service.system.host import count_cores
from training.data.dataset import EyeFacePairs
from training.data.splits import Split
from training.data.store import Pairs
from training.evaluation import systems
from training.evaluation.benchmark import Benchmark, make_benchmark
from training.evaluation.results import Row, append, has_row, read_results
from training.evaluation.simclr import EncoderRecipe, train_encoder
from training.evaluation.systems import MEAN_FACE, NEAREST_EYE, System
from training.loop.run_folder import RunOutput, commit_hash, read_description, read_stats
from training.synthesizer.objectives import OBJECTIVES, describe_objective
from training.synthesizer.recipes import RECIPES, Recipe, describe
from training.synthesizer.train import RunSettings, train

AMPLIFIED = "amplified l1"
BASELINES = {MEAN_FACE: None, NEAREST_EYE: None, AMPLIFIED: "l1-64"}
"""What needs no training, and the recipe whose run with seed 0 it is made of."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row to come: a recipe with a seed, or a baseline."""

    system: str
    seed: int = 0


_LADDER = (
    *("pixel-std-64", "pixel-stdmap-64", "layer-std-64", "moments-ema-64", "moments-ema-cov-64"),
    *("stdmap-ema-64", "stdmap-ema-dct-64"),
)
_REPEATED = ("l1-64", "layer-stdmap-64", "stdmap-ema-dct-64", "l2-layer-std-ema-64")
PLAN = (
    *(Entry(name) for name in ("l1-64", "layer-stdmap-64", MEAN_FACE, NEAREST_EYE, AMPLIFIED, "l2-64")),
    *(Entry(name) for name in ("feature-64", *_LADDER)),
    *(Entry(name) for name in ("gan-64", "cgan-64", "cgan-two-eyes-64")),
    Entry("l2-layer-std-ema-64"),
    *(Entry(name, seed) for seed in (1, 2) for name in _REPEATED),
)
"""The most important first."""


@dataclass(frozen=True)
class Experiment:
    """Where and how entries of the plan are made; `num_steps` replaces the recipes' length, for trials."""

    pairs: Pairs
    out: Path
    results: Path
    perceptual: str
    split: Split = "val"
    num_steps: int | None = None
    encoder: EncoderRecipe = field(default_factory=EncoderRecipe)
    accelerator: str = "auto"

    def run(self, plan: Iterable[Entry] = PLAN) -> None:
        """Appends a row for each entry that has none, one after another."""
        for entry in plan:
            known = self._described(entry)
            if not has_row(read_results(self.results), known):
                tqdm.write(f"{entry.system}, seed {entry.seed}")
                facts: Row = {"commit": commit_hash(), "cores": count_cores()}
                if entry.system not in BASELINES:
                    facts |= self._train(entry)
                append(self.results, {**known, **facts, **self._measured(entry)})

    @cached_property
    def benchmark(self) -> Benchmark:
        """What all systems are measured against, made when it is first needed."""
        encoder = train_encoder(self.encoder, self.pairs, RunOutput(self.out / "encoder"))
        return make_benchmark(self.pairs, self.split, self.perceptual, encoder)

    def _described(self, entry: Entry) -> Row:
        """What is known of a row before it is made."""
        described: Row = {**asdict(entry), "split": self.split}
        if entry.system not in BASELINES:
            recipe = self._recipe(entry)
            described["recipe"] = describe(recipe)
            described |= describe_objective(OBJECTIVES[recipe.objective])
        settings = self.pairs.manifest["settings"]
        described["data"] = {
            "source": settings["source"], "part": settings["part"], "face_size": settings["face_size"],
            "rows_sha256": self.pairs.manifest["rows_sha256"],
        }  # fmt: skip
        return described

    def _train(self, entry: Entry) -> Row:
        """Trains if need be, and tells how long it took."""
        recipe, folder = self._recipe(entry), self._folder(entry)
        settings = RunSettings(
            folder, self.perceptual, entry.seed, accelerator=self.accelerator, checkpoint_every=100
        )
        train(recipe, self.pairs, settings)
        lines = list(read_stats(folder))
        steps = np.diff([0, *(line["step"] for line in lines)])
        per_step = np.array([line["seconds_per_step"] for line in lines])
        described = read_description(folder)
        return {
            "seconds": round(float((steps * per_step).sum()), 1),
            "samples_per_second": round(recipe.batch_size / float(np.median(per_step)), 1),
            "precision": described["precision"],
            "commit": described["commit"],
        }

    def _measured(self, entry: Entry) -> Row:
        """The numbers of a system whose run, if it needs one, is finished."""
        benchmark, system = self.benchmark, self._system(entry)
        drawn = benchmark.draw(system)
        return {
            "measured_with": {
                "features": benchmark.features.describe(),
                "vgg": benchmark.spaces[0].network,
                "encoder": asdict(self.encoder),
            },
            "metrics": benchmark.measure({entry.system: drawn})[entry.system].numbers,
            "slices": benchmark.measure_regions(drawn) | benchmark.measure_corruptions(system),
        }

    def _system(self, entry: Entry) -> System:
        """What draws the faces of a row."""
        if entry.system == MEAN_FACE:
            return systems.mean_face(self.pairs)
        if entry.system == NEAREST_EYE:
            return systems.nearest_eye(self.pairs)
        if entry.system == AMPLIFIED:
            regressor = systems.load_system(self._folder(Entry("l1-64")))
            development = EyeFacePairs(self.pairs, "dev", num_eyes=self.pairs.eyes.shape[1])
            return systems.amplified(regressor, self.pairs, development)
        return systems.load_system(self._folder(entry))

    def _recipe(self, entry: Entry) -> Recipe:
        recipe = RECIPES[entry.system]
        return replace(recipe, num_steps=self.num_steps or recipe.num_steps)

    def _folder(self, entry: Entry) -> Path:
        return self.out / f"{entry.system.replace(' ', '-')}-seed{entry.seed}"
