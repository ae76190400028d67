"""Train vision models with PyTorch Lightning and see what their units look for.

The public names are imported on first use (:pep:`562`), so that ``import fvlightning`` costs nothing and
``fvlightning --version`` answers at once.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fvlightning.callbacks import VAEPicturesCallback, VisualizationCallback, WeightImagesCallback
    from fvlightning.data import CIFAR10DataModule, ImageFolderDataModule, MNISTDataModule, ShapesDataModule
    from fvlightning.errors import InputError
    from fvlightning.features import (
        CPPNImage,
        DecorrelatedLatentImage,
        Feature,
        FourierImage,
        LaplacianImage,
        LatentImage,
        MagnitudeConstrainedImage,
        Maximizer,
        PixelImage,
        RawInput,
        Unit,
    )
    from fvlightning.models import (
        BackboneModule,
        CifarCNN,
        CifarResNet,
        ClassifierModule,
        MnistCNN,
        MnistMLP,
        Normalize,
        VAEModule,
    )

from fvlightning.version import __version__

__all__ = [
    "BackboneModule",
    "CIFAR10DataModule",
    "CPPNImage",
    "CifarCNN",
    "CifarResNet",
    "ClassifierModule",
    "DecorrelatedLatentImage",
    "Feature",
    "FourierImage",
    "ImageFolderDataModule",
    "InputError",
    "LaplacianImage",
    "LatentImage",
    "MNISTDataModule",
    "MagnitudeConstrainedImage",
    "Maximizer",
    "MnistCNN",
    "MnistMLP",
    "Normalize",
    "PixelImage",
    "RawInput",
    "ShapesDataModule",
    "Unit",
    "VAEModule",
    "VAEPicturesCallback",
    "VisualizationCallback",
    "WeightImagesCallback",
]

_HOMES = {
    "BackboneModule": "models",
    "CIFAR10DataModule": "data",
    "CPPNImage": "features",
    "CifarCNN": "models",
    "CifarResNet": "models",
    "ClassifierModule": "models",
    "DecorrelatedLatentImage": "features",
    "Feature": "features",
    "FourierImage": "features",
    "ImageFolderDataModule": "data",
    "InputError": "errors",
    "LaplacianImage": "features",
    "LatentImage": "features",
    "MNISTDataModule": "data",
    "MagnitudeConstrainedImage": "features",
    "Maximizer": "features",
    "MnistCNN": "models",
    "MnistMLP": "models",
    "Normalize": "models",
    "PixelImage": "features",
    "RawInput": "features",
    "ShapesDataModule": "data",
    "Unit": "features",
    "VAEModule": "models",
    "VAEPicturesCallback": "callbacks",
    "VisualizationCallback": "callbacks",
    "WeightImagesCallback": "callbacks",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
