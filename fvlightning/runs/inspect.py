"""``inspect``: images through a model, layer by layer, with the pictures of the filters that they excite most."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from fvlightning.analysis import Inspection, inspect_picture
from fvlightning.data import read_pictures
from fvlightning.errors import InputError, some_of
from fvlightning.features import LayerCall, Maximizer, Unit
from fvlightning.features.capture import measure_layers
from fvlightning.features.objectives import check_responses
from fvlightning.io import check_writable, digest_of_weights, image_size, list_image_files, write_json
from fvlightning.output import Record, class_names, on_grey, read_pixels, with_class
from fvlightning.protocols import model_name, picture_shape, read_crop_pct
from fvlightning.runs._inspection_files import PICTURES, InspectionFiles
from fvlightning.runs._pictures import load_checkpoint, report_pictures, run_pictures, with_batch_size

_OPEN_RELU_STEPS = 16  # as in lucid


def inspect(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    images: Sequence[str] | str,
    layers: Sequence[str] | str,
    maximizer: Maximizer | None = None,
    *,
    top: int = 5,
    pictures: bool = True,
    classes: bool | None = None,
    own_scale: bool = False,
    curve: Literal["png", "pdf", "svg"] = "png",
    output_dir: str = "out",
    batch_size: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    overwrite: bool = False,
    ckpt_path: str | None = None,
    weights_only: bool = True,
    datamodule: pl.LightningDataModule | None = None,
) -> None:
    """Show what a model makes of images: its predictions, its feature maps, and the filters that respond most.

        fvlightning inspect --config configs/imagenet_lite0.yaml --images cat.jpg --layers '["blocks.4.1.conv_pwl"]'

    Each image has a folder, OUTPUT_DIR/IMAGE. LAYER_maps.png has the maps of all filters, 144 a sheet; in a vision
    transformer those of the patch tokens. LAYER_curve.png has the mean activation of each filter. LAYER_top.png has the
    filters with the largest means: their own pictures beside the image, and their maps laid over it. The pictures are
    in OUTPUT_DIR/pictures, as visualize writes them, for all images together; a second run makes only those that are
    missing. OUTPUT_DIR/inspection.json has all figures.

    Args:
        trainer: The trainer.
        model: The model.
        images: An image file, a folder with its subfolders, or a list of these.
        layers: Layers of the model, for example '["conv2", "relu#1"]', where relu#1 is the second call of relu.
        maximizer: How the filters' pictures are made; its open_relu_steps are 16 unless it has some.
        top: How many filters of each layer are shown with their pictures.
        pictures: Whether the filters' pictures are made, which takes seconds for each.
        classes: Whether the model's outputs are classes. Default: if the data or the model have as many class_names, or
            the model says so by its num_classes.
        own_scale: Whether the colours of each map cover its own range, rather than that of all maps.
        curve: Format of the curves; pdf and svg are made beside png.
        output_dir: Folder of the results.
        batch_size: How many pictures are optimised at once on each device. Default: as many as fit.
        image_shape: Shape that the images are brought to, [C, H, W]. Default: the model's input_shape.
        overwrite: Whether pictures that exist are made again.
        ckpt_path: Checkpoint with the weights. Default: the weights that the model is made with.
        weights_only: Whether a checkpoint that holds more than tensors and plain values is refused; it always is.
        datamodule: Data, which gives the names of the classes, and the image shape if the model does not know it.

    Raises:
        InputError: There are no images, none can be read, a layer or the checkpoint cannot be used, the folder cannot
            be written, the outputs cannot be classes, or activations or pictures are not finite; whatever can be made
            is there.
    """
    if top < 1:
        raise InputError(f"inspect(top={top}): must be at least 1")
    load_checkpoint(model, ckpt_path)
    maximizer = with_batch_size(maximizer, batch_size)
    if not maximizer.settings.open_relu_steps:
        # A filter that responds to an image is not dead, though ReLUs may block it in the first picture.
        maximizer = maximizer.replace(open_relu_steps=_OPEN_RELU_STEPS)
    shape = picture_shape(model, datamodule, image_shape)
    names = [layers] if isinstance(layers, str) else list(layers)
    if not names:
        raise InputError("no layers are given; name at least one, for example 'conv2'")
    measure_layers(model, map(LayerCall.parse, names), shape)  # which checks them
    files = _image_files([images] if isinstance(images, str) else images)
    folder = Path(output_dir)
    if trainer.is_global_zero:
        check_writable(folder)
    output = InspectionFiles(folder, files, model_name(model), trainer.loggers, own_scale=own_scale, curve=curve)
    crop_pct = read_crop_pct(model)

    def run(files: list[Path]) -> Iterator[tuple[Path, Inspection]]:
        """Yield what the model makes of each image that can be read."""
        model.to(trainer.strategy.root_device)  # Lightning moves it away after making pictures
        for batch in read_pictures(files, image_shape=shape, crop_pct=crop_pct):
            for picture, index in zip(batch.pictures, batch.indices.tolist(), strict=True):
                yield files[index], inspect_picture(model, names, picture, datamodule=datamodule, classes=classes)

    strongest: dict[Path, dict[str, list[Unit]]] = {}
    entries: list[dict[str, Any]] = []
    not_finite: list[str] = []
    may_be_classes = False
    for file, inspection in run(files):
        strongest[file] = inspection.strongest(top)
        size = image_size(file)
        entries.append({"image": str(file), "size": size, "folder": output.names[file], **inspection.figures(top)})
        not_finite += [f"{unit} for {file}" for unit in inspection.not_finite]
        outputs = inspection.outputs
        if not inspection.predictions and outputs is not None and len(outputs) > 1 and bool(outputs.isfinite().all()):
            may_be_classes = classes is None
        if trainer.is_global_zero:
            print(_line(file, size, inspection, crop_pct))
            output.write_responses(file, inspection, strongest[file])
    if may_be_classes:
        rank_zero_info("The outputs are not known to be classes; --classes true shows them as such")
    if trainer.is_global_zero:
        facts = {"model": model_name(model), "weights": digest_of_weights(model), "image_shape": shape}
        unreadable = [str(file) for file in files if file not in strongest]
        write_json(folder / "inspection.json", {**facts, "images": entries, "unreadable": unreadable})
    units_of_layers = [units for by_layer in strongest.values() for units in by_layer.values()]
    units = list(dict.fromkeys(chain.from_iterable(units_of_layers)))
    records: list[Record] = []
    if pictures and units:
        # Only for missing gradients: a mean that is constant is warned of with its pictures.
        check_responses(model, units, shape, maximizer.settings.pooling)
        options: dict[str, Any] = {"image_shape": shape, "overwrite": overwrite, "datamodule": datamodule}
        records = run_pictures(trainer, model, units, maximizer, folder / PICTURES, tag=PICTURES, **options)
    if not trainer.is_global_zero:
        return
    unit_classes = class_names(model, datamodule, units, shape)
    labels = {unit: with_class(str(unit.index), unit_classes.get(str(unit))) for unit in units}
    made = {Unit.parse(record.unit): record for record in records if record.repeat == 0}
    labels |= {unit: record.label for unit, record in made.items()}
    shown = {unit: on_grey(read_pixels(folder / PICTURES / record.file)) for unit, record in made.items()}
    for file, inspection in run(list(strongest)):
        output.write_strongest(file, inspection, strongest[file], labels, shown)
    rank_zero_info(f"{len(entries)} {'image is' if len(entries) == 1 else 'images are'} in {folder}")
    report_pictures(records, folder / PICTURES)
    if not_finite:
        raise InputError(
            f"{len(not_finite)} mean activations are not finite: {some_of(not_finite)}; the rest is in {folder}"
        )


def _image_files(images: Sequence[str]) -> list[Path]:
    """Return image files, and those in folders, each once."""
    files = [file for path in map(Path, images) for file in (list_image_files(path) if path.is_dir() else [path])]
    if not files:
        raise InputError("no images are given; name a file or a folder")
    return list(dict.fromkeys(files))


def _line(file: Path, size: tuple[int, int], inspection: Inspection, crop_pct: float) -> str:
    """Return the line about an image: its file, what was done to its size, and the predictions."""
    (height, width), seen = size, tuple(inspection.picture.shape[1:])
    resized = f" ({width} x {height}, its middle resized to {seen[1]} x {seen[0]})"
    predicted = inspection.predicted()
    return f"{file}{'' if size == seen and crop_pct == 1 else resized}" + (f": {predicted}" if predicted else "")
