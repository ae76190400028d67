"""Parametrisations: pictures by their pixels, frequencies, resolutions, networks and codes; inputs of any shape."""

from fvlightning.features.images.base import Parametrization
from fvlightning.features.images.codes import CodeStatistics, codes_file, load_autoencoder, load_codes, measure_codes
from fvlightning.features.images.cppn import CPPNImage
from fvlightning.features.images.display import correlate_colors, decorrelate_colors
from fvlightning.features.images.fourier import FourierImage
from fvlightning.features.images.laplacian import LaplacianImage
from fvlightning.features.images.latent import DecorrelatedLatentImage, LatentImage
from fvlightning.features.images.magnitude import natural_magnitude, resample_magnitude
from fvlightning.features.images.magnitude_constrained import MagnitudeConstrainedImage
from fvlightning.features.images.pixel import PixelImage, RawInput
from fvlightning.features.images.statistics import (
    ImageStatistics,
    check_magnitude_name,
    load_magnitude,
    load_statistics,
    measure_magnitude,
    measure_statistics,
    read_magnitude_settings,
    save_magnitude,
)

__all__ = [
    "CPPNImage",
    "CodeStatistics",
    "DecorrelatedLatentImage",
    "FourierImage",
    "ImageStatistics",
    "LaplacianImage",
    "LatentImage",
    "MagnitudeConstrainedImage",
    "Parametrization",
    "PixelImage",
    "RawInput",
    "check_magnitude_name",
    "codes_file",
    "correlate_colors",
    "decorrelate_colors",
    "load_autoencoder",
    "load_codes",
    "load_magnitude",
    "load_statistics",
    "measure_codes",
    "measure_magnitude",
    "measure_statistics",
    "natural_magnitude",
    "read_magnitude_settings",
    "resample_magnitude",
    "save_magnitude",
]
