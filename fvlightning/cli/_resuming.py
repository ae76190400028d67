"""``fit --ckpt_path last``: the run that goes on in its own folder."""

import warnings
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from fvlightning.errors import InputError
from fvlightning.io import remove_unfinished


def go_on(settings: Namespace, runs: str) -> str | None:
    """Return the newest checkpoint of a config's runs, and let the logger go on in the folder of that run.

    Any checkpoint counts, not only ``last.ckpt``: a process may have been killed just before it was linked.

    Args:
        settings: Those of ``fit``; changed in place.
        runs: The folder of runs, where none is given.

    Returns:
        The file; None if there is no run yet.

    Raises:
        InputError: It is not known where the runs are.
    """
    logger, dirpath = settings.trainer.logger, settings.checkpoint.dirpath
    if dirpath is not None:
        folder, pattern = Path(dirpath), "*.ckpt"
    elif isinstance(logger, Namespace) and logger.get("init_args.name") and logger.get("init_args.save_dir"):
        given, version = logger.init_args.save_dir, logger.init_args.get("version")
        root = settings.trainer.default_root_dir if given == runs else None
        folder = Path(str(root or given), logger.init_args.name)
        pattern = f"version_{'*' if version is None else version}/checkpoints/*.ckpt"
    else:
        raise InputError("--ckpt_path last needs a logger with a folder, or --checkpoint.dirpath; or name a file")
    files = [file for file in folder.glob(pattern) if file.exists()]  # a link may lead nowhere
    if not files:
        rank_zero_info(f"There is no checkpoint in {folder} yet: the training begins.")
        return None
    newest = max(files, key=lambda file: (file.stat().st_mtime, file.stem == "last"))
    remove_unfinished(newest.parent)
    if dirpath is None:
        logger.init_args.version = int(newest.parts[-3].removeprefix("version_"))
    warnings.filterwarnings("ignore", message=".* exists and is not empty")
    rank_zero_info(f"The training goes on from {newest}.")
    return str(newest)
