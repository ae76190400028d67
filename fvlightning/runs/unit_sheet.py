"""``unit_sheet``: all that is known of a unit on one sheet, for a paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from PIL import Image as PILImage

from fvlightning.analysis import FirstLayer
from fvlightning.features import Maximizer, Objective, Unit
from fvlightning.io import check_writable
from fvlightning.output import (
    Pixels,
    Record,
    UnitExamples,
    from_pixels,
    log_image,
    on_grey,
    read_pixels,
    unit_file,
    with_class,
)
from fvlightning.protocols import model_name, picture_shape
from fvlightning.runs._example_pass import ExamplePass
from fvlightning.runs._images import image_source
from fvlightning.runs._pictures import (
    checked_units,
    load_checkpoint,
    negative_of,
    report_pictures,
    run_pictures,
    score_of,
    with_batch_size,
)
from fvlightning.runs._unit_figure import UnitSheet, save_sheet
from fvlightning.runs._weight_files import first_layers, layer_of_weights, match_of, weight_tile
from fvlightning.runs.examples import report_examples

_PICTURES, _EXAMPLES = "pictures", "examples"


def unit_sheet(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    units: Sequence[str | Objective] | str = (),
    maximizer: Maximizer | None = None,
    images: str | None = None,
    *,
    output_dir: str = "sheets",
    part: Literal["train", "val", "test"] | None = None,
    k: int = 5,
    n_images: int | None = None,
    batch_size: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    overwrite: bool = False,
    ckpt_path: str | None = None,
    weights_only: bool = True,
    datamodule: pl.LightningDataModule | None = None,
) -> None:
    """Put all that is known of a unit on one sheet, as a figure for a paper.

        fvlightning unit_sheet --config configs/quickstart.yaml --ckpt_path last.ckpt --units '["conv2:3", "fc2:7"]'

    OUTPUT_DIR/LAYER/INDEX.png and INDEX.pdf show the unit's picture and that of its negative, the images that excite it
    most and least with their patches, a histogram of its activations, the scores of the optimisation step by step, and
    the figures; for a unit of the first layer also its weights beside the patch of the picture that excites it most.
    The pictures are in OUTPUT_DIR/pictures, as visualize makes them, and the figures of the images in
    OUTPUT_DIR/examples/examples.json, as examples writes them. The same command goes on after an interruption; it makes
    pictures that are missing, and passes the images through the model again if units or settings have changed.

    Args:
        trainer: The trainer.
        model: The model with the units.
        units: The units, for example '["conv2:3", "fc2:*"]'; or objectives by class_path.
        maximizer: How the pictures are made. Its pooling is also that of the images' scores.
        images: Folder with images, including its subfolders; the middle of each is brought to the shape of the
            pictures. Default: the images of the data.
        output_dir: Folder of the results.
        part: The part of the data, train, val or test. Default: the first of test, val and train that has images.
        k: How many of the strongest and of the weakest images are shown.
        n_images: How many images are looked at, a random sample that is the same each time. Default: all.
        batch_size: How many pictures are optimised at once on each device. Default: as many as fit.
        image_shape: Shape of the pictures, [C, H, W]. Default: the model's input_shape.
        overwrite: Whether pictures that exist are made again.
        ckpt_path: Checkpoint with the weights. Default: the weights that the model is made with.
        weights_only: Whether a checkpoint that holds more than tensors and plain values is refused; it always is.
        datamodule: Data with the images and the names of the classes.

    Raises:
        InputError: There are no images, a unit or the checkpoint cannot be used, the folder cannot be written, or units
            gave values that are not finite; the sheets of all units are there.
    """
    source = image_source("unit_sheet", images, datamodule, k=k, n_images=n_images)
    load_checkpoint(model, ckpt_path)
    maximizer = with_batch_size(maximizer, batch_size)
    pooling = maximizer.settings.pooling
    shape = picture_shape(model, datamodule, image_shape)
    resolved = checked_units(model, units, shape, pooling)
    folder = Path(output_dir)
    if trainer.is_global_zero:
        check_writable(folder)
    options: dict[str, Any] = {"part": part, "n_images": n_images, "k": k, "pooling": pooling}
    work = ExamplePass(model, resolved, source, image_shape=shape, folder=folder / _EXAMPLES, **options)
    shown = list({str(unit): unit for unit in [*resolved, *map(negative_of, resolved)]}.values())
    options = {"image_shape": shape, "overwrite": overwrite, "tag": _PICTURES, "datamodule": datamodule}
    records = run_pictures(trainer, model, shown, maximizer, folder / _PICTURES, **options)
    results = work.run(trainer).results(resolved)
    if not trainer.is_global_zero:
        return
    model.to(trainer.strategy.root_device)  # Lightning has moved it away
    # If a unit has several pictures, its best one is shown.
    best = {record.unit: record for record in sorted(records, key=score_of)}
    pairs = {str(unit): (unit, best[str(unit)], best[str(negative_of(unit))]) for unit in resolved}
    layers = first_layers(model, resolved, shape)
    pages = work.pages(results, datamodule)
    completed: list[UnitExamples] = []
    for page in pages:
        for found, tiles in zip(page.examples, page.tiles, strict=True):
            unit, *made = pairs[found.unit]
            pixels = [on_grey(read_pixels(folder / _PICTURES / record.file)) for record in made]
            sheet = UnitSheet(
                title=with_class(found.unit, found.class_name),
                source=f"{model_name(model)}, {found.n_images:,} images",
                record=made[0],
                pictures=dict(zip(_captions(*made), pixels, strict=True)),
                weights=_weights(layers, unit, made[0], pixels[0]),
                examples=found,
                tiles=tiles,
            )
            path = folder / unit_file(unit)
            save_sheet(sheet, path)
            log_image(trainer.loggers, f"unit_sheet/{unit}", PILImage.fromarray(on_grey(read_pixels(path))), 0)
            completed.append(found)
    work.write_records(completed)
    rank_zero_info(f"{len(resolved)} {'sheet is' if len(resolved) == 1 else 'sheets are'} in {folder}")
    report_pictures(records, folder / _PICTURES)
    work.report_unreadable()
    report_examples(completed, k, folder / _EXAMPLES)


def _captions(picture: Record, negative: Record) -> list[str]:
    """Return what stands under the picture and the negative picture: the unit's score in both, and what is wrong."""
    captions = []
    for name, record, sign in (("picture", picture, 1), ("negative picture", negative, -1)):
        # 0 makes a negative zero positive.
        score = "" if record.score is None else f": {sign * record.score + 0:.3g}"
        limit = "" if record.limit is None else f" (±{record.limit:.2g})"
        captions.append(f"{name}{score}{limit}" + ("" if record.status == "ok" else f" ({record.status})"))
    return captions


def _weights(
    layers: Mapping[str, FirstLayer], unit: Unit | Objective, record: Record, pixels: Pixels
) -> tuple[Pixels, str] | None:
    """Return the weights of a unit beside its picture, and what stands under them; None if they are no image."""
    if (layer := layer_of_weights(layers, unit, record)) is None:
        return None
    picture = from_pixels(pixels, record.image_shape[0])
    match = match_of(layer, unit, record, picture)
    caption = "weights, picture" if match.patch.shape == picture.shape else "weights, strongest patch, picture"
    if record.status == "ok" and match.cosine is not None and match.centred_cosine is not None:
        caption += f"\ncosine {match.cosine:.2f}, without means {match.centred_cosine:.2f}"
    return weight_tile(match, picture), caption
