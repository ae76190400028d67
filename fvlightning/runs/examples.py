"""``examples``: the real images that excite units most and least."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from fvlightning.errors import InputError, some_of
from fvlightning.features import Objective, Unit, resolve_objectives
from fvlightning.features.objectives import Pooling
from fvlightning.io import check_writable, digest_of_weights
from fvlightning.output import (
    Pixels,
    UnitExamples,
    layer_name,
    log_image,
    picture_columns,
    save_png,
)
from fvlightning.protocols import model_name, picture_shape
from fvlightning.runs._example_pass import ExamplePass
from fvlightning.runs._images import image_source
from fvlightning.runs._pictures import load_checkpoint


def examples(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    units: Sequence[str | Objective] | str = (),
    images: str | None = None,
    output_dir: str = "examples",
    *,
    part: Literal["train", "val", "test"] | None = None,
    k: int = 5,
    n_images: int | None = None,
    pictures: str | None = None,
    pooling: Pooling = "mean",
    image_shape: tuple[int, int, int] | None = None,
    ckpt_path: str | None = None,
    weights_only: bool = True,
    datamodule: pl.LightningDataModule | None = None,
) -> None:
    """Find the real images that excite units most and least, and the patches that do it.

        fvlightning examples --config configs/quickstart.yaml --ckpt_path last.ckpt --units '["conv2:*", "fc2:*"]'

    OUTPUT_DIR/LAYER_examples.png has one row per unit: a histogram of its activations, the images that excite it most,
    one image of each tenth of its activations, and the images that excite it least. For units with a map, everything
    but the patch that the strongest activation depends on is faded. In a folder of visualize, its pictures of the units
    and of their negatives stand beside the images. OUTPUT_DIR/examples.json has the places, files, classes, scores and
    patches. The images pass through the model once, whatever the number of units. After an interruption, the same
    command goes on.

    Args:
        trainer: The trainer.
        model: The model with the units.
        units: The units, for example '["conv2:*", "fc2:7"]'; or objectives by class_path.
        images: Folder with images, including its subfolders; the middle of each is brought to the shape of the
            pictures. Default: the images of the data.
        output_dir: Folder of the results.
        part: The part of the data, train, val or test. Default: the first of test, val and train that has images.
        k: How many of the strongest and of the weakest images are shown of each unit.
        n_images: How many images are looked at, a random sample that is the same each time. Default: all.
        pictures: Folder of visualize with the pictures. Default: output_dir, if visualize has written to it.
        pooling: How a map becomes one number, mean or rms (root mean square).
        image_shape: Shape of the pictures, [C, H, W]. Default: the model's input_shape.
        ckpt_path: Checkpoint with the weights. Default: the weights that the model is made with.
        weights_only: Whether a checkpoint that holds more than tensors and plain values is refused; it always is.
        datamodule: Data with the images and the names of the classes.

    Raises:
        InputError: There are no images, a unit or the checkpoint cannot be used, the folder cannot be written, or units
            gave values that are not finite; the results of the others are there.
    """
    source = image_source("examples", images, datamodule, k=k, n_images=n_images)
    load_checkpoint(model, ckpt_path)
    shape = picture_shape(model, datamodule, image_shape)
    resolved = resolve_objectives(model, units, shape, pooling)
    folder = Path(output_dir)
    columns: Mapping[str, Mapping[str, Pixels]] = {}
    if pictures is not None or (folder / "features.json").exists():
        columns = _read_pictures(Path(pictures or folder), resolved, digest_of_weights(model), pooling)
    if pictures is not None and not columns:
        raise InputError(
            f"{pictures} has no pictures of these units; make them with visualize, or leave out --pictures"
        )
    if trainer.is_global_zero:
        check_writable(folder)
    options: dict[str, Any] = {"part": part, "n_images": n_images, "k": k, "pooling": pooling, "folder": folder}
    work = ExamplePass(model, resolved, source, image_shape=shape, **options)
    results = work.run(trainer).results(resolved)
    if not trainer.is_global_zero:
        return
    model.to(trainer.strategy.root_device)  # Lightning has moved it away
    pages = work.pages(results, datamodule)
    title = f"{model_name(model)}, {results[0].n_images:,} images"
    completed: list[UnitExamples] = []
    for page in pages:
        sheet = page.sheet(title, columns)
        save_png(sheet, folder / f"{layer_name(page.name)}_examples.png")
        log_image(trainer.loggers, f"examples/{page.name}", sheet, 0)
        completed += page.examples
    work.write_records(completed)
    work.remove_files()
    work.report_unreadable()
    report_examples(completed, k, folder)


def _read_pictures(
    folder: Path, units: Sequence[Unit | Objective], weights: str, pooling: Pooling
) -> Mapping[str, Mapping[str, Pixels]]:
    """Return the columns of pictures (`picture_columns`), and warn if they were made for something else."""
    columns, records = picture_columns(folder, list(map(str, units)))
    if any(record.weights != weights for record in records):
        rank_zero_warn(f"the pictures in {folder} were made with other weights than those of this command")
    if others := {record.settings["pooling"] for record in records} - {pooling}:
        made_with = " and ".join(sorted(others))
        rank_zero_warn(
            f"the pictures in {folder} were made with the pooling {made_with}, the images are chosen by {pooling}"
        )
    return columns


def report_examples(results: Sequence[UnitExamples], k: int, folder: Path) -> None:
    """Say what is where, and name the units with few images, without a response, or with non-finite values.

    Raises:
        InputError: Units gave values that are not finite.
    """
    n_images = max(result.n_images + result.n_non_finite for result in results)
    if n_images < k:
        rank_zero_info(f"there are {n_images} images, fewer than the {k} that are asked for at each end")
    for meaning, names in {
        "not active on any image": [result.unit for result in results if result.dead],
        "constant, with one value for all images": [result.unit for result in results if result.constant],
    }.items():
        if names:
            units = "1 unit is" if len(names) == 1 else f"{len(names)} units are"
            rank_zero_info(f"{units} {meaning}: {some_of(names)}")
    n_units = "1 unit" if len(results) == 1 else f"{len(results)} units"
    rank_zero_info(f"The examples of {n_units} are in {folder}, from {n_images} images")
    if failed := [f"{result.unit} ({result.n_non_finite})" for result in results if result.n_non_finite]:
        raise InputError(
            f"{len(failed)} of {len(results)} units gave values that are not finite, for the number of images in "
            f"brackets, which are left out: {some_of(failed)}; the other results are there"
        )
