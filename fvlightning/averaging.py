"""Averaged weights, as Lightning's callbacks keep them."""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import WeightAveraging


def averages_of(trainer: pl.Trainer) -> list[WeightAveraging]:
    """Return the callbacks of a trainer that average the weights, such as `EMAWeightAveraging`."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined] # which Lightning sets
    return [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
