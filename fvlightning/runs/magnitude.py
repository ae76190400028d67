"""The magnitude spectrum of a user's own data, measured once and kept in a file."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from PIL import Image as PILImage
from torch import Tensor

from fvlightning.errors import InputError
from fvlightning.features.images.magnitude import measure_magnitude
from fvlightning.features.images.magnitude_files import check_magnitude_name, read_settings, save_magnitude
from fvlightning.features.starts import fit_picture, read_image
from fvlightning.output import check_writable

# Settings of data modules that change no picture.
_OF_NO_EFFECT = {"batch_size", "num_workers"}
_PLAIN = (bool, int, float, str, tuple, list)
_N_NAMED = 8


class Pictures(Protocol):
    """Pictures that a spectrum is measured of.

    Attributes:
        image_shape: ``(C, H, W)`` of all of them.
        settings: What tells them from others, plain values.
    """

    image_shape: tuple[int, ...]
    settings: dict[str, Any]

    def __len__(self) -> int:
        """Return the number of batches."""

    def __iter__(self) -> Iterator[object]:
        """Yield them, in batches or one by one, in [0, 1]."""


class FolderPictures:
    """The image files in a folder and its subfolders: the middle of each, in the size that is wanted.

    Files that cannot be read are left out, with one warning that names them.

    Args:
        folder: The folder. Files count as images by the endings that Pillow knows.
        image_shape: ``(C, H, W)``, with 1 or 3 channels.

    Raises:
        InputError: There is no such folder or no image file in it, or the shape is none; when they are read: not one of
            them can be.
    """

    def __init__(self, folder: str | Path, image_shape: Sequence[int]) -> None:
        self.folder, self.image_shape = Path(folder), tuple(image_shape)
        if len(self.image_shape) != 3 or self.image_shape[0] not in (1, 3) or min(self.image_shape) < 1:
            raise InputError(f"image_shape={list(image_shape)}: give [C, H, W] with 1 or 3 channels, as [3, 224, 224]")
        if not self.folder.is_dir():
            raise InputError(f"no folder '{folder}'; give one with images")
        endings = PILImage.registered_extensions()
        files = (path for path in self.folder.rglob("*") if path.suffix.lower() in endings and path.is_file())
        self._files = sorted(files)
        if not self._files:
            raise InputError(f"no image files in '{folder}' or its subfolders; give a folder with PNG or JPEG files")
        listed = "\n".join(f"{path.relative_to(self.folder)} {path.stat().st_size}" for path in self._files)
        digest = hashlib.sha256(listed.encode()).hexdigest()[:16]
        self.settings: dict[str, Any] = {"images": str(folder), "files": len(self._files), "digest": digest}

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self._files)

    def __iter__(self) -> Iterator[Tensor]:
        """Yield a picture ``(C, H, W)`` in [0, 1] of each file that can be read."""
        unreadable: list[str] = []
        for path in self._files:
            try:
                image = read_image(path)
            except InputError as error:
                unreadable.append(path.name)
                if len(unreadable) == len(self._files):
                    raise InputError(f"not one of {len(self._files)} images can be read; the last: {error}") from error
                continue
            yield fit_picture(image, self.image_shape)
        if unreadable:
            more = f" and {len(unreadable) - _N_NAMED} more" if len(unreadable) > _N_NAMED else ""
            names = ", ".join(unreadable[:_N_NAMED]) + more
            rank_zero_warn(f"{len(unreadable)} of {len(self._files)} images cannot be read and are left out: {names}")


class DataPictures:
    """The training images of a data module, as they reach the model.

    Args:
        datamodule: The data module; it is prepared and set up.
        image_shape: ``(C, H, W)``. Default: the data module's ``image_shape``.

    Raises:
        InputError: The shape is not known.
    """

    def __init__(self, datamodule: pl.LightningDataModule, image_shape: Sequence[int] | None = None) -> None:
        datamodule.prepare_data()
        datamodule.setup("fit")
        shape = image_shape or getattr(datamodule, "image_shape", None)
        if shape is None:
            raise InputError(
                f"the shape of {type(datamodule).__name__}'s images is not known; give --image_shape '[C, H, W]'"
            )
        self.image_shape = tuple(shape)
        self._datamodule, self._loader = datamodule, datamodule.train_dataloader()
        settings = {
            name: value
            for name, value in vars(datamodule).items()
            if isinstance(value, _PLAIN) and not name.startswith("_") and name not in _OF_NO_EFFECT
        }
        self.settings: dict[str, Any] = {"data": type(datamodule).__name__, **settings}

    def __len__(self) -> int:
        """Return the number of batches; 0 where the loader does not know it."""
        return len(self._loader) if hasattr(self._loader, "__len__") else 0

    def __iter__(self) -> Iterator[object]:
        """Yield the batches."""
        for batch in self._loader:
            batch = self._datamodule.on_before_batch_transfer(batch, 0)
            yield self._datamodule.on_after_batch_transfer(batch, 0)


def keep_magnitude(
    pictures: Pictures,
    output: str | Path,
    decorrelate: bool = True,
    overwrite: bool = False,
    on_batch: Callable[[], object] = lambda: None,
) -> bool:
    """Measure the magnitude spectrum of pictures and write it to a file, unless that is there already.

    Args:
        pictures: The pictures.
        output: A ``.safetensors`` or a ``.pt`` file, for `MagnitudeConstrainedImage`.
        decorrelate: As in `measure_magnitude`.
        overwrite: Whether the spectrum is measured again where the file is there, and the file replaced.
        on_batch: Called after each batch.

    Returns:
        Whether it was measured: False if the file has the spectrum of these pictures already.

    Raises:
        InputError: The file cannot be written, or has something else in it; or the pictures have other shapes.
    """
    path = Path(output)
    check_magnitude_name(path)
    settings = {**pictures.settings, "image_shape": pictures.image_shape, "decorrelate": decorrelate}
    settings = json.loads(json.dumps(settings))  # as they are read: lists in the place of tuples
    if path.exists() and not overwrite:
        if read_settings(path) == settings:
            return False
        raise InputError(
            f"'{path}' is there, and was not measured of these pictures with these settings; --overwrite true replaces "
            "it, or choose another --output"
        )
    check_writable(path.parent)

    def counted() -> Iterator[object]:
        for batch in pictures:
            yield batch
            on_batch()

    save_magnitude(measure_magnitude(counted(), pictures.image_shape, decorrelate), path, settings)
    return True
