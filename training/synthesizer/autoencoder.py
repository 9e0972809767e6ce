"""Convolutional autoencoder: one eye -> a vector -> one face; no convolution works at full size.

Letters of shapes: B batch, C channels, H and W height and width, S side of the eye, F of the face,
E numbers of a vector.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.errors import RecipeError


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Sizes of the autoencoder; the defaults cost 0.46 billion multiplications a face.

    With two eyes the person's other eye follows the first along the channels. `pixel_shuffle` is the factor
    of the last step, depth-to-space.
    """

    eye_size: int = 64
    face_size: int = 128
    encoder_widths: tuple[int, ...] = (32, 64, 128, 256)
    vector_size: int = 256
    decoder_widths: tuple[int, ...] = (256, 160, 96, 32)
    num_eyes: int = 1
    pixel_shuffle: int = 2

    @property
    def coarsest(self) -> int:
        """The side of the decoder's first features."""
        return self.face_size // (self.pixel_shuffle << len(self.decoder_widths))


class ConvBlock(nn.Sequential):
    """3 x 3 convolution, batch norm, leaky ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.LeakyReLU(0.1, inplace=True),
        )


class Autoencoder(nn.Module):
    """Faces B x 3 x F x F in 0…1 from eyes B x (3 · num_eyes) x S x S in 0…1.

    Blocks of convolution and max-pooling, flattened into a vector; blocks of upsampling and
    convolution; the last step to full size is depth-to-space, so that no convolution works on
    F x F pixels. Source: the seed's slides, "Autoencoder"; Shi et al. 2016, eq. 4 (depth-to-space).

    Raises:
        RecipeError: the sizes cannot be halved as often as there are blocks.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.smallest = config.eye_size >> len(config.encoder_widths)
        self.coarsest = config.coarsest
        if self.smallest < 1 or self.coarsest < 1:
            raise RecipeError(f"{config} has more blocks than its sizes can be halved")
        self.encoder = nn.Sequential()
        channels = 3 * config.num_eyes
        for width in config.encoder_widths:
            self.encoder.extend([ConvBlock(channels, width), nn.MaxPool2d(2)])
            channels = width
        self.to_vector = nn.Linear(channels * self.smallest**2, config.vector_size)
        channels = config.decoder_widths[0]
        self.from_vector = nn.Linear(config.vector_size, channels * self.coarsest**2)
        self.decoder = nn.Sequential()
        for width in config.decoder_widths:
            self.decoder.extend([nn.Upsample(scale_factor=2, mode="nearest"), ConvBlock(channels, width)])
            channels = width
        self.to_pixels = nn.Conv2d(channels, 3 * config.pixel_shuffle**2, 3, padding=1)
        _start_without_checkerboard(self.to_pixels, config.pixel_shuffle**2)

    def forward(self, eyes_BCHW: Tensor) -> Tensor:
        """Faces in 0…1, float32 whatever the precision of the inside."""
        return self.decode(self.encode(eyes_BCHW))

    def encode(self, eyes_BCHW: Tensor) -> Tensor:
        """The vectors of eyes, B x `vector_size`."""
        vectors: Tensor = self.to_vector(self.encoder(eyes_BCHW - 0.5).flatten(1))
        return vectors

    def decode(self, vectors_BE: Tensor) -> Tensor:
        """The faces of vectors, see `forward`."""
        coarse = self.from_vector(vectors_BE).unflatten(1, (-1, self.coarsest, self.coarsest))
        coarse = coarse.contiguous(memory_format=torch.channels_last)
        pixels = functional.pixel_shuffle(self.to_pixels(self.decoder(coarse)), self.config.pixel_shuffle)
        return torch.sigmoid(pixels.float())


def can_grow(start: ModelConfig, config: ModelConfig) -> bool:
    """Whether `grow` goes on from a model of `start`: all but the last block and the step to pixels fits."""
    kept = len(config.decoder_widths) - 1
    known, wanted = (
        replace(each, face_size=0, decoder_widths=each.decoder_widths[:kept], pixel_shuffle=0)
        for each in (start, config)
    )
    return known == wanted and start.coarsest == config.coarsest and len(start.decoder_widths) <= kept + 1


def grow(small: Autoencoder, config: ModelConfig) -> Autoencoder:
    """A model that goes on with the weights of `small`, but for the last block, if its width differs or it is
    new, and the step to pixels.

    Source: Karras et al. 2018 (progressive growing).

    Raises:
        RecipeError: the models do not fit, see `can_grow`.
    """
    if not can_grow(small.config, config):
        raise RecipeError(f"a model of {config} cannot go on from one of {small.config}")
    grown = Autoencoder(config)
    state = grown.state_dict()
    for name, each in small.state_dict().items():
        if not name.startswith("to_pixels.") and name in state and each.shape == state[name].shape:
            state[name] = each
    grown.load_state_dict(state)
    return grown


def _start_without_checkerboard(layer: nn.Conv2d, sub_pixels: int) -> None:
    """The sub-pixels of a color begin equal. Source: Aitken et al. 2017 (ICNR)."""
    with torch.no_grad():
        layer.weight.copy_(layer.weight[::sub_pixels].repeat_interleave(sub_pixels, dim=0))
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
