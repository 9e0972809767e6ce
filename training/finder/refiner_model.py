"""The refiner's network, its loss and its augmentation: from a crop to whether and where it shows an eye.

Letters of shapes: B batch, C channels, H and W of the crop (both REFINER_INPUT_PX), 6 = LABELS.
Source: stages of a cascade that classify and regress at once, Zhang et al. 2016, "MTCNN".
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from service.inference.detector import REFINER_CROP_PER_EYE_DISTANCE, REFINER_INPUT_PX
from training.finder.refiner_crops import LABELS, WIDE_PX, WIDEN

_HALF_WIDE = WIDEN * REFINER_CROP_PER_EYE_DISTANCE / 2
"""Half a wide crop in eye distances of its candidate."""


def _conv(c_in: int, c_out: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class RefinerNet(nn.Module):
    """Answers B x 6 (see LABELS; logits where a label is 0 or 1) from crops B x 3 x H x W in 0…255."""

    def __init__(self, widths: Sequence[int] = (16, 32, 64, 64)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.body = nn.Sequential(
            _conv(3, a, 2, 5), _conv(a, b, 2), _conv(b, b), _conv(b, c, 2), _conv(c, c), _conv(c, d, 2),
        )  # fmt: skip
        self.head = nn.Sequential(
            nn.Linear(d * (REFINER_INPUT_PX // 16) ** 2, d),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Linear(d, len(LABELS)),
        )

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """The answers; each crop's mean and spread are taken out first, so that a dark one is no other."""
        mean = pixels_BCHW.mean((1, 2, 3), keepdim=True)
        spread = (pixels_BCHW - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
        out: Tensor = self.head(self.body((pixels_BCHW - mean) / (spread + 4)).flatten(1))
        return out


REGRESSION_WEIGHTS = (8.0, 8.0, 2.0, 4.0)
"""Of the place to the right and down, the size and the turn: their usual errors are 0.02 to 0.1."""


def refiner_loss(answers_B6: Tensor, labels_B6: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of the terms and the terms: is it an eye (focal); of eyes the absolute errors and the side.

    Source: focal loss with exponent 2, Lin et al. 2017.
    """
    answers_B6, shown_B = answers_B6.float(), labels_B6[:, 0]
    signed_B = answers_B6[:, 0] * (2 * shown_B - 1)
    num_eyes = shown_B.sum().clamp_min(1)
    errors_B4 = (answers_B6[:, 1:5] - labels_B6[:, 1:5]).abs() * shown_B[:, None]
    weights_4 = errors_B4.new_tensor(REGRESSION_WEIGHTS)
    side_B = F.binary_cross_entropy_with_logits(answers_B6[:, 5], labels_B6[:, 5], reduction="none") * shown_B
    terms = {
        "eye": (torch.sigmoid(-signed_B).square() * -F.logsigmoid(signed_B)).mean() * 8,
        "place": (errors_B4 * weights_4).sum() / num_eyes,
        "side": 0.3 * side_B.sum() / num_eyes,
    }
    return torch.stack(list(terms.values())).sum(), {name: term.detach() for name, term in terms.items()}


def augment_crops(wide_BCHW: Tensor, labels_B6: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Crops out of wide ones as if the detections were a little elsewhere, and labels that fit them.

    Shift, size and turn change by up to 0.08 eye distances, 15 % and 10 degrees, and the tone.
    """
    num = len(wide_BCHW)

    def draw(reach: float) -> Tensor:
        return (torch.rand(num, generator=random) * 2 - 1) * reach

    right, down, log_growth, turn = draw(0.08), draw(0.08), draw(0.15), draw(math.radians(10))
    grow, cos, sin = log_growth.exp(), turn.cos(), turn.sin()
    per_wide = REFINER_INPUT_PX / WIDE_PX  # part of the wide crop that a close one shows
    theta = torch.stack(
        [cos * grow * per_wide, -sin * grow * per_wide, right / _HALF_WIDE,
         sin * grow * per_wide, cos * grow * per_wide, down / _HALF_WIDE], 1,
    ).view(num, 2, 3)  # fmt: skip
    grid = F.affine_grid(theta, [num, 3, REFINER_INPUT_PX, REFINER_INPUT_PX], align_corners=False)
    close = F.grid_sample(wide_BCHW, grid, padding_mode="border", align_corners=False)
    gain, gamma = (1 + draw(0.3))[:, None, None, None], (draw(0.35)).exp()[:, None, None, None]
    close = ((close / 255).clamp_min(1e-4) ** gamma * gain).clamp(0, 1) * 255
    x, y = labels_B6[:, 1] - right, labels_B6[:, 2] - down
    moved = labels_B6.clone()
    moved[:, 1], moved[:, 2] = (x * cos + y * sin) / grow, (y * cos - x * sin) / grow
    moved[:, 3], moved[:, 4] = labels_B6[:, 3] - log_growth, labels_B6[:, 4] - turn
    return close, moved
