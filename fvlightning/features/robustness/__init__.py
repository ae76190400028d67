"""Robustness: random views of the pictures, so that a picture excites its unit however one looks at it."""

from fvlightning.features.robustness.affine import RandomAffine, RandomFlip
from fvlightning.features.robustness.base import View, longest_warmup, random_views
from fvlightning.features.robustness.blur import Blur
from fvlightning.features.robustness.color import ColorJitter
from fvlightning.features.robustness.crop import RandomResizedCrop
from fvlightning.features.robustness.draws import Draws
from fvlightning.features.robustness.noise import GaussianNoise, UniformNoise
from fvlightning.features.robustness.perspective import Perspective
from fvlightning.features.robustness.zoom import ZoomingCrop

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
    "View",
    "ZoomingCrop",
    "longest_warmup",
    "random_views",
]
