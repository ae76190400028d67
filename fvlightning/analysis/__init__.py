"""What is computed about pictures and models: how natural pictures are, and what a model makes of images."""

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
from fvlightning.analysis.inspection import LayerResponse, inspect_picture
from fvlightning.analysis.judges import (
    OTHERS,
    Cell,
    ClassLabel,
    Judge,
    JudgedPicture,
    Verdict,
    random_views,
    summarize,
)
from fvlightning.analysis.measures import FeatureSpace, spectral_slope
from fvlightning.analysis.patches import Patch, find_patches
from fvlightning.analysis.weights import FirstLayer, WeightMatch, first_layer, weight_images

__all__ = [
    "OTHERS",
    "Cell",
    "ClassLabel",
    "FeatureSpace",
    "FirstLayer",
    "Judge",
    "JudgedPicture",
    "LayerResponse",
    "Measures",
    "Patch",
    "PictureMeasures",
    "RunningExamples",
    "UnitScorer",
    "Verdict",
    "WeightMatch",
    "find_patches",
    "first_layer",
    "illustrate",
    "inspect_picture",
    "measure_natural_images",
    "measure_pictures",
    "measure_strongest",
    "medians",
    "natural_medians",
    "random_views",
    "spectral_slope",
    "summarize",
    "weight_images",
]
