"""Where results go: picture files, contact sheets, animations, loggers."""

from fvlightning.io.files import check_writable, remove_unfinished, write_atomically
from fvlightning.output.colors import on_grey, to_pixels, to_signed_pixels, with_alpha
from fvlightning.output.features import Tile, feature_pixels, feature_sheet, snapshot_strip, value_limit
from fvlightning.output.loggers import log_image, log_scalars, takes_images
from fvlightning.output.manifest import feature_record, write_manifest
from fvlightning.output.names import group_name, layer_name, strip_file, unit_file, unit_label
from fvlightning.output.sheets import contact_sheet, save_animation, save_png

__all__ = [
    "Tile",
    "check_writable",
    "contact_sheet",
    "feature_pixels",
    "feature_record",
    "feature_sheet",
    "group_name",
    "layer_name",
    "log_image",
    "log_scalars",
    "on_grey",
    "remove_unfinished",
    "save_animation",
    "save_png",
    "snapshot_strip",
    "strip_file",
    "takes_images",
    "to_pixels",
    "to_signed_pixels",
    "unit_file",
    "unit_label",
    "value_limit",
    "with_alpha",
    "write_atomically",
    "write_manifest",
]
