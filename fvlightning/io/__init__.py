"""Images, safe loading, checkpoints, digests and atomic files."""

from fvlightning.io.checkpoints import flatten, imported_class, read_checkpoint, require_checkpoint
from fvlightning.io.digests import digest_of_file, digest_of_tensors, digest_of_weights
from fvlightning.io.files import check_writable, remove_unfinished, write_atomically, write_json, write_text
from fvlightning.io.images import (
    UnreadableImageError,
    Window,
    central_window,
    fit_picture,
    image_size,
    list_image_files,
    opened_image,
    read_image,
    to_tensor,
)
from fvlightning.io.loading import load_plain

__all__ = [
    "UnreadableImageError",
    "Window",
    "central_window",
    "check_writable",
    "digest_of_file",
    "digest_of_tensors",
    "digest_of_weights",
    "fit_picture",
    "flatten",
    "image_size",
    "imported_class",
    "list_image_files",
    "load_plain",
    "opened_image",
    "read_checkpoint",
    "read_image",
    "remove_unfinished",
    "require_checkpoint",
    "to_tensor",
    "write_atomically",
    "write_json",
    "write_text",
]
