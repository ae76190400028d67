"""Where results go: picture files, contact sheets, animations, loggers."""

from fvlightning.output.colors import to_pixels, to_signed_pixels
from fvlightning.output.files import check_writable, layer_name, unit_file, write_atomically
from fvlightning.output.loggers import log_image, log_scalars, takes_images
from fvlightning.output.manifest import feature_record, write_manifest
from fvlightning.output.sheets import contact_sheet, save_animation, save_png

__all__ = [
    "check_writable",
    "contact_sheet",
    "feature_record",
    "layer_name",
    "log_image",
    "log_scalars",
    "save_animation",
    "save_png",
    "takes_images",
    "to_pixels",
    "to_signed_pixels",
    "unit_file",
    "write_atomically",
    "write_manifest",
]
