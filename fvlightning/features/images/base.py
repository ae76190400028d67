"""How a picture is parametrised."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features.images.resampling import resample


class Parametrization(ABC):
    """A parametrisation: parameters of a batch of pictures -> pictures.

    It holds settings only. The parameters belong to the maximizer, so that one instance serves any number of pictures.

    Attributes:
        bounded: Whether the pictures lie in [0, 1]. Only inputs that are no pictures (`RawInput`) do not.
        weight_decay: That of the maximizer's default optimiser, AdamW: each step takes ``learning rate · weight_decay``
            off the parameters, as a share. More than 0 where parameters of 0 are a grey picture: what is not asked for
            at every step fades, and with it noise and excessive contrast.
    """

    bounded: bool = True

    @property
    def weight_decay(self) -> float:
        """See the class."""
        return 0.0

    @abstractmethod
    def initial_parameters(self, image_shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Return the parameters that one picture starts from.

        Args:
            image_shape: ``(C, H, W)``.
            generator: The picture's own source of random numbers, on the CPU.
        """

    @abstractmethod
    def __call__(self, parameters: Tensor, image_shape: Sequence[int]) -> Tensor:
        """Return the pictures ``(B, C, H, W)`` of parameters ``(B, ...)``, row by row, with their graph."""

    def invert(self, pictures: Tensor) -> Tensor:
        """Return the parameters of given pictures, to start from them.

        Where a parametrisation can make any picture, `__call__` of the result gives the pictures, clamped to what the
        parametrisation can show.

        Args:
            pictures: ``(B, C, H, W)`` in [0, 1].

        Returns:
            ``(B, ...)``; each row has the shape that `start` gives for ``(C, H, W)``.

        Raises:
            InputError: The parametrisation cannot be started from a picture.
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
            blur: Standard deviation of a Gaussian blur of the pictures, in pixels of the new size; 0 is none.

        Returns:
            ``(B, ...)``; each row has the shape that `start` gives for ``(C, H', W')``.

        Raises:
            InputError: The parametrisation cannot be started from a picture, or its pictures have one size only.
        """
        pictures = resample(self(parameters, image_shape), new_shape[-2:], blur)
        return self.invert(pictures.clamp(0, 1))

    def project(self, parameters: Tensor) -> None:  # noqa: B027 - most parametrisations have nothing to put back
        """Put parameters back, in place and after each step, where they must not be. By default nothing."""

    def prior(self, parameters: Tensor) -> Tensor | None:
        """Return what is subtracted from the scores of pictures, ``(B,)``, for their parameters ``(B, ...)``.

        A prior on the parameters, where they mean something: on a code, say. By default None, for none.
        """
        return None
