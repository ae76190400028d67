"""The same maximizer in several spaces of pictures."""

import copy
import re
from collections.abc import Mapping, Sequence

import torch

from fvlightning.errors import InputError
from fvlightning.features import Maximizer, Parametrization

NATURAL = "natural"
_NAME = re.compile(r"\w[\w .-]*")


def check_spaces(spaces: Mapping[str, Parametrization], image_shape: Sequence[int]) -> None:
    """Check that each of the parametrisations makes pictures of this shape, and that its name is one of a folder.

    Args:
        spaces: The parametrisations by their names.
        image_shape: ``(C, H, W)`` of the pictures.

    Raises:
        InputError: There are none, a name is no plain word, or a parametrisation cannot make such pictures.
    """
    if not spaces:
        raise InputError("no spaces to compare; give some, for example --spaces.pixel PixelImage")
    for name, image in spaces.items():
        if not _NAME.fullmatch(name) or name == NATURAL:
            raise InputError(
                f"no name for a space: {name!r}; names are words of letters, digits, '_', '-' and '.', and {NATURAL!r} "
                "is that of the images"
            )
        if not image.bounded:
            raise InputError(f"space {name!r}: {type(image).__name__} makes no pictures in [0, 1]; leave it out")
        try:
            image.initial_parameters(image_shape, torch.Generator())
        except InputError as error:
            raise InputError(f"space {name!r}: {error}") from error


def in_space(maximizer: Maximizer, image: Parametrization) -> Maximizer:
    """Return a maximizer with another parametrisation and everything else the same: budget, views, seed.

    The default optimiser, which depends on the parametrisation, becomes that of the new one.
    """
    default = Maximizer(image=maximizer.image).settings["optimizer"]
    other = copy.copy(maximizer)
    other.image = image
    if maximizer.settings["optimizer"] == default:
        other.optimizer = Maximizer(image=image).optimizer
    return other
