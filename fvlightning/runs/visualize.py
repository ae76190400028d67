"""``visualize``: pictures of units, as files."""

from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl

from fvlightning.features import Maximizer, Objective
from fvlightning.features.capture import survey_layers
from fvlightning.io import check_writable
from fvlightning.protocols import named_network, picture_shape
from fvlightning.runs._pictures import checked_units, load_checkpoint, report_pictures, run_pictures, with_batch_size


def visualize(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    units: Sequence[str | Objective] | str = (),
    maximizer: Maximizer | None = None,
    output_dir: str = "out",
    *,
    batch_size: int | None = None,
    image_shape: tuple[int, int, int] | None = None,
    overwrite: bool = False,
    list_layers: bool = False,
    ckpt_path: str | None = None,
    weights_only: bool = True,
    datamodule: pl.LightningDataModule | None = None,
) -> None:
    """Make pictures of what units look for, and write them to a folder.

        fvlightning visualize --config configs/quickstart.yaml --ckpt_path last.ckpt --units '["conv2:*", "fc2:7"]'

    Each picture is written when it is finished, OUTPUT_DIR/LAYER/INDEX.png. At the end there are a contact sheet of
    each layer, OUTPUT_DIR/LAYER.png, and OUTPUT_DIR/features.json. Weighted sums of units are in OUTPUT_DIR/sums, and
    snapshots beside their pictures, INDEX_steps.png. A second run makes only pictures that are missing, or that were
    made with other settings or another model.

    Args:
        trainer: The trainer.
        model: The model with the units.
        units: What is maximised, for example '["conv2:*", "fc2:7"]' or 'fc2:7 - 0.5*fc2:3'; or objectives by
            class_path.
        maximizer: How the pictures are made.
        output_dir: Folder of the results.
        batch_size: How many pictures are optimised at once on each device. Default: as many as fit.
        image_shape: Shape of the pictures, [C, H, W]. Default: the model's input_shape.
        overwrite: Whether pictures that exist are made again.
        list_layers: Print the layers with their output shapes and numbers of units, and make no pictures.
        ckpt_path: Checkpoint with the weights. Default: the weights that the model is made with.
        weights_only: Whether a checkpoint that holds more than tensors and plain values is refused; it always is.
        datamodule: Data, which gives the image shape if the model does not know it, and the names of the classes.

    Raises:
        InputError: A unit or the checkpoint cannot be used, the folder cannot be written, or units gave values that
            are not finite; the pictures of the other units are there.
    """
    load_checkpoint(model, ckpt_path)
    shape = picture_shape(model, datamodule, image_shape)
    if list_layers:
        return _print_layers(model, shape)
    maximizer = with_batch_size(maximizer, batch_size)
    resolved = checked_units(model, units, shape, maximizer.settings.pooling)
    folder = Path(output_dir)
    if trainer.is_global_zero:
        check_writable(folder)
    records = run_pictures(
        trainer, model, resolved, maximizer, folder, image_shape=shape, overwrite=overwrite, datamodule=datamodule
    )
    if trainer.is_global_zero:
        report_pictures(records, folder)


def _print_layers(model: pl.LightningModule, shape: tuple[int, ...]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("layer", "kind", "output", "units", title=f"{type(named_network(model)).__name__}, {shape}")
    for layer in survey_layers(model, shape):
        table.add_row(str(layer.layer), layer.kind, " x ".join(map(str, layer.shape)), str(layer.n_units))
    # In the names of layers, brackets are those of an output, not of a style.
    Console(markup=False).print(table)
