"""Pictures of units as files, by a trainer: made where they are missing, kept where they are there."""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from fvlightning.errors import InputError
from fvlightning.features import Maximizer, Objective, Unit
from fvlightning.io.digests import digest_of_weights
from fvlightning.output.class_names import class_names
from fvlightning.output.writer import FeatureWriter, versions
from fvlightning.runs.visualizer import Visualizer, couples_units


def run_pictures(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    units: Sequence[Unit | Objective],
    maximizer: Maximizer,
    shape: tuple[int, ...],
    folder: Path,
    overwrite: bool = False,
    tag: str = "features",
    datamodule: object = None,
) -> list[dict[str, Any]]:
    """Make the pictures that are not in a folder yet, and write its sheets and its manifest.

    Args:
        trainer: Makes them as predictions, on its devices.
        model: The model whose units are looked at.
        units: What is maximised, checked against the model.
        maximizer: How the pictures are made.
        shape: ``(C, H, W)`` of the pictures.
        folder: Where they go; it can be written.
        overwrite: Whether pictures that are there already are made again.
        tag: Under which name loggers get the sheets.
        datamodule: The data, whose ``class_names`` name the network's outputs, or None.

    Returns:
        The records of all pictures of these units on rank zero, nothing on others.
    """
    common = {
        "model": type(getattr(model, "net", model)).__name__,
        "weights": digest_of_weights(model),
        "image_shape": list(shape),
        "versions": versions(),
    }
    names = class_names(model, datamodule, units, shape)
    writer = FeatureWriter(folder, units, maximizer, common, tag, names)
    missing = list(units) if overwrite else writer.missing()
    if missing and couples_units(maximizer):
        missing = list(units)
    if len(missing) < len(units):
        rank_zero_info(f"{len(units) - len(missing)} of {len(units)} units are in {folder} already, and kept")
    try:
        if missing:
            _predict(trainer, model, missing, maximizer, shape, writer)
    except (KeyboardInterrupt, SystemExit):  # which Lightning makes of SIGINT
        if trainer.is_global_zero:
            done = len(units) - len(writer.missing())
            command = "the same command" + (" without --overwrite" if overwrite else "")
            print(f"stopped: {done} of {len(units)} units are in {folder}; {command} goes on", file=sys.stderr)
        raise
    return writer.finish(trainer) if trainer.is_global_zero else []


def report_pictures(records: Sequence[dict[str, Any]], folder: Path) -> None:
    """Say how many pictures there are, and of which units there are none to look at.

    Raises:
        InputError: Units gave values that are not finite.
    """
    failed = [record["unit"] for record in records if record["status"] == "non-finite"]
    dead = [record["unit"] for record in records if record["status"] == "dead"]
    if dead:
        units = "unit does" if len(dead) == 1 else "units do"
        rank_zero_info(f"{len(dead)} {units} not answer to any step: {', '.join(dead[:8])}")
    rank_zero_info(f"{len(records)} {'picture is' if len(records) == 1 else 'pictures are'} in {folder}")
    if failed:
        raise InputError(
            f"{len(failed)} of {len(records)} pictures gave values that are not finite: {', '.join(failed[:8])}; the "
            "others are there"
        )


def _predict(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    units: Sequence[Unit | Objective],
    maximizer: Maximizer,
    shape: tuple[int, ...],
    writer: FeatureWriter,
) -> None:
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined] # which Lightning sets
    before = list(callbacks)
    # Lightning's own bar counts batches.
    bar = trainer.progress_bar_callback
    callbacks[:] = [callback for callback in callbacks if callback is not bar]
    visualizer = Visualizer(model, units, maximizer, shape, writer.write, bar)
    try:
        trainer.predict(visualizer, return_predictions=False)
    except BaseException:
        # Lightning ends the processes of the other ranks only after SIGINT.
        if (launcher := trainer.strategy.launcher) is not None and hasattr(launcher, "kill"):
            launcher.kill(signal.SIGTERM)
        raise
    finally:
        visualizer.close()
        callbacks[:] = before
