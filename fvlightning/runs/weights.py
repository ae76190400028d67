"""``weights``: the weights of a first layer beside the pictures of its units."""

from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from fvlightning.analysis import FirstLayer, first_layer
from fvlightning.errors import InputError
from fvlightning.features import Maximizer, Objective, Unit
from fvlightning.features.objectives import layers_of
from fvlightning.io import check_writable, digest_of_weights
from fvlightning.output import from_pixels, log_image, read_pixels
from fvlightning.protocols import model_name, picture_shape
from fvlightning.runs._pictures import checked_units, load_checkpoint, report_pictures, run_pictures, with_batch_size
from fvlightning.runs._weight_files import write_weights

_MOST_UNITS = 64


def weights(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    units: Sequence[str] | str = (),
    layer: str | None = None,
    maximizer: Maximizer | None = None,
    *,
    output_dir: str = "out",
    batch_size: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    overwrite: bool = False,
    ckpt_path: str | None = None,
    weights_only: bool = True,
    datamodule: pl.LightningDataModule | None = None,
) -> None:
    """Compare the weights of a first layer, as images, with the pictures of its units.

        fvlightning weights --config configs/mnist_mlp.yaml --ckpt_path last.ckpt

    OUTPUT_DIR/LAYER_weights.png shows the weights of each unit beside its picture: of a linear layer in the shape of
    the picture; of a convolution the kernel, the patch of the picture that excites it most, and the picture with a
    frame around that patch. Blue weights are negative, red ones positive; kernels for three channels are colours around
    grey. OUTPUT_DIR/weights.json has for each unit the norm of its weights, the score of its picture, and the cosine of
    the weights and the picture or patch as the layer sees it, after normalisation: as it is, with the means of both
    removed, and the largest that any picture in [0, 1] can have. Without means it is negative where a picture shows the
    opposite of a kernel, which the pooling rms rewards as well. The pictures are made as visualize makes them, and
    those that are in OUTPUT_DIR are kept.

    Args:
        trainer: The trainer.
        model: The model with the layer.
        units: Units of one layer, for example '["conv1:0-15"]'. Default: the first 64 of the layer.
        layer: The layer. Default: that of the units, or the first linear or two-dimensional convolutional layer.
        maximizer: How the pictures are made.
        output_dir: Folder of the results.
        batch_size: How many pictures are optimised at once on each device. Default: as many as fit.
        image_shape: Shape of the pictures, [C, H, W]. Default: the model's input_shape.
        overwrite: Whether pictures that exist are made again.
        ckpt_path: Checkpoint with the weights. Default: the weights that the model is made with.
        weights_only: Whether a checkpoint that holds more than tensors and plain values is refused; it always is.
        datamodule: Data, which gives the image shape if the model does not know it, and the names of the classes.

    Raises:
        InputError: The layer's weights are no images or its inputs no pixels, a unit or the checkpoint cannot be used,
            the folder cannot be written, or units gave values that are not finite; the pictures of the other units are
            there.
    """
    load_checkpoint(model, ckpt_path)
    shape = picture_shape(model, datamodule, image_shape)
    maximizer = with_batch_size(maximizer, batch_size)
    if not maximizer.settings.image.bounded:
        kind = type(maximizer.settings.image).__name__
        raise InputError(f"weights shows pictures in [0, 1], and {kind} makes others; give another --maximizer.image")
    chosen = FirstLayer(model, layer or _layer_of(units) or first_layer(model), shape)
    n_units = len(chosen.weights)
    if not units and n_units > _MOST_UNITS:
        rank_zero_info(f"{chosen.layer} has {n_units} units: the first {_MOST_UNITS} are shown; --units gives others")
    units = units or f"{chosen.layer}:0-{min(n_units, _MOST_UNITS) - 1}"
    resolved = checked_units(model, units, shape, maximizer.settings.pooling)
    for unit in resolved:
        if not isinstance(unit, Unit) or unit.index is None or unit != Unit(chosen.layer, unit.index):
            raise InputError(
                f"{str(unit)!r} has no weights of its own in layer {chosen.layer!r}; give LAYER:INDEX, for example "
                f"'{chosen.layer}:0'"
            )
    folder = Path(output_dir)
    if trainer.is_global_zero:
        check_writable(folder)
    records = run_pictures(
        trainer, model, resolved, maximizer, folder, image_shape=shape, overwrite=overwrite, datamodule=datamodule
    )
    if not trainer.is_global_zero:
        return
    pixels = [read_pixels(folder / record.file) for record in records]
    pictures = torch.stack([from_pixels(picture, shape[0]) for picture in pixels])
    indices = [Unit.parse(record.unit).index or 0 for record in records]
    matches = chosen.match(indices, pictures, either_sign=maximizer.settings.pooling == "rms")
    settings = {"model": model_name(model), "weights": digest_of_weights(model), "layer": chosen.layer}
    summary, sheets = write_weights(folder, records, matches, pictures, settings=settings)
    rank_zero_info(summary)
    for name, sheet in sheets.items():
        log_image(trainer.loggers, f"weights/{name}", sheet, 0)
    report_pictures(records, folder)


def _layer_of(units: Sequence[str | Objective] | str) -> str | None:
    """Return the one layer of some units, or None without units."""
    names = sorted({layer.layer for layer in layers_of(units)}) if units else []
    if len(names) > 1:
        raise InputError(f"units of several layers, {', '.join(names)}; give those of the first layer alone")
    return names[0] if names else None
