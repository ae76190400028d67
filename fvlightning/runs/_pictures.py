"""Pictures of units as files, made by a trainer: it makes the missing ones and keeps the others."""

import math
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import nn

from fvlightning.errors import InputError, some_of
from fvlightning.features import Maximizer, Objective, Unit, resolve_objectives
from fvlightning.features.objectives import Pooling, check_responses
from fvlightning.io import read_checkpoint
from fvlightning.output import FeatureWriter, Record, class_names, log_image
from fvlightning.runs._prediction import MaximizerModule, run_on_ranks

_FOLDER_NAME = re.compile(r"\w[\w .-]*")


def load_checkpoint(model: nn.Module, ckpt_path: str | None) -> None:
    """Load the weights of a checkpoint into a model; without a checkpoint leave it as it is."""
    if ckpt_path is not None:
        model.load_state_dict(read_checkpoint(ckpt_path)["state_dict"])


def with_batch_size(maximizer: Maximizer | None, batch_size: int | None) -> Maximizer:
    """Return a maximizer, by default `Maximizer()`, with the batch size if one is given."""
    maximizer = maximizer or Maximizer()
    return maximizer if batch_size is None else maximizer.replace(batch_size=batch_size)


def checked_units(
    model: nn.Module, units: Sequence[str | Objective] | str, image_shape: Sequence[int], pooling: Pooling
) -> list[Unit | Objective]:
    """Return units, checked against the model before anything is made; see `resolve_objectives`.

    Raises:
        InputError: A unit cannot be used, or no picture can change it (`check_responses`).
    """
    resolved = resolve_objectives(model, units, image_shape, pooling)
    if problem := check_responses(model, resolved, image_shape, pooling):
        raise InputError(problem)
    return resolved


def negative_of(unit: Unit | Objective) -> Unit | Objective:
    """Return what is maximised for the negative picture of a unit."""
    return replace(unit, minimize=not unit.minimize) if isinstance(unit, Unit) else -unit


def score_of(record: Record) -> float:
    """Return a record's score, minus infinity if it is not finite."""
    return -math.inf if record.score is None else record.score


def check_folder_name(name: str, kind: str, taken: Sequence[str], reason: str) -> None:
    """Raise `InputError` unless a name is a plain word and none of those taken: ``a model``, ``stand in the table``."""
    if not _FOLDER_NAME.fullmatch(name) or name in taken:
        raise InputError(
            f"{name!r} cannot be the name of {kind}; use letters, digits, '_', '-' and '.', but not "
            f"{' or '.join(map(repr, taken))}, which {reason}"
        )


def run_pictures(
    trainer: pl.Trainer,
    model: pl.LightningModule,
    units: Sequence[Unit | Objective],
    maximizer: Maximizer,
    folder: Path,
    *,
    image_shape: tuple[int, ...],
    overwrite: bool = False,
    tag: str = "visualization",
    datamodule: object = None,
) -> list[Record]:
    """Make the pictures that are missing in a folder, and write its sheets and its manifest.

    Args:
        trainer: Makes the pictures as predictions, on its devices.
        model: The model with the units.
        units: What is maximised, checked against the model.
        maximizer: How the pictures are made.
        folder: Folder of the results, which can be written.
        image_shape: ``(C, H, W)`` of the pictures.
        overwrite: Whether all pictures are made again.
        tag: Loggers get the sheets as ``TAG/LAYER``.
        datamodule: The data, whose ``class_names`` name the network's outputs, or None.

    Returns:
        The records of all pictures of these units on rank zero, none on other ranks.
    """
    names = class_names(model, datamodule, units, image_shape)
    writer = FeatureWriter(folder, units, maximizer, model, image_shape, class_names=names)
    missing = list(units) if overwrite else writer.missing()
    if missing and maximizer.settings.joins_units:
        missing = list(units)
    if len(missing) < len(units):
        rank_zero_info(f"{len(units) - len(missing)} of {len(units)} units are in {folder} already, and kept")
    try:
        if missing:
            run_on_ranks(trainer, MaximizerModule(maximizer, model, missing, image_shape, write=writer.write))
    except (KeyboardInterrupt, SystemExit):  # Lightning turns SIGINT into SystemExit
        if trainer.is_global_zero:
            done = len(units) - len(writer.missing())
            command = "the same command" + (" without --overwrite" if overwrite else "")
            print(f"stopped: {done} of {len(units)} units are in {folder}; {command} makes the rest", file=sys.stderr)
        raise
    if not trainer.is_global_zero:
        return []
    records, sheets = writer.finish()
    for name, sheet in sheets.items():
        log_image(trainer.loggers, f"{tag}/{name}", sheet, 0)
    return records


def report_pictures(records: Sequence[Record], folder: Path) -> None:
    """Report the number of pictures, how many stopped early, and the units that did not respond.

    Raises:
        InputError: Some units gave values that are not finite.
    """
    failed = [record.unit for record in records if record.status == "non-finite"]
    dead = [record.unit for record in records if record.status == "dead"]
    n_good = len(records) - len(failed)
    n_early = sum(record.status != "non-finite" and record.steps < record.settings["steps"] for record in records)
    if dead:
        units = "unit does" if len(dead) == 1 else "units do"
        rank_zero_info(f"{len(dead)} {units} not respond to any step: {some_of(dead)}")
    if n_good:
        early = f", {n_early} stopped early" if n_early else ""
        rank_zero_info(f"{n_good} {'picture is' if n_good == 1 else 'pictures are'} in {folder}{early}")
    if failed:
        raise InputError(
            f"{len(failed)} of {len(records)} pictures gave values that are not finite: "
            f"{some_of(failed)}" + ("; the others are there" if n_good else "")
        )
