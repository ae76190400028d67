"""What is computed about pictures and models: how natural pictures are, and how they compare with natural images."""

from fvlightning.analysis.comparison import (
    Measures,
    PictureMeasures,
    measure_natural_images,
    measure_pictures,
    measure_strongest,
    medians,
    natural_medians,
)
from fvlightning.analysis.examples import RunningExamples, UnitScorer
from fvlightning.analysis.illustration import illustrate
from fvlightning.analysis.measures import FeatureSpace, spectral_slope
from fvlightning.analysis.patches import Patch, find_patches

__all__ = [
    "FeatureSpace",
    "Measures",
    "Patch",
    "PictureMeasures",
    "RunningExamples",
    "UnitScorer",
    "find_patches",
    "illustrate",
    "measure_natural_images",
    "measure_pictures",
    "measure_strongest",
    "medians",
    "natural_medians",
    "spectral_slope",
]
