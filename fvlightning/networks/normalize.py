"""Normalisation as a layer of the model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fvlightning.errors import InputError


class Normalize(nn.Module):
    """Take pictures in [0, 1] to what the network was trained on: (pictures - mean) / std, channel by channel.

    The layer belongs to the model and its values to the weights: both are saved in the state dict. Until values are
    given, by the constructor, by `set_statistics` or by a state dict, it is the identity for any number of channels.

    Attributes:
        is_set: Whether values have been given. A model that has been trained with some must keep them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
        """Start with values, or as the identity.

        Args:
            mean: Mean of each channel, of values in [0, 1]; a single one serves all channels.
            std: Standard deviation of each channel, not negative; as many as `mean`.

        Raises:
            InputError: If only one of the two is given, the lengths differ, or a deviation is negative.
        """
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("std", torch.ones(1))
        self.is_set = False
        if mean is not None or std is not None:
            if mean is None or std is None:
                raise InputError("normalisation needs both mean and std; give the other one too.")
            self.set_statistics(mean, std)

    def set_statistics(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Put in the values, on the device and in the dtype that the layer has; arguments as of the constructor.

        A channel that is constant in the data has the deviation 0: it is only centred, by using 1 instead.
        """
        if len(mean) != len(std) or not len(mean):
            raise InputError(f"mean and std must have one value for each channel; got {len(mean)} and {len(std)}.")
        if any(deviation < 0 for deviation in std):
            raise InputError(f"std must not be negative, got {list(std)}.")
        self.mean = self.mean.new_tensor(mean)
        self.std = self.std.new_tensor([deviation if deviation > 0 else 1.0 for deviation in std])
        self.is_set = True

    def forward(self, pictures: Tensor) -> Tensor:
        """Normalise `(B, C, H, W)`; the result has the layer's dtype, that of the weights in true half precision.

        Raises:
            InputError: If the pictures have another number of channels than the statistics.
        """
        if len(self.mean) not in (1, pictures.shape[1]):
            raise InputError(
                f"the pictures have {pictures.shape[1]} channels, the normalisation {len(self.mean)}; "
                "give pictures with as many, or a mean and a std for each."
            )
        return (pictures.to(self.mean.dtype) - self.mean[:, None, None]) / self.std[:, None, None]

    def extra_repr(self) -> str:
        """Return the values, for `repr`."""
        mean, std = ([round(value, 4) for value in values.tolist()] for values in (self.mean, self.std))
        return f"mean={mean}, std={std}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # A layer that is still the identity has one value; it takes the number of channels of what is loaded.
        for name in ("mean", "std"):
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
                self.is_set = True
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
