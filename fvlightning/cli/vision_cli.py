"""The subcommands and their options: LightningCLI with this project's defaults."""

import argparse
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

import fvlightning
from fvlightning.callbacks.visualization import VisualizationCallback
from fvlightning.cli.quiet import without_noise
from fvlightning.cli.usage import UsageError, explain
from fvlightning.errors import InputError
from fvlightning.features import Maximizer
from fvlightning.io.checkpoints import flatten, read_checkpoint, require_checkpoint
from fvlightning.trainer import Trainer

RUNS = "runs"
_OWN = ("visualize", "compare", "magnitude")
_WITHOUT_MODEL = {"magnitude"}
_WITH_PICTURES = {"fit", "visualize", "compare"}


class VisionCLI(LightningCLI):
    """``fvlightning SUBCOMMAND``: any LightningModule, any LightningDataModule, or none.

    Args:
        args: What follows the program's name on the command line.
        trainer_class: The trainer whose methods are the subcommands.
    """

    def __init__(self, args: Sequence[str], trainer_class: type[pl.Trainer] = Trainer) -> None:
        self._args = list(args)
        self.run_name = _run_name(args)
        logger = {"save_dir": RUNS, "name": self.run_name, "default_hp_metric": False}
        with without_noise():
            super().__init__(
                # Without a data module class of its own the command line does not demand one for every subcommand.
                datamodule_class=None,
                # A run with the same folder goes on; Lightning's default is to refuse.
                save_config_kwargs={"overwrite": True},
                trainer_class=trainer_class,
                trainer_defaults={
                    "logger": {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": logger}
                },
                seed_everything_default=0,
                args=self._args,
                auto_configure_optimizers=False,
                parser_kwargs={
                    "description": "Train vision models and see what their units look for.",
                    "version": f"fvlightning {fvlightning.__version__}",
                },
            )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return a parser that raises instead of printing its usage, and takes no abbreviated options."""
        return super().init_parser(exit_on_error=False, allow_abbrev=False, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what every subcommand takes, so that a config that one has saved is accepted by the others."""
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(LearningRateMonitor, "lr_monitor")
        # No monitor: a model need not log val/accuracy. A link costs no second copy of the weights.
        parser.set_defaults({"checkpoint.save_last": "link"})
        parser.add_argument(
            "--test_after_fit",
            type=bool,
            default=False,
            help="After fit, test the last weights on the data module's test set.",
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the subcommands, methods of the trainer, and which of their arguments are no options."""
        own = {name: {"model", "datamodule"} for name in _OWN}
        return {**LightningCLI.subcommands(), **own}

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what Lightning adds; a model is demanded only by subcommands that have a use for one."""
        if self._needs_model:
            return super().add_core_arguments_to_parser(parser)
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{key}": value for key, value in self.trainer_defaults.items()})
        parser.add_lightning_class_args(pl.LightningModule, "model", subclass_mode=True, required=False)
        parser.add_lightning_class_args(pl.LightningDataModule, "data", subclass_mode=True, required=False)
        # The config that a training has saved has them.
        parser.add_argument("--ckpt_path", type=str | None, help=argparse.SUPPRESS)
        parser.add_argument("--weights_only", type=bool | None, help=argparse.SUPPRESS)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        self._needs_model = subcommand not in _WITHOUT_MODEL
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        if "weights_only" in self._subcommand_method_arguments[subcommand]:
            parser.set_defaults(weights_only=True)
        if "maximizer" not in self._subcommand_method_arguments[subcommand]:
            # The config of a model may say how its pictures are made, whatever else is done with the model.
            told = "How pictures are made by each VisualizationCallback that has no maximizer of its own."
            parser.add_argument(
                "--maximizer", type=Maximizer | None, help=told if subcommand == "fit" else argparse.SUPPRESS
            )
        if subcommand in _OWN:  # results are files; a logger gets pictures, too, if there is one
            parser.set_defaults({"trainer.logger": False})
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse into ``self.config``; raise `UsageError`, one line, for what cannot be understood."""
        for name in fvlightning.__all__:  # jsonargparse knows only imported classes by their short names
            getattr(fvlightning, name)
        try:
            self.config = parser.parse_args(self._args)
        except argparse.ArgumentError as error:
            raise UsageError(explain(str(error), self._options())) from error
        if (subcommand := self.config.subcommand) not in _WITH_PICTURES:
            if self._is_option("maximizer"):
                raise UsageError(f"{subcommand} makes no pictures: leave out --maximizer")
            # Or files that it names would have to be there.
            self.config[subcommand].maximizer = None
        if subcommand in _WITHOUT_MODEL:
            # A config may have them; to make a large model only to leave it would take its time.
            self.config[subcommand].model = self.config[subcommand].ckpt_path = None

    def _options(self) -> list[str]:
        """Return the options of the subcommand that was given, ``trainer.max_epochs`` for ``--trainer.max_epochs``."""
        subcommand = next((name for name in self.subcommands() if name in self._args), None)
        strings = [string for action in self._parser(subcommand)._actions for string in action.option_strings]
        return [string[2:] for string in strings if string.startswith("--") and not string.endswith((".help", "+"))]

    def _parse_ckpt_path(self) -> None:
        """Take the hyperparameters from the checkpoint; warn of each that was given and differs."""
        subcommand = self.config.subcommand
        settings = self.config[subcommand]
        if not (ckpt_path := settings.get("ckpt_path")):
            return
        require_checkpoint(ckpt_path, subcommand, RUNS)
        if not Path(ckpt_path).is_file():
            return
        hyperparameters = read_checkpoint(ckpt_path).get("hyper_parameters", {})
        hyperparameters.pop("_instantiator", None)
        if not hyperparameters:
            return
        if class_path := hyperparameters.pop("_class_path", None):
            hyperparameters = {"class_path": class_path, "dict_kwargs": hyperparameters}
        try:
            self.config = self.parser.parse_object({subcommand: {"model": hyperparameters}}, self.config)
        except argparse.ArgumentError as error:
            reason = explain(str(error), self._options())
            raise InputError(f"the model does not take the hyperparameters of '{ckpt_path}': {reason}") from error
        given = self.parser.parse_args(self._args, defaults=False)[subcommand].get("model")
        kept = dict(_flat_model(self.config[subcommand].model))
        for key, value in _flat_model(given):
            # Of how the weights are trained only fit wants to know.
            if subcommand != "fit" and {"optimizer", "scheduler"} & set(key.split(".")):
                continue
            # A checkpoint needs no other weights, and says so by None.
            if key in kept and kept[key] != value and not key.endswith(".weights"):
                rank_zero_warn(
                    f"--{key} {value} has no effect: the checkpoint '{ckpt_path}' was made with {kept[key]}, and its "
                    "hyperparameters are kept.",
                    category=UserWarning,
                )

    def instantiate_classes(self) -> None:
        """Make data module, model and trainer; what their constructors tell the user is passed on."""
        try:
            super().instantiate_classes()
        except ValueError as error:
            # jsonargparse wraps what a constructor raises into a page about the types that it has tried.
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, InputError | MisconfigurationException | OSError):
                if isinstance(cause, TypeError) and self._get(self.config, "model").get("dict_kwargs"):
                    # Parameters that jsonargparse could not check, such as a checkpoint's for a class that has changed.
                    raise InputError(f"the model cannot be made with these parameters: {cause}") from error
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from None

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> pl.Trainer:
        """Leave out what cannot work with the trainer's settings, or would litter the working directory."""
        if config.get("logger") is None or config["logger"] is True:
            config["logger"] = TensorBoardLogger(RUNS, name=self.run_name, default_hp_metric=False)
        if config.get("barebones") or not config["logger"]:
            config["logger"] = False
            self.save_config_callback = None
            callbacks = [callback for callback in callbacks if not isinstance(callback, LearningRateMonitor)]
            if config.get("default_root_dir") is None:
                callbacks = [callback for callback in callbacks if not _has_no_folder(callback)]
        # With these Lightning keeps no checkpoint, but refuses the callback or makes its empty folder.
        unwanted = config.get("enable_checkpointing") is False or config.get("barebones") or config.get("fast_dev_run")
        if unwanted:
            callbacks = [callback for callback in callbacks if not isinstance(callback, ModelCheckpoint)]
        own = config.get("callbacks") or []
        if not any(isinstance(callback, ModelCheckpoint) for callback in [*callbacks, *_as_list(own)]):
            config["enable_checkpointing"] = False  # or Lightning would add one of its own
            if self.subcommand == "fit" and not unwanted:
                rank_zero_info("No checkpoint will be kept: --checkpoint.dirpath FOLDER keeps them without a logger.")
        try:
            return super()._instantiate_trainer(config, callbacks)
        except ValueError as error:  # Lightning's word for a wrong trainer setting
            raise InputError(str(error)) from error

    def _run_subcommand(self, subcommand: str) -> None:
        if subcommand not in ("fit", *_WITHOUT_MODEL):
            # Only a training that goes on needs the callbacks of the one before.
            warnings.filterwarnings("ignore", "Be aware that when using `ckpt_path`")
            pretrained = self._get(self.config, "model").get("init_args", {}).get("weights") is not None
            if not self._get(self.config, "ckpt_path") and not pretrained:
                rank_zero_warn(f"{subcommand} without --ckpt_path uses the weights that the model is made with")
        try:
            super()._run_subcommand(subcommand)
        except (KeyboardInterrupt, SystemExit):
            if subcommand == "fit":
                self._tell_results(stopped=True)
            raise
        except RuntimeError as error:
            if not str(error).startswith("Error(s) in loading state_dict"):
                raise
            ckpt_path = self._get(self.config, "ckpt_path")
            raise InputError(f"'{ckpt_path}' does not fit {type(self.model).__name__}: {error}") from error
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # Lightning leaves the group to the interpreter's end, where its threads may abort a finished program.
            torch.distributed.destroy_process_group()

    def before_fit(self) -> None:
        """Hand on the maximizer; refuse ``--test_after_fit`` now rather than later, if there is nothing to test."""
        if (maximizer := self._get(self.config_init, "maximizer")) is not None:
            self._offer_maximizer(maximizer)
        if self._get(self.config, "test_after_fit") and not is_overridden("test_step", self.model):
            raise InputError(f"--test_after_fit needs a model with a test_step; {type(self.model).__name__} has none")

    def _offer_maximizer(self, maximizer: Maximizer) -> None:
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined] # which Lightning sets
        pictures = [callback for callback in callbacks if isinstance(callback, VisualizationCallback)]
        # Each is asked.
        taken = [callback.offer_maximizer(maximizer) for callback in pictures]
        if not any(taken) and self._is_option("maximizer"):
            rank_zero_warn("--maximizer has no effect: no VisualizationCallback makes pictures, or each has its own")

    def _is_option(self, key: str) -> bool:
        """Whether a key, or one inside of it, was given as an option, rather than by a config."""
        return any(arg.partition("=")[0].partition(".")[0].rstrip("+") == f"--{key}" for arg in self._args)

    def after_fit(self) -> None:
        """Test if asked to, and say where the results lie."""
        if self._get(self.config, "test_after_fit"):
            self.trainer.test(self.model, datamodule=self.datamodule)
        self._tell_results()

    def _tell_results(self, stopped: bool = False) -> None:
        rehearsal = self._get(self.config, "trainer").fast_dev_run
        if not self.trainer.is_global_zero or not self.trainer.loggers or rehearsal:
            return
        # By the logger of rank zero: the trainer would broadcast it, and after an interruption others may be gone.
        logger = self.trainer.loggers[0]
        print(f"Results:     {getattr(logger, 'log_dir', None) or logger.save_dir}")
        if checkpoint := getattr(self.trainer.checkpoint_callback, "last_model_path", ""):
            print(f"Checkpoint:  {_relative(checkpoint)}")
            if stopped:
                print(f"To go on:    the same command with --ckpt_path {_relative(checkpoint)}")
        for logger in self.trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                # TensorBoard keeps a sample of ten pictures a tag by default: the evolution would have gaps.
                print(f"TensorBoard: tensorboard --logdir {logger.save_dir} --samples_per_plugin images=1000")


def _run_name(args: Sequence[str]) -> str:
    """Return the name of the last config file in `args` without its ending, or ``"default"``."""
    name = "default"
    for option, value in pairwise([*args, ""]):
        if option in ("-c", "--config") and value:
            name = Path(value).stem
        elif option.startswith("--config="):
            name = Path(option.partition("=")[2]).stem
    return name


def _flat_model(model: Namespace) -> Iterator[tuple[str, object]]:
    return flatten(model.as_dict(), "model")


def _has_no_folder(callback: Callback) -> bool:
    return isinstance(callback, ModelCheckpoint) and callback.dirpath is None


def _as_list(callbacks: Callback | list[Callback]) -> list[Callback]:
    return callbacks if isinstance(callbacks, list) else [callbacks]


def _relative(path: str) -> Path:
    absolute = Path(path).absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
