"""Pictures of what units look for, while a network trains."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from typing_extensions import override

from fvlightning.callbacks.epoch_pictures import EpochPictures
from fvlightning.errors import InputError
from fvlightning.features import Feature, Maximizer, Unit, UnitRange, resolve_units
from fvlightning.features.capture.capture import find_layer
from fvlightning.output import (
    Tile,
    feature_pixels,
    feature_record,
    feature_sheet,
    group_name,
    log_scalars,
    save_png,
    unit_file,
    value_limit,
    write_manifest,
)
from fvlightning.output.class_names import class_names
from fvlightning.output.features import class_entry
from fvlightning.output.progress import picture_progress
from fvlightning.protocols import picture_shape

_SHARDING_STRATEGIES = ("FSDPStrategy", "ModelParallelStrategy", "DeepSpeedStrategy")


class VisualizationCallback(EpochPictures):
    """Runs activation maximisation on units of the network at the end of each epoch.

    Each layer gets one contact sheet an epoch, and each unit a scalar, ``visualization/LAYER/INDEX``: what the unit
    gives for its picture. The pictures and ``features.json`` are written under the run's folder, in
    ``features/epoch_NNNN``. Where the names of the classes are known (`class_names`), the pictures of classes have
    them.

    Training does not notice: it ends with bit-identical weights, optimiser state and metrics as without the callback.
    In distributed training every rank makes its part of the units.

    Args:
        units: Text forms, such as ``["conv2:0-15", "fc2:*"]`` (`fvlightning.Unit`). Layers are named as in the
            LightningModule's ``net``, or in the LightningModule itself if it has none.
        maximizer: How the pictures are made. Default: ``Maximizer()``, or, on the command line, what the key
            ``maximizer`` beside ``model`` says.
        every_n_epochs: Pictures are made after every so many epochs.
        before_training: Whether there are pictures of the untrained network, as epoch 0.
        warm_start: Go on from the pictures of the last time, so that their evolution is smooth and cheap, instead of
            making them anew.
        warm_steps: Steps of a picture that has a warm start. Default: a quarter of the maximizer's.
        animate: Whether an animation of each sheet is made at the end, ``features/LAYER.webp``.
        image_shape: ``(C, H, W)`` of the pictures. Default: the LightningModule's ``input_shape``, else the data
            module's ``image_shape``, else that of the LightningModule's ``example_input_array``.
        dirpath: Folder of the files. Default: ``features`` in the run's folder.

    Raises:
        InputError: A setting is out of its range; when training starts: a unit cannot be used, the folder cannot be
            written, or the shape of the pictures is not known.
        MisconfigurationException: The strategy shards the weights (FSDP, DeepSpeed stage 3).

    Example:
        >>> trainer = L.Trainer(callbacks=[VisualizationCallback(units=["conv2:0-15"], every_n_epochs=1)])
    """

    subfolder = "features"

    def __init__(
        self,
        units: Sequence[str],
        maximizer: Maximizer | None = None,
        every_n_epochs: int = 1,
        before_training: bool = True,
        warm_start: bool = True,
        warm_steps: int | None = None,
        animate: bool = True,
        image_shape: tuple[int, int, int] | None = None,
        dirpath: str | None = None,
    ) -> None:
        super().__init__(every_n_epochs, before_training, animate, dirpath)
        if warm_steps is not None and warm_steps < 1:
            raise InputError(f"VisualizationCallback(warm_steps={warm_steps}): must be at least 1")
        if warm_steps is not None and not warm_start:
            rank_zero_warn("VisualizationCallback(warm_steps=...) has no effect with warm_start=False")
        self.units = [units] if isinstance(units, str) else list(units)
        if not self.units:
            raise InputError("VisualizationCallback: no units are given; name at least one, for example 'conv2:0-15'")
        self._ranges = [UnitRange.parse(unit) for unit in self.units]
        self.warm_start = warm_start
        self.image_shape = image_shape
        self._has_own_maximizer = maximizer is not None
        self._given_warm_steps = warm_steps
        self._set_maximizer(maximizer if maximizer is not None else Maximizer())
        self._resolved: list[Unit] = []
        self._shape: tuple[int, ...] = ()
        self._names: dict[str, str] = {}
        self._starts: dict[tuple[str, int], Tensor] = {}

    def offer_maximizer(self, maximizer: Maximizer) -> bool:
        """Make pictures in this way if none was given to the callback; before training. Return whether that is so.

        Raises:
            InputError: It couples units.
        """
        if self._has_own_maximizer:
            return False
        self._set_maximizer(maximizer)
        return True

    def _set_maximizer(self, maximizer: Maximizer) -> None:
        if any(coupling.across == "units" for coupling in maximizer.joint_objectives):
            raise InputError(
                "VisualizationCallback splits the units over devices, and cannot couple them as Alignment does; leave "
                "it out, give the callback a maximizer of its own without it, or use Maximizer.maximize"
            )
        self.maximizer = maximizer
        given = self._given_warm_steps
        self.warm_steps = given if given is not None else math.ceil(maximizer.steps / 4)

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # As early as can be, before the run has a folder. The sizes of the layers are known only when it starts.
        if stage == "fit":
            _refuse_sharded_weights(trainer)
            for units in self._ranges:
                find_layer(pl_module, units.layer)

    @override
    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        datamodule = getattr(trainer, "datamodule", None)
        self._shape = picture_shape(pl_module, datamodule, self.image_shape)
        # Every rank checks all units, so that a wrong one ends all ranks and none waits for the others.
        self._resolved = resolve_units(pl_module, self.units, self._shape)
        self._names = class_names(pl_module, datamodule, self._resolved, self._shape)
        super().on_fit_start(trainer, pl_module)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == 0:
            self._starts.clear()
        super().on_train_start(trainer, pl_module)

    @override
    def show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        features = self._make(trainer, pl_module, epoch)
        if self.warm_start:
            self._starts.update({(f.name, f.repeat): f.parameters for f in features if f.status != "non-finite"})
        if trainer.is_global_zero:
            self._publish(trainer, pl_module, features, epoch)

    def _make(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> list[Feature]:
        """Make this rank's part of the units; on rank zero, return all of them, in order."""
        mine = self._resolved[trainer.global_rank :: trainer.world_size]
        warm = [unit for unit in mine if (str(unit), 0) in self._starts]
        fresh = [unit for unit in mine if unit not in warm]
        plan = [(units, n) for units, n in ((warm, self.warm_steps), (fresh, self.maximizer.steps)) if units]
        n_pictures = len(mine) * self.maximizer.repeats
        n_steps = sum(len(units) * steps for units, steps in plan) * self.maximizer.repeats
        description = f"Pictures of epoch {epoch}"
        features: list[Feature] = []
        failure: Exception | None = None
        try:
            with picture_progress(trainer, trainer.progress_bar_callback, description, n_pictures, n_steps) as progress:
                for units, steps in plan:
                    for _, feature in self.maximizer.stream(
                        pl_module, units, self._shape, warm_starts=self._starts, steps=steps, on_step=progress.step
                    ):
                        features.append(feature)
                        progress.done()
        except Exception as error:
            failure = error
            if trainer.world_size == 1:
                raise
        if trainer.world_size > 1:
            features = _gather(trainer, features, failure)
        order = {str(unit): place for place, unit in enumerate(self._resolved)}
        return sorted(features, key=lambda feature: (order[feature.name], feature.repeat))

    def _publish(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, features: Sequence[Feature], epoch: int
    ) -> None:
        by_layer: dict[str, list[Feature]] = {}
        for feature in features:
            by_layer.setdefault(group_name(feature.unit), []).append(feature)
        for layer, of_layer in by_layer.items():
            limit = None if self.maximizer.image.bounded else value_limit([feature.image for feature in of_layer])
            tiles = [
                Tile(f.unit, f.repeat, f.status, feature_pixels(f, limit), limit, self._names.get(f.name))
                for f in of_layer
            ]
            title = f"{layer}, " + (f"epoch {epoch}" if epoch else "untrained")
            self.publish(trainer, layer, feature_sheet(tiles, title), epoch)
            if (folder := self.epoch_folder(epoch)) is not None:
                for tile in tiles:
                    save_png(tile.pixels, folder / unit_file(tile.unit, tile.repeat))
        log_scalars(trainer.loggers, _scalars(features), trainer.global_step)
        if (folder := self.epoch_folder(epoch)) is not None:
            records = [
                feature_record(f, unit_file(f.unit, f.repeat)) | class_entry(self._names, f.name) for f in features
            ]
            net = getattr(pl_module, "net", pl_module)
            write_manifest(records, folder / "features.json", model=type(net).__name__, epoch=epoch)
        _warn_of(features, epoch)

    @property
    @override
    def state_key(self) -> str:
        # Two of these callbacks, for other units, keep their states apart.
        return self._generate_state_key(units=self.units, image=type(self.maximizer.image).__name__)

    @override
    def state_dict(self) -> dict[str, Any]:
        starts = [
            {"unit": unit, "repeat": repeat, "parameters": parameters}
            for (unit, repeat), parameters in self._starts.items()
        ]
        return {"starts": starts}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._starts = {(start["unit"], start["repeat"]): start["parameters"] for start in state_dict["starts"]}


def _gather(trainer: pl.Trainer, features: list[Feature], failure: Exception | None) -> list[Feature]:
    """Bring the features of all ranks to rank zero, or raise on every rank what went wrong on one."""
    reasons: list[str | None] = [None] * trainer.world_size
    reason = f"{type(failure).__name__}: {failure}" if failure else None
    torch.distributed.all_gather_object(reasons, reason)
    for rank, other in enumerate(reasons):
        if other is not None:
            raise RuntimeError(f"rank {rank} could not make its pictures: {other}") from failure
    gathered: list[Any] | None = [None] * trainer.world_size if trainer.is_global_zero else None
    torch.distributed.gather_object(features, gathered)
    return features if gathered is None else [feature for part in gathered for feature in part]


def _scalars(features: Sequence[Feature]) -> Mapping[str, float]:
    """Return the activation that each unit reaches with the best of its pictures."""
    best: dict[Unit, float] = {}
    for feature in features:
        assert isinstance(feature.unit, Unit)
        best[feature.unit] = max(best.get(feature.unit, -math.inf), feature.score)
    return {
        "visualization/" + unit_file(unit).with_suffix("").as_posix(): -score if unit.minimize else score
        for unit, score in best.items()
    }


def _warn_of(features: Sequence[Feature], epoch: int) -> None:
    for status, meaning in (
        ("non-finite", "gave values that are not finite; their pictures are the last ones before that"),
        ("dead", "do not answer to any step (dead ReLUs?); choose the layer before the activation function"),
    ):
        names = [feature.name for feature in features if feature.status == status]
        if names:
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            rank_zero_warn(f"epoch {epoch}: {len(names)} of {len(features)} units {meaning}: {shown}")


def _refuse_sharded_weights(trainer: pl.Trainer) -> None:
    strategy = trainer.strategy
    if any(base.__name__ in _SHARDING_STRATEGIES for base in type(strategy).__mro__):
        raise MisconfigurationException(
            f"VisualizationCallback does not work with {type(strategy).__name__}, which shards the weights over "
            "devices; use the strategy 'ddp', or leave the callback out"
        )
