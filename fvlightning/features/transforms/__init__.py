"""Random transforms of the pictures at each step, so that a picture excites its unit however it is shown."""

from fvlightning.features.transforms.base import (
    Draws,
    Transform,
    apply_transforms,
    longest_warmup,
    transformed_shapes,
)
from fvlightning.features.transforms.coarse import CoarseToFine
from fvlightning.features.transforms.crops import RandomAffine, RandomFlip, RandomResizedCrop, ZoomingCrop
from fvlightning.features.transforms.pixels import Blur, ColorJitter, GaussianNoise, UniformNoise
from fvlightning.features.transforms.warp import Perspective

__all__ = [
    "Blur",
    "CoarseToFine",
    "ColorJitter",
    "Draws",
    "GaussianNoise",
    "Perspective",
    "RandomAffine",
    "RandomFlip",
    "RandomResizedCrop",
    "Transform",
    "UniformNoise",
    "ZoomingCrop",
    "apply_transforms",
    "longest_warmup",
    "transformed_shapes",
]
