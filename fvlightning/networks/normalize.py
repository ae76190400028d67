"""Normalisation as a layer of the model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError


class Normalize(nn.Module):
    """Map pictures in [0, 1] to what the network was trained on: (pictures - mean) / std, channel by channel.

    It is the identity for any number of channels until it gets values (`is_set`) from the constructor, `set_statistics`
    or a state dict.

    Args:
        mean: Mean of each channel of pictures in [0, 1]; a single value serves all channels.
        std: Standard deviation of each channel, not negative; as many as `mean`.

    Raises:
        InputError: Only one of the two is given, their lengths differ, or a deviation is negative.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("std", torch.ones(1))
        self.is_set = False
        if (mean is None) != (std is None):
            raise InputError(f"Normalize(mean={mean}, std={std}): must be both given, or neither")
        if mean is not None and std is not None:
            self.set_statistics(mean, std)

    def set_statistics(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set the values. For arguments and errors see `Normalize`."""
        if len(mean) != len(std) or not len(mean):
            raise InputError(f"Normalize(mean={list(mean)}, std={list(std)}): must have one value for each channel")
        if any(deviation < 0 for deviation in std):
            raise InputError(f"Normalize(std={list(std)}): must not be negative")
        self.mean = self.mean.new_tensor(mean)
        # A channel that is constant in the data is only centred.
        self.std = self.std.new_tensor([deviation if deviation > 0 else 1.0 for deviation in std])
        self.is_set = True

    def forward(self, pictures: Tensor) -> Tensor:
        """Return normalised pictures ``(B, C, H, W)`` in the layer's dtype; raise `InputError` if channels differ."""
        if len(self.mean) not in (1, pictures.shape[1]):
            raise InputError(
                f"the pictures have {pictures.shape[1]} channels, the normalisation {len(self.mean)}; "
                "give pictures with as many, or a mean and a std for each"
            )
        return (pictures.to(self.mean.dtype) - self.mean[:, None, None]) / self.std[:, None, None]

    def extra_repr(self) -> str:
        """Return mean and std for `repr`."""
        mean, std = ([round(value, 4) for value in values.tolist()] for values in (self.mean, self.std))
        return f"mean={mean}, std={std}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # A layer that is still the identity has one value, and takes the number of channels from the state dict.
        for name in ("mean", "std"):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
                self.is_set = True
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
