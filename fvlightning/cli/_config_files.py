"""The config files that a command names: where they are, and whether they can be read."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from jsonargparse import get_loader
from yaml import YAMLError

from fvlightning.cli._usage import SHIPPED_CONFIGS, UsageError
from fvlightning.errors import one_line, some_of


def config_files(args: Sequence[str]) -> list[str]:
    """Return the config files that the arguments behind the program's name give."""
    return [args[place].removeprefix("--config=") for place in _places_of_configs(args)]


def with_shipped_configs(args: Sequence[str]) -> list[str]:
    """Return the arguments with the package's own ``configs/NAME.yaml`` in place of one that is not there."""
    complete = list(args)
    for place, path in zip(_places_of_configs(args), map(Path, config_files(args)), strict=True):
        shipped = SHIPPED_CONFIGS / path.name
        if path.parent == Path("configs") and not path.exists() and shipped.is_file():
            complete[place] = complete[place].replace(str(path), str(shipped))
    return complete


def with_run(args: Sequence[str]) -> list[str]:
    """Return the arguments with the config and the last checkpoint of a training run, if ``--run FOLDER`` names one.

    They stand before the other options, which replace them. The loggers of the run are left out.

    Raises:
        UsageError: The folder is not that of a training run.
    """
    options = dict(pairwise(args)) | dict(arg.split("=", 1) for arg in args if arg.startswith("--run="))
    if not (folder := options.get("--run")):
        return list(args)
    run = Path(folder)
    config, checkpoints = run / "config.yaml", run / "checkpoints"
    if not any(path.exists() for path in (config, checkpoints, run / "features")):
        runs = [path.parent for near in (run, run.parent) for path in sorted(near.glob("*/config.yaml"))]
        others = f"; runs: {some_of(runs)}" if runs else ""
        raise UsageError(f"'{run}' is not the folder of a training run, with config.yaml and checkpoints{others}")
    added = ["--config", str(config), "--trainer.logger", "false"] if config.exists() else []
    files = sorted(checkpoints.glob("*.ckpt"), key=lambda path: (path.stem == "last", path.stat().st_mtime))
    if files:
        added += ["--ckpt_path", str(files[-1])]
    return [*args[:1], *added, *args[1:]]


def yaml_reason(error: YAMLError) -> str:
    """Return what is wrong with a YAML text, in one line."""
    return one_line(error).replace(' in "<unicode string>"', "")


def _places_of_configs(args: Sequence[str]) -> list[int]:
    behind = [place + 1 for place, option in enumerate(args[:-1]) if option in ("-c", "--config")]
    return sorted([*behind, *(place for place, arg in enumerate(args) if arg.startswith("--config="))])


def check_config(path: Path) -> None:
    """Raise `UsageError`, which names the file, if a config cannot be read; a missing file is left to jsonargparse."""
    if not path.is_file():
        return
    try:
        settings = get_loader("yaml")(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read config '{path}': {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read config '{path}': it is not text; give a YAML file") from error
    except YAMLError as error:
        raise UsageError(f"Problems parsing config '{path}': {yaml_reason(error)}") from error
    if not isinstance(settings, dict):
        content = "is empty" if settings is None or settings == "" else "has no keys"
        raise UsageError(f"config '{path}' {content}; give a YAML file with keys such as model, data and trainer")
    try:
        json.dumps(settings, default=str, skipkeys=True)
    except ValueError as error:
        raise UsageError(f"config '{path}': an alias, *NAME, is inside its own anchor, &NAME") from error
    for key in ("trainer", "checkpoint", "lr_monitor"):
        if not isinstance(value := settings.get(key, {}), dict | str):
            raise UsageError(f"config '{path}': {key} is {value!r}; it must have settings, by name")
