"""The options of the subcommands, from the signatures of the trainer's methods."""

import argparse
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace, get_loader
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from yaml import YAMLError

import fvlightning
from fvlightning.cli._config_files import check_config, config_files, with_run, with_shipped_configs, yaml_reason
from fvlightning.cli._epochs import EpochCheckpoint
from fvlightning.cli._hyperparameters import as_option, model_of_checkpoint
from fvlightning.cli._resuming import go_on
from fvlightning.cli._subcommands import ARGUMENTS, EXAMPLES, SUBCOMMANDS
from fvlightning.cli._usage import UsageError, explain
from fvlightning.errors import InputError
from fvlightning.features import Maximizer, Objective
from fvlightning.io import flatten, read_checkpoint, require_checkpoint

RUNS = "runs"
# Keys that every subcommand accepts in a config: their type, and the parameter of the commands that use them.
_SHARED_KEYS: dict[str, tuple[Any, str]] = {
    "model": (pl.LightningModule, "model"),
    "data": (pl.LightningDataModule, "datamodule"),
    "maximizer": (Maximizer, "maximizer"),
    "ckpt_path": (str, "ckpt_path"),
    "weights_only": (bool, "weights_only"),
}
_PATHS = (
    *("ckpt_path", "images", "pictures", "run", "output", "output_dir"),
    *("data.init_args.data_dir", "data.init_args.path", "trainer.default_root_dir"),
)
_REQUIRED = re.compile(r"class_path '(?P<class_path>.*)':\s+the following arguments are required: (?P<names>.+)")
# Parameters of this package's models that only training uses.
_TRAINING_SETTINGS = {
    *("optimizer", "scheduler", "scheduler_interval", "label_smoothing", "normalize"),
    *("mixup", "cutmix", "layer_decay", "frozen_stages", "thaw_epoch", "grad_checkpointing", "compile"),
    *("kl_warmup", "free_bits"),
}


def added_commands(trainer_class: type[pl.Trainer]) -> dict[str, Mapping[str, inspect.Parameter]]:
    """Return the commands that a trainer class adds to Lightning's: the parameters of its public functions, by name."""
    return {
        name: inspect.signature(function).parameters
        for base in reversed(trainer_class.__mro__)
        for name, function in vars(base).items()
        if inspect.isfunction(function) and not name.startswith("_") and not hasattr(pl.Trainer, name)
    }


class ParsingCLI(LightningCLI):
    """The part of the command line that makes the parsers and reads the options.

    The subcommands are Lightning's and the functions that the trainer class adds. The signature of such a function is
    its options, and says what it needs: `model` and `datamodule` are required if they have no default, and the config's
    key ``maximizer`` is for functions with this parameter. The docstring is the help.

    Args:
        args: The arguments behind the program's name.
        trainer_class: The trainer whose methods are the subcommands.
        **kwargs: Further arguments of `LightningCLI`.
    """

    def __init__(self, args: Sequence[str], trainer_class: type[pl.Trainer], **kwargs: Any) -> None:
        self._args = with_run(with_shipped_configs(args))
        self._added = added_commands(trainer_class)
        self._classes: list[type] = []  # which the checkpoint's hyperparameters name
        super().__init__(trainer_class=trainer_class, args=self._args, **kwargs)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return a parser that raises instead of printing its usage, and takes no abbreviated options."""
        return super().init_parser(exit_on_error=False, allow_abbrev=False, formatter_class=_HelpFormatter, **kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override] # static in Lightning
        """Return the subcommands, methods of the trainer, and which of their parameters are not options."""
        subcommands = {**LightningCLI.subcommands(), **{name: {"model", "datamodule"} for name in self._added}}
        # A parser takes most of the time of a command's start, so only the one that is asked for is made.
        name = next((arg for arg in self._args if not arg.startswith("-")), None)
        return {name: subcommands[name]} if name in subcommands else subcommands

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options that every subcommand takes, so that each accepts a config saved by another."""
        parser.add_lightning_class_args(EpochCheckpoint, "checkpoint")
        parser.add_lightning_class_args(LearningRateMonitor, "lr_monitor")
        # No monitor: a model need not log val/accuracy. A link costs no second copy of the weights.
        parser.set_defaults({"checkpoint.save_last": "link"})
        parser.add_argument(
            "--from_scratch",
            type=bool,
            default=False,
            help="Let fit begin with random weights, whatever weights the model names for the other commands.",
        )
        parser.add_argument(
            "--test_after_fit",
            type=bool,
            default=False,
            help="After fit, test the last weights on the data module's test set.",
        )
        parser.add_argument(
            "--microscope_after_fit",
            type=bool,
            default=False,
            help="After fit, show every unit on one page, microscope/index.html in the run's folder (see microscope).",
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the trainer, and the model and the data of subcommands that use them."""
        parameters = self._added.get(self._being_added)
        if parameters is None:
            super().add_core_arguments_to_parser(parser)
            parser._actions.sort(key=lambda action: action.dest == "model")  # so the data are made first
            return
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{key}": value for key, value in self.trainer_defaults.items()})
        # Results are files. A logger, if there is one, also gets pictures.
        parser.set_defaults({"trainer.logger": False})
        for key in ("model", "data"):
            base, name = _SHARED_KEYS[key]
            if name in parameters:
                required = parameters[name].default is inspect.Parameter.empty
                parser.add_lightning_class_args(base, key, subclass_mode=True, required=required)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        self._being_added = subcommand
        if subcommand in self._added:
            kwargs["description"] = (inspect.getdoc(getattr(klass, subcommand)) or "").partition("\n\nArgs:")[0]
        else:
            kwargs["description"] = f"{SUBCOMMANDS[subcommand]}\n\n    {self.parser.prog} {EXAMPLES[subcommand]}"
        kwargs["usage"] = f"{self.parser.prog} {subcommand} {ARGUMENTS}"
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if "weights_only" in self._subcommand_method_arguments[subcommand]:
            parser.set_defaults(weights_only=True)
        if subcommand == "fit":
            purpose = "How pictures are made by each VisualizationCallback that has no maximizer of its own."
            parser.add_argument("--maximizer", type=Maximizer | None, help=purpose)
        for key in self._unused_keys(subcommand):
            parser.add_argument(f"--{key}", type=_SHARED_KEYS[key][0] | None, help=argparse.SUPPRESS)
        self._order_groups(parser, is_added=subcommand in self._added)
        return parser

    def _order_groups(self, parser: LightningArgumentParser, is_added: bool) -> None:
        """Let the help begin with what a command is about, and end with the many options of the trainer."""
        groups, own = parser.groups or {}, parser._action_groups[-1]
        for key, group in groups.items():
            group.title = f"options of the {key}"
        own.title = "options of the command"
        late = [groups[key] for key in ("trainer", "checkpoint", "lr_monitor")]
        parser._action_groups = sorted(
            parser._action_groups, key=lambda group: 2 if group in late else int((group is own) != is_added)
        )

    def _unused_keys(self, subcommand: str) -> list[str]:
        """Return the keys of a model's config that a subcommand accepts and leaves alone."""
        if subcommand in self._added:
            return [key for key, (_, name) in _SHARED_KEYS.items() if name not in self._added[subcommand]]
        return [] if subcommand == "fit" else ["maximizer"]

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse into ``self.config``; raise `UsageError`, one line, for input that cannot be understood."""
        for name in fvlightning.__all__:  # jsonargparse knows only imported classes by their short names
            getattr(fvlightning, name)
        for path in config_files(self._args):
            check_config(Path(path))
        try:
            self.config = self._parse(parser)
            subcommand = self.config.subcommand
            _check_paths(self.config[subcommand])
            _check_objectives(self.config[subcommand].get("units"))
        except argparse.ArgumentError as error:
            raise UsageError(explain(str(error), self._options())) from error
        for key in self._unused_keys(subcommand):
            if self._is_option(key):
                raise UsageError(f"{subcommand} does not use --{key}; leave it out")
            # So no large model is made for nothing, and the files that a maximizer names need not exist.
            self.config[subcommand][key] = None

    def _parse(self, parser: LightningArgumentParser) -> Namespace:
        """Parse; take what the model requires and the command line lacks from the checkpoint."""
        try:
            return parser.parse_args(self._args)
        except argparse.ArgumentError as error:
            required = re.search(_REQUIRED, str(error))
            paths = [path for option, path in pairwise(self._args) if option == "--ckpt_path"]
            paths += [arg.removeprefix("--ckpt_path=") for arg in self._args if arg.startswith("--ckpt_path=")]
            if required is None or not paths or not Path(paths[-1]).is_file():
                raise
            model = model_of_checkpoint(read_checkpoint(paths[-1]), required["class_path"], paths[-1])
            arguments = {**model.get("init_args", {}), **model.get("dict_kwargs", {})}
            for name in required["names"].split(", "):
                if name in arguments:
                    self._args.append(f"--model.init_args.{name}={as_option(arguments[name])}")
            return parser.parse_args(self._args)

    def _options(self) -> list[str]:
        """Return the options of the chosen subcommand, ``trainer.max_epochs`` for ``--trainer.max_epochs``."""
        subcommand = next((name for name in self.subcommands() if name in self._args), None)
        strings = [string for action in self._parser(subcommand)._actions for string in action.option_strings]
        return [string[2:] for string in strings if string.startswith("--") and not string.endswith((".help", "+"))]

    def _is_option(self, key: str) -> bool:
        """Return whether a key, or one inside it, is an option of the command line rather than of a config."""
        return any(arg.partition("=")[0].partition(".")[0].rstrip("+") == f"--{key}" for arg in self._args)

    def _parse_ckpt_path(self) -> None:
        """Take the hyperparameters from the checkpoint; warn of each option or config key that differs."""
        subcommand = self.config.subcommand
        ckpt_path = self.config[subcommand].get("ckpt_path")
        if subcommand == "fit" and ckpt_path == "last":
            ckpt_path = self.config[subcommand].ckpt_path = go_on(self.config[subcommand], RUNS)
        if not ckpt_path:
            return
        require_checkpoint(ckpt_path, subcommand, str(self.config[subcommand].trainer.default_root_dir or RUNS))
        if not Path(ckpt_path).is_file() or "model" in self._unused_keys(subcommand):
            return
        checkpoint = read_checkpoint(ckpt_path)
        # `read_checkpoint` has checked them, so Lightning may load them too.
        self._classes = [value for value in checkpoint.get("hyper_parameters", {}).values() if isinstance(value, type)]
        model = model_of_checkpoint(checkpoint, self.config[subcommand].model.class_path, ckpt_path)
        if not model:
            return
        try:
            self.config = self.parser.parse_object({subcommand: {"model": model}}, self.config)
        except argparse.ArgumentError as error:
            reason = explain(str(error), self._options())
            raise InputError(f"the model does not take the hyperparameters of '{ckpt_path}': {reason}") from error
        settings = self.parser.parse_args(self._args, defaults=False)[subcommand].get("model")
        self._compare_with_checkpoint(ckpt_path, settings)

    def _compare_with_checkpoint(self, ckpt_path: str, settings: Namespace) -> None:
        """Refuse a checkpoint of another network than the settings name, and warn of other settings that differ."""
        subcommand = self.config.subcommand
        model = self.config[subcommand].model
        used, of_package = dict(_flat_model(model)), model.class_path.startswith("fvlightning.")
        for key, value in _flat_model(settings):
            # `weights` is None in a checkpoint, which brings its own.
            is_training = of_package and _TRAINING_SETTINGS.intersection(key.split("."))
            if used.get(key, value) == value or key.endswith(".weights") or (is_training and subcommand != "fit"):
                continue
            if key.endswith("class_path") and not is_training:
                raise InputError(
                    f"the checkpoint '{ckpt_path}' was made with {_class_name(used[key])}, and the command or its "
                    f"config has {_class_name(value)}; give the config of the checkpoint's run, or another checkpoint"
                )
            rank_zero_warn(
                f"--{key.replace('.init_args', '')} {_name(value)} has no effect: the checkpoint '{ckpt_path}' was "
                f"made with {_name(used[key])}, and its hyperparameters are kept",
                category=UserWarning,
            )


class _HelpFormatter(DefaultHelpFormatter):
    """Fills the paragraphs of a description one by one, and leaves indented ones, commands, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        paragraphs = text.split("\n\n")
        return "\n\n".join(part if part.startswith(" ") else fill(part, width, indent) for part in paragraphs)


def _check_paths(settings: Namespace) -> None:
    """Raise `UsageError` if a file or folder has an empty name, which would be the working directory."""
    for key in _PATHS:
        if settings.get(key) == "":
            option = key.replace("init_args.", "")
            raise UsageError(f"--{option} is empty; name a file or folder, or leave the option out")


def _check_objectives(units: object) -> None:
    """Raise the `argparse.ArgumentError` of malformed objectives, which jsonargparse mistakes for texts of units."""
    texts = [units] if isinstance(units, str) else units if isinstance(units, list) else []
    for text in texts:
        if isinstance(text, str) and "class_path" in text:
            parser = ArgumentParser(exit_on_error=False)
            parser.add_argument("--units", type=Sequence[str | Objective])
            try:
                objectives = get_loader("yaml")(text)
            except YAMLError as error:
                problem = "--units: neither units nor objectives by class_path"
                raise UsageError(f"{problem}: {yaml_reason(error)}") from error
            parser.parse_object({"units": objectives})


def _class_name(class_path: object) -> str:
    return str(class_path).rpartition(".")[2]


def _name(value: object) -> object:
    return value.__name__ if isinstance(value, type) else value


def _flat_model(model: Namespace) -> Iterator[tuple[str, object]]:
    return flatten(model.as_dict(), "model")
