"""The shape of the pictures that a module takes."""

import lightning.pytorch as pl
from torch import Tensor

from fvlightning.errors import InputError


def picture_shape(
    pl_module: pl.LightningModule, datamodule: object = None, given: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Return ``(C, H, W)``, from the first that knows it.

    Args:
        pl_module: The module; its ``input_shape``, or its ``example_input_array``, is asked.
        datamodule: The data, whose ``image_shape`` is asked, or None.
        given: What the user says.

    Raises:
        InputError: None of them knows it.
    """
    example = pl_module.example_input_array
    for shape in (
        given,
        getattr(pl_module, "input_shape", None),
        getattr(datamodule, "image_shape", None),
        example.shape[1:] if isinstance(example, Tensor) else None,
    ):
        if shape is not None:
            return tuple(shape)
    name = type(pl_module).__name__
    raise InputError(
        f"the shape of {name}'s pictures is not known; give image_shape (C, H, W), or {name} an attribute input_shape"
    )
