"""Where results go: picture files with records, contact sheets, animations, loggers, progress."""

from fvlightning.output.examples import (
    Example,
    UnitExamples,
    example_label,
    example_sheet,
    example_tile,
    percent,
    picture_columns,
    sheet_parts,
    write_examples,
)
from fvlightning.output.inspection import maps_sheets, means_figure, strongest_sheet
from fvlightning.output.loggers import log_image, log_scalars, takes_images
from fvlightning.output.names import class_names, epoch_label, file_names, group_name, layer_name, unit_file, with_class
from fvlightning.output.pixels import (
    Pixels,
    from_pixels,
    on_grey,
    read_pixels,
    resized,
    save_animation,
    save_png,
    shrunk,
    to_pixels,
    value_limit,
    weight_pixels,
)
from fvlightning.output.progress import EpochProgressBar, picture_progress
from fvlightning.output.records import Record, read_manifest, read_record
from fvlightning.output.sheets import card_parts, contact_sheet
from fvlightning.output.web_page import WebPage, rounded, rounded_all
from fvlightning.output.writer import FeatureWriter

__all__ = [
    "EpochProgressBar",
    "Example",
    "FeatureWriter",
    "Pixels",
    "Record",
    "UnitExamples",
    "WebPage",
    "card_parts",
    "class_names",
    "contact_sheet",
    "epoch_label",
    "example_label",
    "example_sheet",
    "example_tile",
    "file_names",
    "from_pixels",
    "group_name",
    "layer_name",
    "log_image",
    "log_scalars",
    "maps_sheets",
    "means_figure",
    "on_grey",
    "percent",
    "picture_columns",
    "picture_progress",
    "read_manifest",
    "read_pixels",
    "read_record",
    "resized",
    "rounded",
    "rounded_all",
    "save_animation",
    "save_png",
    "sheet_parts",
    "shrunk",
    "strongest_sheet",
    "takes_images",
    "to_pixels",
    "unit_file",
    "value_limit",
    "weight_pixels",
    "with_class",
    "write_examples",
]
