"""Which images a command reads, as settings that tell them from others."""

import hashlib
import json
from pathlib import Path
from typing import Any

from fvlightning.errors import InputError
from fvlightning.io import list_image_files

# Settings of data modules that change no picture.
_WITHOUT_EFFECT = {"batch_size", "num_workers"}
_PLAIN = (bool, int, float, str, tuple, list)


def image_source(command: str, images: str | None, datamodule: object, **numbers: int | None) -> Any:
    """Return what the images come from: a folder if there is one, or else a data module.

    Raises:
        InputError: There is neither, or one of some numbers of images, by the names of their options, is less than 1.
    """
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise InputError(f"{command}({name}={value}): must be at least 1")
    source = datamodule if images is None else images
    if source is None:
        raise InputError(f"{command} needs images: either --images FOLDER, or --data with a data module")
    return source


def describe_images(source: Any) -> dict[str, Any]:
    """Return what identifies the images of a folder, its files and their sizes, or of a data module, its settings."""
    if isinstance(source, str | Path):
        files = list_image_files(source)
        sizes = "\n".join(f"{path.relative_to(source)} {path.stat().st_size}" for path in files)
        digest = hashlib.sha256(sizes.encode()).hexdigest()[:16]
        return {"images": str(source), "files": len(files), "digest": digest}
    settings = {
        name: value
        for name, value in vars(source).items()
        if isinstance(value, _PLAIN) and not name.startswith("_") and name not in _WITHOUT_EFFECT
    }
    # Transforms, which are objects, as their texts.
    described: dict[str, Any] = json.loads(json.dumps({"data": type(source).__name__, **settings}, default=repr))
    return described
