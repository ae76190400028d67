"""Activation maximisation in plain PyTorch: units, objectives, parametrisations, transforms, penalties, the loop."""

from fvlightning.features.capture import Activation, Activations, Capture, measure_layers
from fvlightning.features.description import Described
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
from fvlightning.features.loop import Settings
from fvlightning.features.maximizer import Maximizer
from fvlightning.features.objectives import (
    Alignment,
    Direction,
    Diversity,
    JointObjective,
    LayerEnergy,
    Objective,
    Target,
    UnitActivation,
    WeightedSum,
    interpolate,
    objective_of,
    resolve_objectives,
)
from fvlightning.features.penalties import L1, L2, Penalty, TotalVariation, total_variation
from fvlightning.features.rng import isolated_rng, picture_generator
from fvlightning.features.scales import Scale
from fvlightning.features.scoring import score
from fvlightning.features.starts import InitialPicture
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
from fvlightning.schedules import CosineWithWarmup

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
    "DecorrelatedLatentImage",
    "Described",
    "Direction",
    "Diversity",
    "Feature",
    "FourierImage",
    "GaussianNoise",
    "InitialPicture",
    "JointObjective",
    "LaplacianImage",
    "LatentImage",
    "LayerCall",
    "LayerEnergy",
    "MagnitudeConstrainedImage",
    "Maximizer",
    "Objective",
    "Parametrization",
    "Penalty",
    "Perspective",
    "PixelImage",
    "RandomAffine",
    "RandomFlip",
    "RandomResizedCrop",
    "RawInput",
    "Scale",
    "Settings",
    "Target",
    "TotalVariation",
    "Transform",
    "UniformNoise",
    "Unit",
    "UnitActivation",
    "UnitRange",
    "WeightedSum",
    "ZoomingCrop",
    "interpolate",
    "isolated_rng",
    "load_codes",
    "load_magnitude",
    "measure_codes",
    "measure_layers",
    "measure_magnitude",
    "objective_of",
    "picture_generator",
    "resolve_objectives",
    "save_magnitude",
    "score",
    "total_variation",
]
