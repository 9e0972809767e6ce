"""The judge of the sex that faces show, on embeddings that tell it in one direction."""

import numpy as np
import torch

from training.evaluation.judge import fit_judge


def embeddings(sexes: np.ndarray, seed: int) -> torch.Tensor:
    """Noise in 50 directions, more than there are faces in a fit, and the sex in one of them."""
    noise = torch.randn(len(sexes), 50, generator=torch.Generator().manual_seed(seed))
    noise[:, 3] += torch.from_numpy(np.where(sexes == "male", 4.0, -4.0)).float()
    return noise + 7


def test_faces_are_judged_by_what_tells_the_sexes_apart() -> None:
    learned, others = (np.array(["female", "male"] * num) for num in (20, 100))
    judge = fit_judge(embeddings(learned, 0), learned)
    assert (judge(embeddings(others, 1)) == others).mean() > 0.95
    assert judge.num_faces == 40


def test_the_rarer_sex_is_judged_as_well_as_the_other() -> None:
    learned, others = np.array(["male"] * 60 + ["female"] * 6), np.array(["female"] * 200)
    judge = fit_judge(embeddings(learned, 0), learned)
    assert (judge(embeddings(others, 1)) == others).mean() > 0.9
