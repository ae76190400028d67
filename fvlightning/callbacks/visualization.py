"""Pictures of what units look for, while a network trains."""

import math
import time
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor
from typing_extensions import override

from fvlightning.callbacks.epoch_pictures import EpochPictures
from fvlightning.errors import InputError, some_of
from fvlightning.features import Feature, Maximizer, Objective, Unit, resolve_objectives
from fvlightning.features.capture import find_layer
from fvlightning.features.objectives import check_responses, layers_of
from fvlightning.output import FeatureWriter, class_names, group_name, log_scalars, picture_progress, unit_file
from fvlightning.protocols import picture_shape


class VisualizationCallback(EpochPictures):
    """Runs activation maximisation on units of the network at the end of each epoch.

    Each epoch has one contact sheet per layer, ``visualization/LAYER``, and two scalars, ``visualization/LAYER/mean``
    and ``visualization/LAYER/best``: over the layer's units, the mean and the largest of the scores that they reach on
    their pictures. A unit that is minimised scores the negative of its activation. ``visualization/seconds`` is what
    the pictures of an epoch took; a line at the end says their part of the training's time. The pictures and
    ``features.json`` are in ``features/epoch_NNNN`` in the run's folder. Pictures of classes are labelled with the
    names of the classes, if these are known.

    The callback does not affect training: weights, optimiser state and metrics end bit-identical to those of a run
    without it. In distributed training the ranks share the units; with ``fsdp2`` each has all weights meanwhile.

    Args:
        units: Text forms of units and of weighted sums of them, such as ``["conv2:0-15", "fc2:*", "fc2:7 - fc2:3"]``
            (`fvlightning.Unit`), or objectives. Layers are paths in the LightningModule's ``net``, or else in itself.
        maximizer: How the pictures are made. Default: ``Maximizer()``, or, on the command line, the maximizer under the
            key ``maximizer`` beside ``model``.
        warm_start: Whether pictures go on from those of the last time, so that they change smoothly and take fewer
            steps, or start anew.
        warm_steps: Number of steps of a picture with a warm start, the last of the maximizer's. Default: a quarter of
            them.
        image_shape: ``(C, H, W)`` of the pictures. Default: the LightningModule's ``input_shape``, else the data
            module's ``image_shape``, else that of the LightningModule's ``example_input_array``.
        log_units: Whether the activation that each unit reaches is a scalar too, ``visualization/LAYER/INDEX``.
        **settings: See `EpochPictures`.

    Raises:
        InputError: A setting is out of its range; when training starts: a unit cannot be used, the folder cannot be
            written, or the shape of the pictures is not known.
        MisconfigurationException: See `EpochPictures`.
    """

    subfolder = "features"

    def __init__(
        self,
        units: Sequence[str | Objective] | str,
        maximizer: Maximizer | None = None,
        *,
        warm_start: bool = True,
        warm_steps: int | None = None,
        image_shape: tuple[int, int, int] | None = None,
        log_units: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._require(warm_steps is None or warm_steps >= 1, "must be at least 1", warm_steps=warm_steps)
        if warm_steps is not None and not warm_start:
            rank_zero_warn("VisualizationCallback(warm_steps=...) has no effect with warm_start=False")
        self.layers = {layer.layer for layer in layers_of(units)}
        self.units = [units] if isinstance(units, str | Objective) else list(units)
        self.warm_start = warm_start
        self._warm_steps = warm_steps
        self.image_shape = image_shape
        self.log_units = log_units
        self._takes_offers = True
        self.offer_maximizer(maximizer or Maximizer())
        self._takes_offers = maximizer is None
        self._resolved: list[Unit | Objective] = []
        self._shape: tuple[int, ...] = ()
        self._class_names: dict[str, str] = {}
        self._warm_starts: dict[tuple[str, int], Tensor] = {}
        self._started = self._seconds = 0.0

    def offer_maximizer(self, maximizer: Maximizer) -> bool:
        """Use a maximizer, if the callback was made without one, and return whether it is used. Before training.

        Raises:
            InputError: It has a joint objective of different units.
        """
        if not self._takes_offers:
            return False
        if maximizer.settings.joins_units:
            raise InputError(
                "VisualizationCallback splits the units over devices, so it cannot optimise them together, as a joint "
                "objective across units (Alignment) requires; leave that out, give the callback a maximizer without "
                "it, or use Maximizer.maximize"
            )
        self.maximizer = maximizer
        self.warm_steps = self._warm_steps or math.ceil(maximizer.settings.steps / 4)
        return True

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # As early as possible, before the run has a folder. The sizes of the layers are known only when it starts.
        if stage == "fit":
            for layer in sorted(self.layers):
                find_layer(pl_module, layer)

    @override
    def prepare(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started, self._seconds = time.perf_counter(), 0.0
        datamodule = getattr(trainer, "datamodule", None)
        self._shape = picture_shape(pl_module, datamodule, self.image_shape)
        # Every rank checks all units: a wrong one ends all ranks, and none waits for the others.
        pooling = self.maximizer.settings.pooling
        self._resolved = resolve_objectives(pl_module, self.units, self._shape, pooling)
        check_responses(pl_module, self._resolved, self._shape, pooling)
        self._class_names = class_names(pl_module, datamodule, self._resolved, self._shape)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step == 0:
            self._warm_starts.clear()
        super().on_train_start(trainer, pl_module)

    @override
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_fit_end(trainer, pl_module)
        total = time.perf_counter() - self._started
        rank_zero_info(f"The pictures took {self._seconds:.1f} of the training's {total:.1f} s.")

    @override
    def show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        started = time.perf_counter()
        self._show(trainer, pl_module, epoch)
        seconds = time.perf_counter() - started
        self._seconds += seconds
        if trainer.is_global_zero:
            log_scalars(trainer.loggers, {"visualization/seconds": seconds}, trainer.global_step)

    def _show(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> None:
        features = self._make(trainer, pl_module, epoch)
        if self.warm_start:
            for feature in features:
                if feature.status == "ok":
                    self._warm_starts[feature.name, feature.repeat] = feature.parameters
                elif feature.status == "dead":  # if it comes alive, it needs all steps
                    self._warm_starts.pop((feature.name, feature.repeat), None)
        if not trainer.is_global_zero:
            return
        log_scalars(trainer.loggers, _scalars(features, self.log_units), trainer.global_step)
        _warn_of_failures(features, epoch)
        if (folder := self.epoch_folder(epoch)) is None:
            return
        writer = FeatureWriter(
            folder, self._resolved, self.maximizer, pl_module, self._shape, class_names=self._class_names, epoch=epoch
        )
        self.log_sheets(trainer, writer.finish(writer.write(*features))[1])

    def _make(self, trainer: pl.Trainer, pl_module: pl.LightningModule, epoch: int) -> list[Feature]:
        """Make this rank's share of the pictures; on rank zero, return all of them, in the order of the units."""
        settings = self.maximizer.settings
        steps = {True: self.warm_steps, False: settings.steps}  # with a warm start, and without
        units_by_start: dict[bool, list[Unit | Objective]] = {}
        for unit in self._resolved[trainer.global_rank :: trainer.world_size]:
            units_by_start.setdefault((str(unit), 0) in self._warm_starts, []).append(unit)
        n_pictures = settings.repeats * sum(map(len, units_by_start.values()))
        n_steps = settings.repeats * sum(steps[warm] * len(units) for warm, units in units_by_start.items())
        bar, description = trainer.progress_bar_callback, f"Pictures of epoch {epoch}"
        features: list[Feature] = []
        failure: Exception | None = None
        try:
            with picture_progress(trainer, bar, description, n_pictures, n_steps) as progress:
                stream = partial(self.maximizer.stream, warm_starts=self._warm_starts, on_step=progress.step)
                for warm, units in units_by_start.items():
                    for _, feature in stream(pl_module, units, self._shape, steps=steps[warm]):
                        features.append(feature)
                        progress.done()
        except Exception as error:
            if trainer.world_size == 1:
                raise
            failure = error
        if trainer.world_size > 1:
            features = _gather(trainer, features, failure)
        order = {str(unit): place for place, unit in enumerate(self._resolved)}
        return sorted(features, key=lambda feature: (order[feature.name], feature.repeat))

    @property
    @override
    def state_key(self) -> str:
        # Two of these callbacks, for different units, have separate states.
        image = type(self.maximizer.settings.image).__name__
        return self._generate_state_key(units=[str(unit) for unit in self.units], image=image)

    @override
    def state_dict(self) -> dict[str, Any]:
        starts = self._warm_starts.items()
        return {"starts": [{"unit": name, "repeat": repeat, "parameters": tensor} for (name, repeat), tensor in starts]}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._warm_starts = {(start["unit"], start["repeat"]): start["parameters"] for start in state_dict["starts"]}


def _gather(trainer: pl.Trainer, features: list[Feature], failure: Exception | None) -> list[Feature]:
    """Return the features of all ranks on rank zero, or raise the failure of one rank on all of them."""
    reasons: list[str | None] = [None] * trainer.world_size
    torch.distributed.all_gather_object(reasons, f"{type(failure).__name__}: {failure}" if failure else None)
    for rank, reason in enumerate(reasons):
        if reason is not None:
            raise RuntimeError(f"rank {rank} could not make its pictures: {reason}") from failure
    gathered: list[Any] | None = [None] * trainer.world_size if trainer.is_global_zero else None
    torch.distributed.gather_object(features, gathered)
    return features if gathered is None else [feature for part in gathered for feature in part]


def _scalars(features: Sequence[Feature], log_units: bool) -> dict[str, float]:
    """Return mean and best of each layer and of the sums, and each unit's activation if asked for, by their names.

    A unit or objective counts by the best of its pictures. Non-finite scores are left out.
    """
    finite = [feature for feature in features if math.isfinite(feature.score)]
    best = {feature.name: feature for feature in sorted(finite, key=lambda feature: feature.score)}
    scores: dict[str, list[float]] = {}
    scalars: dict[str, float] = {}
    for feature in best.values():
        scores.setdefault(group_name(feature.unit), []).append(feature.score)
        if log_units:
            minimised = isinstance(feature.unit, Unit) and feature.unit.minimize
            name = unit_file(feature.unit).with_suffix("").as_posix()
            scalars[f"visualization/{name}"] = -feature.score if minimised else feature.score
    for layer, values in scores.items():
        scalars |= {f"visualization/{layer}/mean": fmean(values), f"visualization/{layer}/best": max(values)}
    return scalars


def _warn_of_failures(features: Sequence[Feature], epoch: int) -> None:
    meanings = {
        "non-finite": "gave values that are not finite; their pictures are the last ones before that",
        "dead": "do not respond to any step (dead ReLUs?); choose the layer before the activation function",
    }
    for status, meaning in meanings.items():
        if names := [feature.name for feature in features if feature.status == status]:
            rank_zero_warn(f"epoch {epoch}: {len(names)} of {len(features)} units {meaning}: {some_of(names)}")
