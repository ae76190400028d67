"""Other light and other colours."""

import torch
from torch import Tensor
from typing_extensions import override

from fvlightning.features.transforms.base import Transform, amounts, check_share


class ColorJitter(Transform):
    """Other brightness, contrast, saturation and tint, each drawn for each picture.

    Colours are not cut off at 0 and 1: a cut would stop the gradient of the brightest and darkest places.

    Args:
        brightness: Largest change of all channels together, added.
        contrast: Largest change of the distance to the picture's mean, as a share of it.
        saturation: Largest change of the distance to the channels' mean at each place, as a share of it. Of one channel
            there is none.
        shift: Largest change of each channel by itself, added: a tint. Of one channel it is brightness.

    Raises:
        InputError: A setting is negative, or contrast or saturation is 1 or more.
    """

    def __init__(
        self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2, shift: float = 0.1
    ) -> None:
        self.brightness = check_share("ColorJitter", "brightness", brightness)
        self.contrast = check_share("ColorJitter", "contrast", contrast, below=1)
        self.saturation = check_share("ColorJitter", "saturation", saturation, below=1)
        self.shift = check_share("ColorJitter", "shift", shift)

    # Pictures have up to this many channels that have a tint of their own.
    _N_TINTS = 4
    n_draws = 3 + _N_TINTS

    @override
    def __call__(self, pictures: Tensor, draws: Tensor) -> Tensor:
        strengths = amounts(draws)[:, :, None, None]
        brightness, contrast, saturation = (strengths[:, place : place + 1] for place in range(3))
        means, greys = pictures.mean((1, 2, 3), keepdim=True), pictures.mean(1, keepdim=True)
        vivid = greys + (1 + self.saturation * saturation) * (pictures - greys)
        tints = self.shift * self._tints(strengths[:, 3:], pictures.shape[1])
        return means + (1 + self.contrast * contrast) * (vivid - means) + self.brightness * brightness + tints

    def _tints(self, strengths: Tensor, channels: int) -> Tensor:
        # The channels of pictures that have more take turns.
        return strengths[:, torch.arange(channels, device=strengths.device) % self._N_TINTS]
