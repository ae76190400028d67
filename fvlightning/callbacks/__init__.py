"""Callbacks that show a network while it trains."""

from fvlightning.callbacks.epoch_pictures import EpochPictures
from fvlightning.callbacks.examples import ExamplesCallback
from fvlightning.callbacks.inspection import InspectionCallback
from fvlightning.callbacks.vae_pictures import VAEPicturesCallback
from fvlightning.callbacks.visualization import VisualizationCallback
from fvlightning.callbacks.weights import WeightImagesCallback

__all__ = [
    "EpochPictures",
    "ExamplesCallback",
    "InspectionCallback",
    "VAEPicturesCallback",
    "VisualizationCallback",
    "WeightImagesCallback",
]
