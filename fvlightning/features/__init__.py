"""Activation maximisation in plain PyTorch: units, objectives, pictures, views, penalties, and the loop."""

from fvlightning.features.capture.capture import Activation, Activations, Capture
from fvlightning.features.capture.layers import LayerSize, measure_layers
from fvlightning.features.feature import Feature
from fvlightning.features.images import (
    CodeStatistics,
    CPPNImage,
    DecorrelatedLatentImage,
    FourierImage,
    LaplacianImage,
    LatentImage,
    MagnitudeConstrainedImage,
    Parametrization,
    PixelImage,
    RawInput,
    load_codes,
    load_magnitude,
    measure_codes,
    measure_magnitude,
    save_magnitude,
)
from fvlightning.features.loop.schedules import CosineWithWarmup
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
    parse_objective,
)
from fvlightning.features.objectives.joint import Alignment, Diversity, JointObjective
from fvlightning.features.objectives.resolving import resolve_objectives, resolve_units
from fvlightning.features.penalties import L1, L2, Penalty, TotalVariation
from fvlightning.features.scales import Scale
from fvlightning.features.starts import fit_picture, read_image
from fvlightning.features.transforms import (
    Blur,
    ColorJitter,
    GaussianNoise,
    Perspective,
    RandomAffine,
    RandomFlip,
    RandomResizedCrop,
    Transform,
    UniformNoise,
    ZoomingCrop,
)
from fvlightning.features.units import LayerCall, Unit, UnitRange

__all__ = [
    "L1",
    "L2",
    "Activation",
    "Activations",
    "Alignment",
    "Blur",
    "CPPNImage",
    "Capture",
    "CodeStatistics",
    "ColorJitter",
    "CosineWithWarmup",
    "JointObjective",
    "DecorrelatedLatentImage",
    "Direction",
    "Diversity",
    "Feature",
    "FourierImage",
    "GaussianNoise",
    "Parametrization",
    "LaplacianImage",
    "LatentImage",
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
    "Scale",
    "Target",
    "TotalVariation",
    "UniformNoise",
    "Unit",
    "UnitActivation",
    "UnitRange",
    "Transform",
    "WeightedSum",
    "ZoomingCrop",
    "fit_picture",
    "interpolate",
    "load_codes",
    "load_magnitude",
    "measure_codes",
    "measure_layers",
    "measure_magnitude",
    "objective_of",
    "parse_objective",
    "read_image",
    "resolve_objectives",
    "resolve_units",
    "save_magnitude",
]
