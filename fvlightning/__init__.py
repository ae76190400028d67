"""Train vision models with PyTorch Lightning and see what their units look for.

The public names are imported on first use (:pep:`562`), so that ``import fvlightning`` costs nothing and
``fvlightning --version`` answers at once.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fvlightning.callbacks import (
        ExamplesCallback,
        InspectionCallback,
        VAEPicturesCallback,
        VisualizationCallback,
        WeightImagesCallback,
    )
    from fvlightning.data import (
        CIFAR10DataModule,
        HuggingFaceDataModule,
        ImageFolderDataModule,
        MNISTDataModule,
        ShapesDataModule,
    )
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
        Objective,
        Parametrization,
        Penalty,
        PixelImage,
        RawInput,
        Transform,
        Unit,
        score,
    )
    from fvlightning.models import BackboneModule, ClassifierModule, VAEModule
    from fvlightning.networks import CifarCNN, CifarResNet, MnistCNN, MnistMLP, Normalize

from fvlightning.version import __version__ as __version__

__all__ = [
    "BackboneModule",
    "CIFAR10DataModule",
    "CPPNImage",
    "CifarCNN",
    "CifarResNet",
    "ClassifierModule",
    "DecorrelatedLatentImage",
    "ExamplesCallback",
    "Feature",
    "FourierImage",
    "HuggingFaceDataModule",
    "ImageFolderDataModule",
    "InputError",
    "InspectionCallback",
    "LaplacianImage",
    "LatentImage",
    "MNISTDataModule",
    "MagnitudeConstrainedImage",
    "Maximizer",
    "MnistCNN",
    "MnistMLP",
    "Normalize",
    "Objective",
    "Parametrization",
    "Penalty",
    "PixelImage",
    "RawInput",
    "ShapesDataModule",
    "Transform",
    "Unit",
    "VAEModule",
    "VAEPicturesCallback",
    "VisualizationCallback",
    "WeightImagesCallback",
    "score",
]

# The lowest floor comes first, so that a name imports nothing above its own: `Maximizer` does without Lightning.
_HOMES = ("errors", "networks", "features", "data", "models", "callbacks")


def __getattr__(name: str) -> object:
    if name in __all__:
        for home in _HOMES:
            module = importlib.import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                globals()[name] = value = getattr(module, name)
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
