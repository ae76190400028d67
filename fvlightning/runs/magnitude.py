"""``magnitude``: the frequencies and colours of a user's own images, measured once and kept in a file."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from fvlightning.data import read_pictures
from fvlightning.errors import InputError
from fvlightning.features.images import (
    check_magnitude_name,
    measure_statistics,
    read_magnitude_settings,
    save_magnitude,
)
from fvlightning.io import check_writable, list_image_files
from fvlightning.output import picture_progress
from fvlightning.runs._images import describe_images


def magnitude(
    trainer: pl.Trainer,
    output: str,
    images: str | None = None,
    datamodule: pl.LightningDataModule | None = None,
    image_shape: tuple[int, int, int] | None = None,
    *,
    decorrelate: bool = True,
    overwrite: bool = False,
) -> None:
    """Measure the frequencies and the colours of images, for FourierImage and MagnitudeConstrainedImage.

        fvlightning magnitude --images PHOTOS --image_shape '[3, 224, 224]' --output photos.pt
        fvlightning magnitude --data MNISTDataModule --data.source sample --output digits.pt

    The file is FourierImage's setting 'statistics', which makes pictures with the frequencies and colours of the
    images, and MagnitudeConstrainedImage's 'magnitude'. The images are those of a folder, of any size, or the training
    images of a data module. A second run with the same images and settings keeps the file.

    Args:
        trainer: The trainer.
        output: The file, NAME.pt or NAME.safetensors.
        images: Folder with images, including its subfolders; the middle of each image is measured. Instead of --data.
        datamodule: Data whose training images are measured.
        image_shape: Shape that the images of a folder are brought to, [C, H, W]. Images of data have to have it.
        decorrelate: Whether the spectrum of three channels is that of decorrelated colours, which has to match the
            setting of MagnitudeConstrainedImage.
        overwrite: Whether an existing file is replaced.

    Raises:
        InputError: There are no images, none can be read, or the file cannot be written or holds something else.
    """
    if not trainer.is_global_zero:
        return
    if (images is None) == (datamodule is None):
        raise InputError("magnitude needs images: either --images FOLDER, or --data with a data module, not both")
    path = Path(output)
    check_magnitude_name(path)
    source: Any = images if datamodule is None else datamodule
    batches = read_pictures(source, "train", image_shape=image_shape)
    first = next(batches)  # which sets the data up
    shape = tuple(first.pictures.shape[1:])
    loader: Any = None if datamodule is None else datamodule.train_dataloader()
    n_images = len(list_image_files(source)) if datamodule is None else _size(getattr(loader, "dataset", None))
    # As they are read back: with lists in place of tuples.
    settings = {**describe_images(source), "image_shape": list(shape), "decorrelate": decorrelate}
    if path.exists() and not overwrite:
        if read_magnitude_settings(path) != settings:
            raise InputError(
                f"'{path}' exists, and was not measured on these images with these settings; --overwrite true replaces "
                "it, or choose another --output"
            )
        print(f"{path} exists, measured with these settings, and is kept; --overwrite true measures it again")
        return
    check_writable(path.parent)
    with picture_progress(trainer, trainer.progress_bar_callback, "Images", n_images, max(n_images, 1)) as progress:

        def counted() -> Iterator[Tensor]:
            for batch in chain([first], batches):
                yield batch.pictures
                progress.step(len(batch.pictures))
                progress.done(len(batch.pictures))

        statistics = measure_statistics(counted(), shape, decorrelate)
        save_magnitude(statistics, path, settings)
    color = " ".join(f"{value:.2f}" for value in statistics.mean_color.tolist())
    print(f"Statistics:  {path}")
    print(
        f"             power falls as f^{statistics.slope:.2f}, contrast {statistics.contrast:.2f}, mean colour {color}"
    )


def _size(dataset: Any) -> int:
    """Return the number of images in a dataset, 0 if it is not known."""
    return len(dataset) if hasattr(dataset, "__len__") else 0
