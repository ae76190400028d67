"""Activation maximisation in plain PyTorch: units, objectives, pictures, views, penalties, and the loop."""

from fvlightning.features.capture import Activation, Activations, Capture
from fvlightning.features.feature import Feature
from fvlightning.features.images import FourierImage, Image, PixelImage, RawInput
from fvlightning.features.layers import LayerSize, measure_layers, resolve_units
from fvlightning.features.maximizer import Maximizer
from fvlightning.features.objectives import LayerEnergy, Objective, Target, UnitActivation, WeightedSum, objective_of
from fvlightning.features.penalties import L1, L2, Penalty, TotalVariation
from fvlightning.features.robustness import RandomAffine, View
from fvlightning.features.units import LayerCall, Unit, UnitRange

__all__ = [
    "L1",
    "L2",
    "Activation",
    "Activations",
    "Capture",
    "Feature",
    "FourierImage",
    "Image",
    "LayerCall",
    "LayerEnergy",
    "LayerSize",
    "Maximizer",
    "Objective",
    "Penalty",
    "PixelImage",
    "RandomAffine",
    "RawInput",
    "Target",
    "TotalVariation",
    "Unit",
    "UnitActivation",
    "UnitRange",
    "View",
    "WeightedSum",
    "measure_layers",
    "objective_of",
    "resolve_units",
]
