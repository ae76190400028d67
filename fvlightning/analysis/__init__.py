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
from fvlightning.analysis.connections import Connections
from fvlightning.analysis.examples import RunningExamples, UnitScorer, find_examples
from fvlightning.analysis.illustration import Page, illustrate
from fvlightning.analysis.inspection import Inspection, LayerResponse, class_probabilities, inspect_picture
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
from fvlightning.analysis.measures import FeatureSpace, colorfulness, contrast, pixel_measures, spectral_slope
from fvlightning.analysis.patches import Patch, find_patches
from fvlightning.analysis.receptive_fields import ReceptiveField, receptive_fields
from fvlightning.analysis.weights import FirstLayer, WeightMatch, first_layer, weight_images

__all__ = [
    "OTHERS",
    "Cell",
    "ClassLabel",
    "Connections",
    "FeatureSpace",
    "FirstLayer",
    "Inspection",
    "Judge",
    "JudgedPicture",
    "LayerResponse",
    "Measures",
    "Page",
    "Patch",
    "PictureMeasures",
    "ReceptiveField",
    "RunningExamples",
    "UnitScorer",
    "Verdict",
    "WeightMatch",
    "class_probabilities",
    "colorfulness",
    "contrast",
    "find_examples",
    "find_patches",
    "first_layer",
    "illustrate",
    "inspect_picture",
    "measure_natural_images",
    "measure_pictures",
    "measure_strongest",
    "medians",
    "natural_medians",
    "pixel_measures",
    "random_views",
    "receptive_fields",
    "spectral_slope",
    "summarize",
    "weight_images",
]
