"""``compare``: the same units in several spaces of pictures, measured beside natural images."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from fvlightning.analysis import (
    FeatureSpace,
    measure_natural_images,
    measure_pictures,
    measure_strongest,
    natural_medians,
)
from fvlightning.data import read_pictures
from fvlightning.errors import InputError
from fvlightning.features import Maximizer, Objective, Parametrization, objective_of
from fvlightning.io import check_writable, digest_of_weights
from fvlightning.output import from_pixels, on_grey, read_pixels, to_pixels
from fvlightning.protocols import model_name, picture_shape
from fvlightning.runs._comparison_files import write_comparison
from fvlightning.runs._pictures import (
    check_folder_name,
    checked_units,
    load_checkpoint,
    report_pictures,
    run_pictures,
    with_batch_size,
)

NATURAL = "natural"


def compare(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    datamodule: pl.LightningDataModule,
    spaces: dict[str, Parametrization] | None = None,
    units: Sequence[str | Objective] | str = (),
    *,
    maximizer: Maximizer | None = None,
    output_dir: str = "comparison",
    batch_size: int | None = None,
    n_images: int = 5000,
    overwrite: bool = False,
    ckpt_path: str | None = None,
    weights_only: bool = True,
) -> None:
    """Make pictures of the same units in several spaces on the same budget, and measure them side by side.

        fvlightning compare --config configs/cifar10_cnn.yaml --config configs/cifar10_spaces.yaml --units '["fc2:*"]'

    The pictures of each space are in OUTPUT_DIR/SPACE, as visualize writes them. A second run makes only those that are
    missing. OUTPUT_DIR/comparison.png has one row per unit and one column per space, the first with the natural image
    that excites the unit most. OUTPUT_DIR/comparison.md has the medians: the activation over the largest of a natural
    image, the activation of random crops over that of the picture, total variation, spectral slope, contrast,
    colourfulness, and the distance to the nearest natural image at the input of the last layer.
    OUTPUT_DIR/comparison.json has those of each picture.

    Args:
        trainer: The trainer.
        model: The model with the units.
        datamodule: Data with the natural images, and perhaps the names of the classes.
        spaces: Parametrisations by names of your own, for example --spaces.pixel PixelImage.
        units: What is maximised, for example '["conv3:*", "fc2:7"]'; or objectives by class_path.
        maximizer: How the pictures are made; its image is replaced by that of each space.
        output_dir: Folder of the results.
        batch_size: How many pictures are optimised at once on each device. Default: as many as fit.
        n_images: How many natural images are measured at most, from the test set or else from the validation set.
        overwrite: Whether pictures that exist are made again.
        ckpt_path: Checkpoint with the weights. Default: the weights that the model is made with.
        weights_only: Whether a checkpoint that holds more than tensors and plain values is refused; it always is.

    Raises:
        InputError: There are no images or no spaces, a space cannot make pictures of the model's shape, a unit or the
            checkpoint cannot be used, the folder cannot be written, or units gave values that are not finite.
    """
    if n_images < 2:
        raise InputError(f"compare(n_images={n_images}): must be at least 2, or no image has a neighbour")
    load_checkpoint(model, ckpt_path)
    maximizer = with_batch_size(maximizer, batch_size)
    shape = picture_shape(model, datamodule)
    resolved = checked_units(model, units, shape, maximizer.settings.pooling)
    check_spaces(spaces or {}, shape)
    maximizers = {name: maximizer.replace(image=image) for name, image in (spaces or {}).items()}
    folder = Path(output_dir)
    if trainer.is_global_zero:
        check_writable(folder)
        # Before any picture is made, so that unusable data end the run at once.
        device = trainer.strategy.root_device
        model.to(device)
        feature_space = FeatureSpace(model, shape)
        batches = read_pictures(datamodule, image_shape=shape, limit=n_images, device=device)
        objectives = [
            unit if isinstance(unit, Objective) else objective_of(unit, maximizer.settings.pooling) for unit in resolved
        ]
        natural = measure_natural_images(model, objectives, feature_space, (batch.pictures for batch in batches))
    options: dict[str, Any] = {"image_shape": shape, "overwrite": overwrite, "datamodule": datamodule}
    records = {
        name: run_pictures(trainer, model, resolved, maximizer_of_space, folder / name, tag=name, **options)
        for name, maximizer_of_space in maximizers.items()
    }
    if not trainer.is_global_zero:
        return
    model.to(device)  # Lightning has moved it away
    size = maximizer.settings.batch_size
    strongest = measure_strongest(model, objectives, natural, size)
    places = [(place, repeat) for place in range(len(resolved)) for repeat in range(maximizer.settings.repeats)]
    # The strongest image of a unit stands beside each of its repeats.
    columns = {NATURAL: [strongest[place] for place, _ in places]}
    pixels = {NATURAL: [to_pixels(natural.strongest[place]) for place, _ in places]}
    for name, records_of_space in records.items():
        files = {(record.unit, record.repeat): folder / name / record.file for record in records_of_space}
        saved = [read_pixels(files[str(resolved[place]), repeat]) for place, repeat in places]
        pictures = torch.stack([from_pixels(picture, shape[0]) for picture in saved])
        pixels[name] = [on_grey(picture) for picture in saved]
        columns[name] = measure_pictures(
            model, objectives, places, pictures, natural, space=feature_space, batch_size=size
        )
    settings = {
        "model": model_name(model),
        "weights": digest_of_weights(model),
        "data": type(datamodule).__name__,
        "natural_images": len(natural.activations),
        "features": f"input of {feature_space.layer}",
        "maximizer": {key: value for key, value in maximizer.settings.describe().items() if key != "image"},
        "spaces": {name: image.settings for name, image in (spaces or {}).items()},
    }
    all_records = [record for records_of_space in records.values() for record in records_of_space]
    class_names = {record.unit: record.class_name for record in all_records if record.class_name is not None}
    natural_row = natural_medians(natural)
    table = write_comparison(folder, columns, pixels, natural=natural_row, settings=settings, class_names=class_names)
    print(table, end="")
    report_pictures(all_records, folder)


def check_spaces(spaces: Mapping[str, Parametrization], image_shape: Sequence[int]) -> None:
    """Check that parametrisations make pictures of a shape, and that their names can be those of folders.

    Args:
        spaces: The parametrisations by name.
        image_shape: ``(C, H, W)`` of the pictures.

    Raises:
        InputError: There are no spaces, a name is not a plain word, or a parametrisation cannot make such pictures.
    """
    if not spaces:
        raise InputError("no spaces to compare; give some, for example --spaces.pixel PixelImage")
    for name, image in spaces.items():
        check_folder_name(name, "a space", (NATURAL,), "names the images")
        if not image.bounded:
            raise InputError(f"space {name!r}: {type(image).__name__} makes no pictures in [0, 1]; leave it out")
        try:
            image.initial_parameters(image_shape, torch.Generator())
        except InputError as error:
            raise InputError(f"space {name!r}: {error}") from error
