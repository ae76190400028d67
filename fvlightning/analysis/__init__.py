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

__all__ = [
    "OTHERS",
    "Cell",
    "ClassLabel",
    "FeatureSpace",
    "Judge",
    "JudgedPicture",
    "Measures",
    "PictureMeasures",
    "Verdict",
    "measure_natural_images",
    "measure_pictures",
    "measure_strongest",
    "medians",
    "natural_medians",
    "random_views",
    "spectral_slope",
    "summarize",
]
