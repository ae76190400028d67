"""The same units in several spaces of pictures, as files and measured: what `compare` does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from fvlightning.analysis import (
    FeatureSpace,
    check_spaces,
    in_space,
    measure_natural_images,
    measure_pictures,
    measure_strongest,
    natural_batches,
    natural_medians,
)
from fvlightning.analysis.comparison import MEASURED_AT_ONCE
from fvlightning.analysis.spaces import NATURAL
from fvlightning.features import Maximizer, Objective, Parametrization, Unit
from fvlightning.features.objectives import objective_of
from fvlightning.io.digests import digest_of_weights
from fvlightning.output import check_writable, on_grey, to_pixels
from fvlightning.output.colors import Pixels
from fvlightning.output.writer import read_pixels
from fvlightning.runs.comparison_files import write_comparison
from fvlightning.runs.pictures import run_pictures


def run_comparison(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    datamodule: pl.LightningDataModule,
    units: Sequence[Unit | Objective],
    spaces: Mapping[str, Parametrization],
    maximizer: Maximizer,
    shape: tuple[int, ...],
    folder: Path,
    n_images: int,
    overwrite: bool = False,
) -> tuple[list[dict[str, Any]], str]:
    """Make pictures of units in several spaces, ``FOLDER/SPACE``, measure them, and write the comparison.

    Natural images and spaces are looked at first, so that what cannot be compared is said before anything is made.

    Args:
        trainer: As of `run_pictures`.
        model: As of `run_pictures`.
        datamodule: Has the natural images, and perhaps the names of their classes.
        units: As of `run_pictures`.
        spaces: The parametrisations by their names.
        maximizer: How the pictures are made, but for the parametrisation.
        shape: ``(C, H, W)`` of the pictures.
        folder: Where everything goes.
        n_images: How many natural images are measured at most.
        overwrite: As of `run_pictures`.

    Returns:
        The records of all pictures, and the table; nothing on ranks other than zero.

    Raises:
        InputError: A space cannot make such pictures, or the data have none.
    """
    check_spaces(spaces, shape)
    objectives = [unit if isinstance(unit, Objective) else objective_of(unit, maximizer.pooling) for unit in units]
    if trainer.is_global_zero:
        check_writable(folder)
        model.to(trainer.strategy.root_device)
        space = FeatureSpace(model, shape)
        batches = natural_batches(datamodule, shape, trainer.strategy.root_device, n_images)
        natural = measure_natural_images(model, objectives, space, batches)
    records = []
    for name, image in spaces.items():
        own = in_space(maximizer, image)
        records.append(
            run_pictures(trainer, model, units, own, shape, folder / name, overwrite, tag=name, datamodule=datamodule)
        )
    if not trainer.is_global_zero:
        return [], ""
    model.to(trainer.strategy.root_device)  # from which Lightning has moved it away
    batch_size = maximizer.batch_size or MEASURED_AT_ONCE
    strongest = measure_strongest(model, objectives, natural, batch_size)
    places = [(place, repeat) for place in range(len(units)) for repeat in range(maximizer.repeats)]
    # The strongest image of a unit stands beside each of its repeats.
    columns = {NATURAL: [strongest[place] for place, _ in places]}
    pixels = {NATURAL: [to_pixels(natural.strongest[place]) for place, _ in places]}
    for name, of_space in zip(spaces, records, strict=True):
        files = {(record["unit"], record["repeat"]): folder / name / record["file"] for record in of_space}
        read = [read_pixels(files[str(units[place]), repeat]) for place, repeat in places]
        pictures = torch.stack([_picture(each, shape[0]) for each in read])
        pixels[name] = [on_grey(each) for each in read]
        columns[name] = measure_pictures(model, objectives, places, pictures, natural, space, batch_size)
    settings = {
        "model": type(getattr(model, "net", model)).__name__,
        "weights": digest_of_weights(model),
        "data": type(datamodule).__name__,
        "natural_images": len(natural.activations),
        "features": f"input of {space.layer}",
        "maximizer": {key: value for key, value in maximizer.settings.items() if key != "image"},
        "spaces": {name: in_space(maximizer, image).settings["image"] for name, image in spaces.items()},
    }
    title = f"{settings['model']}: {', '.join(columns)}"
    all_records = [record for of_space in records for record in of_space]
    names = {record["unit"]: record["class"] for record in all_records if "class" in record}
    table = write_comparison(folder, columns, pixels, natural_medians(natural), title, settings, names)
    return all_records, table


def _picture(pixels: Pixels, n_channels: int) -> Tensor:
    """Return the picture ``(C, H, W)`` in [0, 1] that `to_pixels` has turned into pixels ``(H, W, 3)``."""
    values = torch.from_numpy(pixels[..., :3].copy()) / 255
    if n_channels == 3:
        return values.permute(2, 0, 1)
    # Of other numbers of channels one is beside the other.
    return torch.stack(values[..., 0].chunk(n_channels, dim=1))
