"""Activation maximisation in plain PyTorch: units, objectives, pictures, views, penalties, and the loop."""

from fvlightning.features.capture import Activation, Activations, Capture
from fvlightning.features.feature import Feature
from fvlightning.features.images import (
    CPPNImage,
    FourierImage,
    Image,
    LaplacianImage,
    MagnitudeConstrainedImage,
    PixelImage,
    RawInput,
    load_magnitude,
    measure_magnitude,
    save_magnitude,
)
from fvlightning.features.layers import LayerSize, measure_layers, resolve_units
from fvlightning.features.maximizer import Maximizer
from fvlightning.features.objectives import (
    Direction,
    LayerEnergy,
    Objective,
    Target,
    UnitActivation,
    WeightedSum,
    interpolate,
    objective_of,
)
from fvlightning.features.penalties import L1, L2, Penalty, TotalVariation
from fvlightning.features.robustness import (
    Blur,
    ColorJitter,
    GaussianNoise,
    Perspective,
    RandomAffine,
    RandomFlip,
    RandomResizedCrop,
    UniformNoise,
    View,
)
from fvlightning.features.schedules import CosineWithWarmup
from fvlightning.features.units import LayerCall, Unit, UnitRange

__all__ = [
    "L1",
    "L2",
    "Activation",
    "Activations",
    "Blur",
    "CPPNImage",
    "Capture",
    "ColorJitter",
    "CosineWithWarmup",
    "Direction",
    "Feature",
    "FourierImage",
    "GaussianNoise",
    "Image",
    "LaplacianImage",
    "LayerCall",
    "LayerEnergy",
    "LayerSize",
    "MagnitudeConstrainedImage",
    "Maximizer",
    "Objective",
    "Penalty",
    "Perspective",
    "PixelImage",
    "RandomAffine",
    "RandomFlip",
    "RandomResizedCrop",
    "RawInput",
    "Target",
    "TotalVariation",
    "UniformNoise",
    "Unit",
    "UnitActivation",
    "UnitRange",
    "View",
    "WeightedSum",
    "interpolate",
    "load_magnitude",
    "measure_layers",
    "measure_magnitude",
    "objective_of",
    "resolve_units",
    "save_magnitude",
]
