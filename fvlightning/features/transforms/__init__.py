"""Robustness: random views of the pictures, so that a picture excites its unit however one looks at it."""

from fvlightning.features.transforms.affine import RandomAffine, RandomFlip
from fvlightning.features.transforms.base import Transform, apply_transforms, longest_warmup
from fvlightning.features.transforms.blur import Blur
from fvlightning.features.transforms.color import ColorJitter
from fvlightning.features.transforms.crop import RandomResizedCrop
from fvlightning.features.transforms.draws import Draws
from fvlightning.features.transforms.noise import GaussianNoise, UniformNoise
from fvlightning.features.transforms.perspective import Perspective
from fvlightning.features.transforms.zoom import ZoomingCrop

__all__ = [
    "Blur",
    "ColorJitter",
    "Draws",
    "GaussianNoise",
    "Perspective",
    "RandomAffine",
    "RandomFlip",
    "RandomResizedCrop",
    "UniformNoise",
    "Transform",
    "ZoomingCrop",
    "longest_warmup",
    "apply_transforms",
]
