"""A finished autoencoder with fewer numbers between its layers, so that a face costs less.

Of what a layer gets, only some directions matter to what it gives: the best so many are kept, weighed by what
the layer sees of real eyes, and the one matrix becomes two of lower rank. A short training mends the rest.
Source: Zhang et al. 2015, "Accelerating very deep convolutional networks for classification and detection".
"""

import torch
from torch import Tensor, nn

from training.synthesizer.autoencoder import Autoencoder, ConvBlock, ModelConfig, not_squeezed

SMALLEST_PART = 1e-9
"""Of all energy, added to each direction's: it makes moments invertible that eyes do not fill."""


@torch.no_grad()
def squeeze(model: Autoencoder, config: ModelConfig, eyes_BCHW: Tensor) -> Autoencoder:
    """A model of `config` that draws nearly what `model` draws, in evaluation mode.

    `eyes_BCHW` (B x 3 x S x S in 0…1) say which directions matter.

    Raises:
        ValueError: `model` is not of the sizes of `config` before it is squeezed.
    """
    if model.config != not_squeezed(config):
        raise ValueError(f"a model of {config} is not squeezed from one of {model.config}")
    model = model.eval()
    seen = _what_layers_get(model, eyes_BCHW)
    squeezed = Autoencoder(config).eval()
    known = {name: each for name, each in model.state_dict().items() if not name.startswith("decoder.")}
    lower, raised = _factors(model.from_vector.weight, seen[model.from_vector], config.vector_size)
    known |= {
        "to_vector.weight": lower @ model.to_vector.weight,
        "to_vector.bias": lower @ model.to_vector.bias,
        "from_vector.weight": raised,
    }
    squeezed.load_state_dict(squeezed.state_dict() | known)
    enlarging = [each for each in squeezed.decoder if not isinstance(each, ConvBlock)]
    for old, new, enlarge in zip(_blocks(model), _blocks(squeezed), enlarging, strict=True):
        state = old.state_dict()
        if isinstance(enlarge, nn.Sequential):
            (narrow, _) = enlarge
            assert isinstance(narrow, nn.Conv2d)
            lower, raised = _factors(_flat(state["0.weight"]), seen[old], narrow.out_channels)
            narrow.weight.copy_(lower[:, :, None, None])
            state["0.weight"] = raised.reshape(-1, 3, 3, narrow.out_channels).permute(0, 3, 1, 2)
        new.load_state_dict(state)
    return squeezed


def _blocks(model: Autoencoder) -> list[ConvBlock]:
    return [each for each in model.decoder if isinstance(each, ConvBlock)]


def _flat(weights_OI33: Tensor) -> Tensor:
    """(O · 3 · 3) x I: what each place of a kernel takes of each channel."""
    return weights_OI33.permute(0, 2, 3, 1).flatten(0, 2)


def _what_layers_get(model: Autoencoder, eyes_BCHW: Tensor) -> dict[nn.Module, Tensor]:
    """Second moments C x C over eyes and places of what each layer that is squeezed gets."""
    seen: dict[nn.Module, Tensor] = {}

    def look(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        columns = inputs[0].transpose(0, 1).flatten(1).double()
        seen[layer] = columns @ columns.T / columns.shape[1]

    layers: list[nn.Module] = [model.from_vector, *_blocks(model)]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    model(eyes_BCHW)
    for hook in hooks:
        hook.remove()
    return seen


def _factors(weights_OI: Tensor, moments_II: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Matrices R x I and O x R whose product takes of such inputs most of what the weights take."""
    eye = torch.eye(len(moments_II), dtype=moments_II.dtype)
    root = torch.linalg.cholesky(moments_II + SMALLEST_PART * moments_II.trace() * eye)
    left, strength, right = torch.linalg.svd(weights_OI.double() @ root, full_matrices=False)
    # Half of the strength on either side, so that training moves both alike.
    share = strength[:rank].sqrt()
    lower = share[:, None] * torch.linalg.solve_triangular(root, right[:rank], upper=False, left=False)
    return lower.float(), (left[:, :rank] * share).float()
