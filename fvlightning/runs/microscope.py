"""``microscope``: one page that shows every unit of a model."""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import nn

from fvlightning.analysis import Connections
from fvlightning.callbacks import VisualizationCallback
from fvlightning.errors import InputError
from fvlightning.features import Maximizer, Objective, resolve_objectives
from fvlightning.features.capture import find_layer, survey_layers
from fvlightning.features.objectives import Pooling
from fvlightning.io import check_writable
from fvlightning.output import (
    Record,
    UnitExamples,
    WebPage,
    read_manifest,
)
from fvlightning.protocols import model_name, picture_shape
from fvlightning.runs._example_pass import ExamplePass
from fvlightning.runs._images import image_source
from fvlightning.runs._microscope_content import PICTURES, Content, best_first, by_layer, read_epochs
from fvlightning.runs._microscope_files import estimated_size, write_page
from fvlightning.runs._microscope_images import save_images
from fvlightning.runs._microscope_map import strongest_ties
from fvlightning.runs._pictures import (
    checked_units,
    load_checkpoint,
    negative_of,
    report_pictures,
    run_pictures,
    with_batch_size,
)
from fvlightning.runs._weight_files import first_layers
from fvlightning.runs.examples import report_examples

_EXAMPLES = "examples"
_MOST_UNITS = 4000  # of a layer that is shown without being asked for


def microscope(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    units: Sequence[str | Objective] | str = (),
    maximizer: Maximizer | None = None,
    images: str | None = None,
    *,
    run: str | None = None,
    layers: Sequence[str] = (),
    output_dir: str = "microscope",
    negatives: bool = True,
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
    """Make one page that shows every unit of a model, as files that a browser opens without a server.

        fvlightning microscope --run runs/quickstart/version_0 --output_dir microscope

    OUTPUT_DIR/index.html shows the network as a map of layers, each layer as a wall of its units, and each unit with
    its picture and negative picture, the images that excite it most and least with their patches, a histogram, the
    scores of the optimisation, and the weights of a first layer. With --run, a slider shows the pictures of each epoch.
    Pictures are in OUTPUT_DIR/pictures, as visualize makes them, and the figures of the images in
    OUTPUT_DIR/examples/examples.json, as examples writes them. The same command goes on after an interruption.

    Args:
        trainer: The trainer.
        model: The model with the units.
        units: The units, for example '["conv2:*", "fc2:7"]'; or objectives by class_path. Default: all units of the
            layers that a VisualizationCallback of the config shows, or else of all convolutional and linear layers.
        maximizer: How the pictures are made. Its pooling is also that of the images' scores. Default: that of a
            VisualizationCallback of the config.
        images: Folder with images, including its subfolders; the middle of each is brought to the shape of the
            pictures. Default: the images of the data.
        run: Folder of a training run, for example runs/quickstart/version_0. Its config and its last checkpoint are
            used unless others are given, and its pictures of epochs are shown.
        layers: Layers that are shown with all of their units, for example '["conv2"]', beside any units.
        output_dir: Folder of the results.
        negatives: Whether negative pictures, of what units respond to least, are made as well.
        part: The part of the data, train, val or test. Default: the first of test, val and train that has images.
        k: How many of the strongest and of the weakest images are shown.
        n_images: How many images are looked at, a random sample that is the same each time. Default: all.
        batch_size: How many pictures are optimised at once on each device. Default: as many as fit.
        image_shape: Shape of the pictures, [C, H, W]. Default: the model's input_shape.
        overwrite: Whether pictures that exist are made again.
        ckpt_path: Checkpoint with the weights. Default: the weights that the model is made with, or those of the run.
        weights_only: Whether a checkpoint that holds more than tensors and plain values is refused; it always is.
        datamodule: Data with the images and the names of the classes.

    Raises:
        InputError: A unit or the checkpoint cannot be used, a layer is too large to be shown as a whole without being
            asked for, the run has left nothing, the folder cannot be written, or units gave values that are not finite;
            the page is there.
    """
    has_images = images is not None or datamodule is not None
    source = image_source("microscope", images, datamodule, k=k, n_images=n_images) if has_images else None
    load_checkpoint(model, ckpt_path)
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined] # which Lightning sets
    shown = [callback for callback in callbacks if isinstance(callback, VisualizationCallback)]
    maximizer = with_batch_size(maximizer or (shown[0].maximizer if shown else None), batch_size)
    pooling = maximizer.settings.pooling
    shape = picture_shape(model, datamodule, image_shape)
    content = Content(
        model=model_name(model),
        image_shape=shape,
        surveys=survey_layers(model, shape),
        connections=Connections(model, shape),
        epochs=[] if run is None else read_epochs(Path(run)),
    )
    folder = Path(output_dir)
    if trainer.is_global_zero:
        check_writable(folder)
    units = [*([units] if isinstance(units, str) else units), *(f"{layer}:*" for layer in layers)]
    if run is not None and ckpt_path is None:
        if trainer.is_global_zero:
            _show_epochs(model, units, Path(run), folder, content, pooling)
        return
    n_steps = maximizer.settings.steps
    if not units:
        units = _units_of({layer for callback in shown for layer in callback.layers}, model, content, n_steps)
    resolved = checked_units(model, units, shape, pooling)
    groups = by_layer(resolved, content.surveys)
    all_units = [*resolved, *map(negative_of, resolved)] if negatives else resolved
    options: dict[str, Any] = {"image_shape": shape, "overwrite": overwrite, "tag": PICTURES, "datamodule": datamodule}
    distinct = list({str(unit): unit for unit in all_units}.values())
    work = None
    if source is not None:
        settings: dict[str, Any] = {"part": part, "n_images": n_images, "k": k, "pooling": pooling}
        work = ExamplePass(model, resolved, source, image_shape=shape, folder=folder / _EXAMPLES, **settings)
    n_pictures = len(distinct) * maximizer.settings.repeats
    size = estimated_size(
        len(resolved),
        n_pictures,
        shape,
        n_steps=n_steps,
        n_layers=len(groups),
        n_epochs=len(content.epochs),
        n_examples=0 if work is None else 2 * k * len(resolved),
        n_images=None if work is None else work.selection.n_pictures,
    )
    rank_zero_info(f"The page has {n_pictures:,} pictures of {len(resolved):,} units: about {_megabytes(size)}")
    records = run_pictures(trainer, model, distinct, maximizer, folder / PICTURES, **options)
    results = work.run(trainer).results(resolved) if work is not None else []
    if not trainer.is_global_zero:
        return
    model.to(trainer.strategy.root_device)  # Lightning has moved it away
    page = WebPage(folder)
    examples: list[UnitExamples] = []
    excited = None
    if work is not None:
        pages = work.pages(results, datamodule)
        examples = [one for sheet in pages for one in sheet.examples]
        work.write_records(examples)
        excited = save_images(page, model, groups, examples, work.selection, pooling)
    content = replace(
        content,
        units=groups,
        facts=_facts(records, examples, run),
        records=best_first(records),
        examples={one.unit: one for one in examples},
        images=excited,
        weights=first_layers(model, resolved, shape),
        ties=strongest_ties(groups, content.connections),
    )
    write_page(page, content)
    _report_page(folder, len(resolved))
    report_pictures(records, folder / PICTURES)
    if work is not None:
        work.report_unreadable()
        report_examples(examples, k, folder / _EXAMPLES)


def _show_epochs(
    model: nn.Module, units: Sequence[str | Objective], run: Path, folder: Path, content: Content, pooling: Pooling
) -> None:
    """Show what a run without a checkpoint has left."""
    if not content.epochs:
        raise InputError(
            f"'{run}' has neither checkpoints nor pictures of epochs (features/epoch_NNNN), so there is nothing to "
            "show; give a checkpoint, --ckpt_path"
        )
    last = content.epochs[-1]
    if not (folder / PICTURES / "features.json").exists():
        shutil.copytree(last.folder, folder / PICTURES, dirs_exist_ok=True)
    records = best_first(read_manifest(folder / PICTURES))
    names = [name for name in records if not name.startswith("-")]
    resolved = resolve_objectives(model, units or names, content.image_shape, pooling)
    rank_zero_warn(
        f"'{run}' has no checkpoint: the page shows its pictures of epochs up to {last.number}; new pictures, images "
        "and weights are missing"
    )
    facts = _facts([records[name][0] for name in names], [], str(run))
    groups = by_layer(resolved, content.surveys)
    write_page(WebPage(folder), replace(content, units=groups, facts=facts, records=records))
    _report_page(folder, len(resolved))


def _units_of(layers: Collection[str], model: nn.Module, content: Content, n_steps: int) -> list[str | Objective]:
    """Return all units of some layers, by default of all convolutional and linear ones.

    Raises:
        InputError: A layer has more than 4,000 units, or there is no such layer.
    """
    weighted = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    # In the order of the network: the pass of the images goes on only for the same units in the same order.
    chosen = [
        survey
        for survey in content.surveys
        if survey.layer.layer in layers or (not layers and isinstance(find_layer(model, survey.layer.layer), weighted))
    ]
    for survey in chosen:
        if survey.n_units > _MOST_UNITS:
            size = estimated_size(survey.n_units, 2 * survey.n_units, content.image_shape, n_steps=n_steps)
            raise InputError(
                f"the layer {survey.layer} has {survey.n_units:,} units, which would take about {_megabytes(size)}; "
                f"""choose some, for example --units '["{survey.layer}:0-255"]', or --layers '["{survey.layer}"]'"""
            )
    if not chosen:
        raise InputError(f"{content.model} has no convolutional or linear layers; name units, --units")
    return [f"{survey.layer}:*" for survey in chosen]


def _facts(records: Sequence[Record], examples: Sequence[UnitExamples], run: str | None) -> dict[str, str]:
    """Return what the page says about model, pictures and images."""
    facts = {} if run is None else {"run": run}
    if records:
        facts |= {"weights": records[0].weights, "steps": str(records[0].settings["steps"])}
        facts |= {"pooling": records[0].settings["pooling"]}
        facts |= {name: version for name, version in records[0].versions.items() if name == "fvlightning"}
    return facts | ({"images": f"{max(one.n_images for one in examples):,}"} if examples else {})


def _report_page(folder: Path, n_units: int) -> None:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    units = "1 unit is" if n_units == 1 else f"{n_units:,} units are"
    rank_zero_info(f"{units} in {folder / 'index.html'}, {_megabytes(size)}")


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{max(size, 1e5) / 1e6:.1f} MB"
