"""What natural images are like for a network: the measure of pictures that are made for it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from fvlightning.analysis.activations import all_activations
from fvlightning.analysis.naturalness import spectral_slope, total_variation
from fvlightning.analysis.nearest import FeatureSpace, nearest_distances
from fvlightning.errors import InputError
from fvlightning.features.objectives import Objective

_LOADERS = {"test": "test_dataloader", "validate": "val_dataloader", "fit": "train_dataloader"}


@dataclass(frozen=True)
class NaturalImages:
    """N natural images, measured.

    Attributes:
        activations: ``(N, U)``, of each of U objectives.
        strongest: ``(U, C, H, W)`` in [0, 1], the image that excites each objective most.
        places: ``(U,)``, which of the N that is.
        features: ``(N, D)`` in the feature space.
        total_variation: ``(N,)``.
        spectral_slope: ``(N,)``.
        nearest: ``(N,)``, distance of each to the nearest other one in the feature space.
    """

    activations: Tensor
    strongest: Tensor
    places: Tensor
    features: Tensor
    total_variation: Tensor
    spectral_slope: Tensor
    nearest: Tensor


def natural_batches(
    datamodule: pl.LightningDataModule, image_shape: Sequence[int], device: torch.device, most: int
) -> Iterator[Tensor]:
    """Yield images of a data module as they reach the model: test images, else those of validation, else training.

    Args:
        datamodule: The data; prepared and set up here.
        image_shape: ``(C, H, W)`` that they are to have.
        device: Where they are wanted.
        most: Images after so many are left out.

    Yields:
        ``(B, C, H, W)`` in [0, 1].

    Raises:
        InputError: There are no images, or they have another shape or range.
    """
    name = type(datamodule).__name__
    datamodule.prepare_data()
    left = most
    for stage, method in _LOADERS.items():
        if not is_overridden(method, datamodule, pl.LightningDataModule):
            continue
        datamodule.setup(stage)
        loaders = getattr(datamodule, method)()
        for loader in loaders if isinstance(loaders, list) else [loaders]:
            for raw in loader:
                batch = datamodule.on_before_batch_transfer(raw, 0)
                batch = datamodule.transfer_batch_to_device(batch, device, 0)
                batch = datamodule.on_after_batch_transfer(batch, 0)
                pictures = batch[0] if isinstance(batch, list | tuple) else batch
                yield _checked(pictures, image_shape, name)[:left]
                left -= len(pictures)
                if left <= 0:
                    return
        if left < most:
            return
    raise InputError(f"{name} has no images to compare with; give data with test, validation or training images")


def measure_natural_images(
    network: nn.Module, objectives: Sequence[Objective], space: FeatureSpace, batches: Iterator[Tensor]
) -> NaturalImages:
    """Measure natural images, batch by batch, where the network is.

    Args:
        network: Any module that takes the images.
        objectives: What they may excite.
        space: The feature space.
        batches: Of images ``(B, C, H, W)`` in [0, 1], at least one.
    """
    measured: list[tuple[Tensor, ...]] = []
    found: tuple[Tensor, Tensor, Tensor] | None = None
    n_before = 0
    for pictures in batches:
        activations = all_activations(network, objectives, pictures)
        highest, rows = activations.max(0)
        best = highest, pictures[rows], rows + n_before
        n_before += len(pictures)
        if found is not None:
            better = highest > found[0]
            best = (
                torch.where(better, best[0], found[0]),
                torch.where(better[:, None, None, None], best[1], found[1]),
                torch.where(better, best[2], found[2]),
            )
        found = best
        values = (activations, space(pictures), total_variation(pictures), spectral_slope(pictures))
        measured.append(tuple(value.cpu() for value in values))
    assert found is not None, "no batches"
    activations, features, variation, slope = (torch.cat(parts) for parts in zip(*measured, strict=True))
    nearest = nearest_distances(features, features, range(len(features)))
    return NaturalImages(activations, found[1].cpu(), found[2].cpu(), features, variation, slope, nearest)


def _checked(pictures: object, image_shape: Sequence[int], name: str) -> Tensor:
    if not isinstance(pictures, Tensor) or pictures.ndim != 4 or tuple(pictures.shape[1:]) != tuple(image_shape):
        shape = tuple(pictures.shape[1:]) if isinstance(pictures, Tensor) else type(pictures).__name__
        raise InputError(
            f"{name} has images of shape {shape}, the model takes {tuple(image_shape)}; give the data that it was "
            "trained on"
        )
    if not bool(((pictures >= 0) & (pictures <= 1)).all()):
        raise InputError(f"{name} has images with values outside of [0, 1]; normalisation belongs into the model")
    return pictures.float()
