"""How a picture is parametrised: pixels, Fourier coefficients, raw inputs."""

from fvlightning.features.images.base import Image
from fvlightning.features.images.color import correlate_colors
from fvlightning.features.images.fourier import FourierImage
from fvlightning.features.images.pixel import PixelImage
from fvlightning.features.images.raw import RawInput

__all__ = ["FourierImage", "Image", "PixelImage", "RawInput", "correlate_colors"]
