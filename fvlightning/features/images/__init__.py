"""How a picture is parametrised: pixels, frequencies, resolutions, networks, raw inputs."""

from fvlightning.features.images.base import Parametrization
from fvlightning.features.images.codes import CodeStatistics, load_codes, measure_codes
from fvlightning.features.images.color import correlate_colors, decorrelate_colors
from fvlightning.features.images.cppn import CPPNImage
from fvlightning.features.images.fourier import FourierImage
from fvlightning.features.images.laplacian import LaplacianImage
from fvlightning.features.images.latent import DecorrelatedLatentImage, LatentImage
from fvlightning.features.images.magnitude import measure_magnitude, natural_magnitude, resample_magnitude
from fvlightning.features.images.magnitude_constrained import MagnitudeConstrainedImage
from fvlightning.features.images.magnitude_files import load_magnitude, save_magnitude
from fvlightning.features.images.pixel import PixelImage
from fvlightning.features.images.raw import RawInput

__all__ = [
    "CPPNImage",
    "CodeStatistics",
    "DecorrelatedLatentImage",
    "FourierImage",
    "Parametrization",
    "LaplacianImage",
    "LatentImage",
    "MagnitudeConstrainedImage",
    "PixelImage",
    "RawInput",
    "correlate_colors",
    "decorrelate_colors",
    "load_codes",
    "load_magnitude",
    "measure_codes",
    "measure_magnitude",
    "natural_magnitude",
    "resample_magnitude",
    "save_magnitude",
]
