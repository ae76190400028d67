"""What is computed about features and models: how natural pictures are, and how spaces of pictures compare."""

from fvlightning.analysis.activations import all_activations, own_activations, robust_activations
from fvlightning.analysis.comparison import (
    Measures,
    PictureMeasures,
    measure_pictures,
    measure_strongest,
    medians,
    natural_medians,
)
from fvlightning.analysis.natural_images import NaturalImages, measure_natural_images, natural_batches
from fvlightning.analysis.naturalness import spectral_slope, total_variation
from fvlightning.analysis.nearest import FeatureSpace, nearest_distances
from fvlightning.analysis.spaces import check_spaces, in_space

__all__ = [
    "FeatureSpace",
    "Measures",
    "NaturalImages",
    "PictureMeasures",
    "all_activations",
    "check_spaces",
    "in_space",
    "measure_natural_images",
    "measure_pictures",
    "measure_strongest",
    "medians",
    "natural_batches",
    "natural_medians",
    "nearest_distances",
    "own_activations",
    "robust_activations",
    "spectral_slope",
    "total_variation",
]
