"""Parametrisations: how parameters become pictures."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features.description import Described
from fvlightning.features.transforms import Blur


class Parametrization(Described, ABC):
    """Maps the parameters of a batch to its pictures.

    It holds settings only. The parameters belong to the maximizer, so that one instance serves any number of pictures.

    Attributes:
        bounded: Whether the pictures lie in [0, 1]. Only inputs that are not pictures (`RawInput`) may lie outside.
    """

    bounded: bool = True

    @property
    def weight_decay(self) -> float:
        """The weight decay of the default optimiser, AdamW.

        It is greater than 0 where parameters of 0 are a grey picture: content that the unit does not ask for at every
        step then fades, such as noise and excessive contrast.
        """
        return 0.0

    @abstractmethod
    def initial_parameters(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Return the random parameters that one picture starts from.

        Args:
            image_shape: ``(C, H, W)``.
            generator: The picture's own source of random numbers, on the CPU.
        """

    @abstractmethod
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        """Return the pictures ``(B, C, H, W)`` of parameters ``(B, ...)``, row by row, with their graph."""

    def invert(self, pictures: Tensor) -> Tensor:
        """Return the parameters ``(B, ...)`` of pictures ``(B, C, H, W)`` in [0, 1], to start from them.

        A parametrisation that can make any picture returns to these, clamped to the values that it can show.

        Raises:
            InputError: The parametrisation cannot start from a picture.
        """
        raise InputError(f"{type(self).__name__} cannot start from a picture; use FourierImage, PixelImage or noise")

    def resize(
        self, parameters: Tensor, image_shape: Sequence[int], new_shape: Sequence[int], blur: float = 0.0
    ) -> Tensor:
        """Return the parameters of the same pictures at another size.

        Args:
            parameters: ``(B, ...)``.
            image_shape: ``(C, H, W)`` of their pictures.
            new_shape: ``(C, H', W')``.
            blur: Standard deviation of a Gaussian blur of the pictures, in pixels of the new size; 0 for none.

        Returns:
            ``(B, ...)``, in the shape of `initial_parameters` for ``(C, H', W')``.

        Raises:
            InputError: The parametrisation cannot start from a picture, or its pictures have one size only.
        """
        pictures = resample(self(parameters, image_shape), new_shape[-2:], blur)
        return self.invert(pictures.clamp(0, 1))

    def project(self, parameters: Tensor) -> None:
        """Project parameters back into the allowed set, in place, after each step. By default all are allowed."""

    def prior(self, parameters: Tensor) -> Tensor | None:
        """Return a penalty ``(B,)`` on parameters ``(B, ...)``, such as codes; by default None, for no penalty."""
        return None


def resample(pictures: Tensor, size: Sequence[int], blur: float = 0.0) -> Tensor:
    """Return pictures ``(B, C, H', W')`` at another size, by bicubic interpolation, which overshoots a little at edges.

    Args:
        pictures: ``(B, C, H, W)``.
        size: ``(H', W')``. A smaller size averages details that are too fine for it.
        blur: Standard deviation of a Gaussian blur afterwards, in pixels of the new size; 0 for none.
    """
    resized = F.interpolate(pictures, size=list(size), mode="bicubic", antialias=True, align_corners=False)
    return Blur(blur)(resized, resized.new_zeros(len(resized), 1)) if blur else resized
