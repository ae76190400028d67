"""Train vision models with PyTorch Lightning and see what their units look for.

The public names are imported on first use (:pep:`562`), so that ``import fvlightning`` costs nothing and
``fvlightning --version`` answers at once.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fvlightning.callbacks import VisualizationCallback, WeightImagesCallback
    from fvlightning.data import MNISTDataModule
    from fvlightning.errors import InputError
    from fvlightning.features import (
        CPPNImage,
        Feature,
        FourierImage,
        LaplacianImage,
        MagnitudeConstrainedImage,
        Maximizer,
        PixelImage,
        RawInput,
        Unit,
    )
    from fvlightning.models import BackboneModule, ClassifierModule, MnistCNN, MnistMLP, Normalize

__version__ = "0.1.0"

__all__ = [
    "BackboneModule",
    "CPPNImage",
    "ClassifierModule",
    "Feature",
    "FourierImage",
    "InputError",
    "LaplacianImage",
    "MNISTDataModule",
    "MagnitudeConstrainedImage",
    "Maximizer",
    "MnistCNN",
    "MnistMLP",
    "Normalize",
    "PixelImage",
    "RawInput",
    "Unit",
    "VisualizationCallback",
    "WeightImagesCallback",
]

_HOMES = {
    "BackboneModule": "models",
    "CPPNImage": "features",
    "ClassifierModule": "models",
    "Feature": "features",
    "FourierImage": "features",
    "InputError": "errors",
    "LaplacianImage": "features",
    "MNISTDataModule": "data",
    "MagnitudeConstrainedImage": "features",
    "Maximizer": "features",
    "MnistCNN": "models",
    "MnistMLP": "models",
    "Normalize": "models",
    "PixelImage": "features",
    "RawInput": "features",
    "Unit": "features",
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
