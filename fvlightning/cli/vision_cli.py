"""The command line: LightningCLI with this project's defaults."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from jsonargparse import Namespace
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import _InstantiatorFn
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import TorchSyncBatchNorm
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

import fvlightning
from fvlightning.callbacks import VisualizationCallback
from fvlightning.cli._config_files import config_files
from fvlightning.cli._epochs import EpochMetrics
from fvlightning.cli._fitting import RandomStates, StepReport, SyncBatchNorms, WholeCheckpoints
from fvlightning.cli._making import check_trainer, late_refusal, make_by_default, refusal, refusals_named, says_enough
from fvlightning.cli._parsing import RUNS, ParsingCLI
from fvlightning.cli._quiet import whole_lines, without_callback_warning, without_noise
from fvlightning.cli._signals import Ending, Requeue
from fvlightning.cli._subcommands import PROGRAM
from fvlightning.cli._usage import UsageError
from fvlightning.cli.allocation import freed_memory_kept
from fvlightning.errors import InputError, one_line
from fvlightning.features import Maximizer
from fvlightning.models import BackboneModule
from fvlightning.output import EpochProgressBar
from fvlightning.protocols import read_class_names
from fvlightning.sharding import FSDP2Strategy, whole_network
from fvlightning.trainer import Trainer

_MOST_PER_CORE = 4  # processes
_LOADED = {"fit": "train", "validate": "val", "test": "test", "predict": "predict"}


class VisionCLI(ParsingCLI):
    """``fvlightning SUBCOMMAND``: any LightningModule, any LightningDataModule, or none.

    Args:
        args: The arguments behind the program's name.
        trainer_class: The trainer whose methods are the subcommands. Default: `fvlightning.trainer.Trainer`.
    """

    def __init__(self, args: Sequence[str], trainer_class: type[pl.Trainer] | None = None) -> None:
        self.run_name = _run_name(args)
        self.datamodule: pl.LightningDataModule | None = None
        logger = {"save_dir": RUNS, "name": self.run_name, "default_hp_metric": False}
        with without_noise():
            super().__init__(
                args,
                trainer_class or Trainer,
                # With a class of its own Lightning would demand data for every subcommand.
                datamodule_class=None,
                # A second run into the same folder replaces its config; Lightning's default is to refuse.
                save_config_kwargs={"overwrite": True},
                trainer_defaults={
                    "logger": {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": logger}
                },
                seed_everything_default=0,
                auto_configure_optimizers=False,
                parser_kwargs={
                    # `python -m` would call it __main__.py.
                    "prog": PROGRAM if trainer_class is None else None,
                    "description": "Train vision models and see what their units look for.",
                    "version": f"{PROGRAM} {fvlightning.__version__}",
                },
            )

    def _set_seed(self) -> None:
        try:
            super()._set_seed()
        except ValueError as error:
            raise InputError(f"--seed_everything: {one_line(error)}") from error

    def _add_instantiators(self) -> None:
        """Leave them to `instantiate_classes`: jsonargparse deprecates how Lightning adds them."""

    def before_instantiate_classes(self) -> None:
        """Let the runs go to ``--trainer.default_root_dir``, unless the logger has another folder of its own."""
        trainer = self._get(self.config, "trainer")
        settings = trainer.logger.get("init_args", {}) if isinstance(trainer.logger, Namespace) else {}
        if trainer.default_root_dir is not None and settings.get("save_dir") == RUNS:
            settings["save_dir"] = str(trainer.default_root_dir)
        if self.subcommand == "fit" and self._get(self.config, "from_scratch"):
            model = self._get(self.config, "model").get("init_args", {})
            if "weights" not in model:
                raise InputError("--from_scratch true is for models with the setting weights, such as BackboneModule")
            model["weights"] = None

    def instantiate_classes(self) -> None:
        """Make data module, model and trainer; what a constructor refuses is one line with the option's name."""
        settings = self.config[self.subcommand].as_dict()
        named = partial(refusals_named, settings=settings)
        instantiators = [
            # Lightning's, which keep the hyperparameters.
            (named(self._make_model), pl.LightningModule, True),
            (named(self._make_data), pl.LightningDataModule, True),
            (named(make_by_default), object, True),
        ]
        try:
            self.config_init = self.parser.instantiate(self.config, instantiators=instantiators)
        except ValueError as error:
            raise refusal(error, settings) from None
        self.model = self._get(self.config_init, "model")
        self.trainer = self.instantiate_trainer()
        if self.datamodule is not None:  # the commands that read data call no loop of Lightning that would do this
            self.datamodule.trainer = self.trainer

    def _make_data(self, *args: Any, applied_instantiation_links: dict[str, Any], **kwargs: Any) -> Any:
        make = _InstantiatorFn(self, "data")
        self.datamodule = make(*args, applied_instantiation_links=applied_instantiation_links, **kwargs)
        return self.datamodule

    def _make_model(self, kind: type, *args: Any, applied_instantiation_links: dict[str, Any], **kwargs: Any) -> Any:
        # A backbone that is trained gets a head for the classes of the data.
        if self.subcommand == "fit" and issubclass(kind, BackboneModule) and kwargs.get("num_classes") is None:
            kwargs["num_classes"] = getattr(self.datamodule, "num_classes", None)
            if kwargs["num_classes"] == 1:
                names = ", ".join(read_class_names(self.datamodule) or ())
                raise InputError(f"the data have one class alone, '{names}': a classifier needs at least two")
        make = _InstantiatorFn(self, "model")
        return make(kind, *args, applied_instantiation_links=applied_instantiation_links, **kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> pl.Trainer:
        """Leave out callbacks that cannot work with the trainer's settings or would litter the working directory."""
        if config.get("logger") is None or config["logger"] is True:
            folder = config.get("default_root_dir") or RUNS
            config["logger"] = TensorBoardLogger(folder, name=self.run_name, default_hp_metric=False)
        # With these Lightning keeps no checkpoint, but refuses the callback or makes its empty folder.
        unwanted = config.get("enable_checkpointing") is False or config.get("barebones") or config.get("fast_dev_run")
        left_out: tuple[type[Callback], ...] = (ModelCheckpoint,) if unwanted else ()
        if config.get("barebones") or not config["logger"]:
            config["logger"] = False
            self.save_config_callback = None
            left_out += (LearningRateMonitor,)
            if config.get("default_root_dir") is None:
                callbacks = [callback for callback in callbacks if not _is_without_folder(callback)]
        callbacks = [callback for callback in callbacks if not isinstance(callback, left_out)]
        configured = config.get("callbacks") or []
        all_callbacks = [*callbacks, *(configured if isinstance(configured, list) else [configured])]
        has_bar = any(isinstance(callback, ProgressBar) for callback in all_callbacks)
        if not (has_bar or config.get("enable_progress_bar") is False or config.get("barebones")):
            callbacks.append(EpochProgressBar())
        if self.subcommand == "fit":
            callbacks += [EpochMetrics(), RandomStates(), StepReport()]
        if not any(isinstance(callback, ModelCheckpoint) for callback in all_callbacks):
            config["enable_checkpointing"] = False  # or Lightning would add one of its own
            if self.subcommand == "fit" and not unwanted:
                rank_zero_info("No checkpoint will be kept: --checkpoint.dirpath FOLDER keeps them without a logger")
        check_trainer(config)
        if config.get("strategy") == "fsdp2" and self.subcommand != "fit":
            config["strategy"] = "auto"  # only training needs the memory that it saves
        try:
            trainer = super()._instantiate_trainer(config, callbacks)
        except (ImportError, MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
            raise InputError(f"--trainer: {one_line(error)}") from error
        # Other strategies that shard weights write checkpoints in their own ways.
        is_whole = isinstance(trainer.strategy, SingleDeviceStrategy | DDPStrategy | FSDP2Strategy)
        if is_whole and type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpoints()
        if isinstance(getattr(trainer.strategy, "_layer_sync", None), TorchSyncBatchNorm):
            trainer.strategy._layer_sync = SyncBatchNorms()  # type: ignore[attr-defined] # of parallel strategies
        if isinstance(trainer.accelerator, CPUAccelerator):
            # Lightning starts any number of processes on a CPU.
            most = _MOST_PER_CORE * (os.cpu_count() or 1)
            if trainer.num_devices > most:
                raise InputError(f"--trainer.devices {trainer.num_devices}: must be at most {most} on this CPU")
            if config.get("sync_batchnorm") and trainer.world_size > 1:
                raise InputError("--trainer.sync_batchnorm true: is for GPUs; leave it out")
        if self.subcommand == "fit":
            trainer.callbacks += [Requeue(), Ending()]  # type: ignore[attr-defined] # which Lightning sets
        return trainer

    def _run_subcommand(self, subcommand: str) -> None:
        loader = f"{_LOADED.get(subcommand, '')}_dataloader"
        if self.datamodule is None and subcommand in _LOADED and not is_overridden(loader, self.model):
            raise UsageError(f"{subcommand} needs --data, or a --config file that has 'data'")
        try:
            # The commands of this package read checkpoints themselves.
            safe = torch.serialization.safe_globals([] if subcommand in self._added else list(self._classes))
            with freed_memory_kept(), whole_lines(), safe:
                if subcommand == "fit":
                    super()._run_subcommand(subcommand)
                else:
                    self._warn_of_untrained_weights(subcommand)
                    with without_callback_warning():
                        super()._run_subcommand(subcommand)
        except (KeyboardInterrupt, SystemExit):
            if subcommand == "fit":
                self._print_results(stopped=True)
            raise
        except Exception as error:
            if str(error).startswith("Error(s) in loading state_dict"):
                ckpt_path = self._get(self.config, "ckpt_path")
                raise InputError(f"'{ckpt_path}' does not fit {type(self.model).__name__}: {error}") from error
            if says_enough(error) or (refused := late_refusal(error)) is None:
                raise
            raise refused from error
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # Lightning leaves the group to the interpreter's end, where its threads may abort a finished program.
            torch.distributed.destroy_process_group()

    def _warn_of_untrained_weights(self, subcommand: str) -> None:
        ckpt_paths = self._get(self.config, "ckpt_paths") or {}
        for name, model in (self._get(self.config, "models") or {}).items():
            if name not in ckpt_paths and model.get("init_args", {}).get("weights") is None:
                rank_zero_warn(f"{subcommand} without --ckpt_paths.{name} uses the weights that the model is made with")
        if {"model", "ckpt_path"} & set(self._unused_keys(subcommand)) or self._get(self.config, "ckpt_path"):
            return
        model = self._get(self.config, "model")
        if self._get(self.config, "list_layers"):
            return
        if model is not None and model.get("init_args", {}).get("weights") is None:
            rank_zero_warn(f"{subcommand} without --ckpt_path uses the weights that the model is made with")

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        return {name: value for name, value in kwargs.items() if name in self._added.get(subcommand, kwargs)}

    def before_fit(self) -> None:
        """Pass on the maximizer; refuse ``--test_after_fit`` before training if the model cannot be tested."""
        if (maximizer := self._get(self.config_init, "maximizer")) is not None:
            self._offer_maximizer(maximizer)
        if self._get(self.config, "test_after_fit") and not is_overridden("test_step", self.model):
            raise InputError(f"--test_after_fit needs a model with a test_step; {type(self.model).__name__} has none")

    def _offer_maximizer(self, maximizer: Maximizer) -> None:
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined] # which Lightning sets
        # A list, so that each is asked.
        taken = [one.offer_maximizer(maximizer) for one in callbacks if isinstance(one, VisualizationCallback)]
        if not any(taken) and self._is_option("maximizer"):
            rank_zero_warn("--maximizer has no effect: no VisualizationCallback makes pictures, or each has its own")

    def after_fit(self) -> None:
        """Run the test, if asked to, and print where the results are."""
        if self._get(self.config, "test_after_fit"):
            if self.datamodule is not None and self.datamodule.test_dataloader() == []:
                rank_zero_warn(f"--test_after_fit has no effect: {type(self.datamodule).__name__} has no test images")
            else:
                self.trainer.test(self.model, datamodule=self.datamodule)
        if self._get(self.config, "microscope_after_fit"):
            with whole_network(self.trainer, self.model):
                self._make_microscope()
        self._print_results()

    def _make_microscope(self) -> None:
        """Show the units of the trained model, and the epochs, on one page in the run's folder."""
        run, checkpoint = self.trainer.log_dir, getattr(self.trainer.checkpoint_callback, "last_model_path", "")
        if run is None or not checkpoint:
            rank_zero_warn("--microscope_after_fit has no effect without a logger and checkpoints")
            return
        self.trainer.microscope(  # type: ignore[attr-defined] # a command of `fvlightning.trainer.Trainer`
            self.model,
            maximizer=self._get(self.config_init, "maximizer"),
            run=run,
            output_dir=str(Path(run) / "microscope"),
            ckpt_path=checkpoint,
            datamodule=self.datamodule,
        )

    def _print_results(self, stopped: bool = False) -> None:
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
                # By default TensorBoard keeps a sample of ten pictures per tag: the evolution would have gaps.
                print(f"TensorBoard: tensorboard --logdir {logger.save_dir} --samples_per_plugin images=1000")


def _run_name(args: Sequence[str]) -> str:
    """Return the name of the last config file in `args` without its ending, or ``"default"``."""
    return Path(["default", *config_files(args)][-1]).stem


def _is_without_folder(callback: Callback) -> bool:
    return isinstance(callback, ModelCheckpoint) and callback.dirpath is None


def _relative(path: str) -> Path:
    absolute = Path(path).absolute()
    return absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute
