"""The settings of a maximizer, as data: everything that the loop needs to know."""

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from fvlightning.errors import InputError
from fvlightning.features.images import Parametrization
from fvlightning.features.loop.optimizer import OptimizerCallable, SchedulerCallable, start_schedule
from fvlightning.features.objectives import JointObjective, Pooling
from fvlightning.features.penalties import Penalty
from fvlightning.features.scales import Scale
from fvlightning.features.starts import InitialPicture
from fvlightning.features.transforms import Transform, longest_warmup
from fvlightning.schedules import CosineWithWarmup

# More steps or pictures would fill the memory before the first step.
_MOST = 1_000_000
# Attributes of learning-rate schedules that are state.
_STATE = {"base_lrs", "last_epoch"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How pictures are made. `fvlightning.Maximizer` says what each setting means.

    Raises:
        InputError: A setting is out of its range.
    """

    steps: int
    image: Parametrization
    transforms: tuple[Transform, ...]
    optimizer: OptimizerCallable | None = None
    penalties: tuple[Penalty, ...] = ()
    patience: int | None = None
    min_delta: float = 0.0
    repeats: int = 1
    seed: int = 0
    batch_size: int | None = None
    pooling: Pooling = "mean"
    normalize_gradients: bool | None = None
    scheduler: SchedulerCallable | None = None
    transforms_per_step: int = 1
    open_relu_steps: int = 0
    snapshots: tuple[int, ...] = ()
    joint_objectives: tuple[JointObjective, ...] = ()
    scales: tuple[Scale, ...] = ()
    initial_picture: InitialPicture | None = None
    importance: bool = False
    log_odds: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that are out of range."""
        for name in ("steps", "repeats", "batch_size", "patience", "transforms_per_step"):
            if (value := getattr(self, name)) is not None and not 1 <= value <= _MOST:
                bound = "at least 1" if value < 1 else f"at most {_MOST:,}"
                raise InputError(f"Maximizer({name}={value}): must be {bound}")
        if self.transforms_per_step > 1 and not self.transforms:
            raise InputError(
                f"Maximizer(transforms_per_step={self.transforms_per_step}): needs transforms, or all copies are "
                "alike; leave it out"
            )
        if self.open_relu_steps < 0:
            raise InputError(f"Maximizer(open_relu_steps={self.open_relu_steps}): must be at least 0")
        if any(step < 1 for step in self.snapshots):
            raise InputError(f"Maximizer(snapshots={list(self.snapshots)}): must be numbers of steps, each at least 1")
        if self.repeats < 2 and any(joint.across == "repeats" for joint in self.joint_objectives):
            raise InputError(f"Maximizer(repeats={self.repeats}): must be at least 2 for joint objectives")
        if self.pooling not in ("mean", "rms"):
            raise InputError(f"Maximizer(pooling={self.pooling!r}): must be 'mean' or 'rms'")
        if not 0 <= self.log_odds <= 1:
            raise InputError(f"Maximizer(log_odds={self.log_odds}): must be at least 0 and at most 1")
        if not self.min_delta >= 0:
            raise InputError(f"Maximizer(min_delta={self.min_delta}): must be at least 0")
        if self.scales and (blur := self.scales[0].blur):
            raise InputError(f"Maximizer(scales=...): the blur of the first round must be 0, not {blur}")
        _ = self.warmup  # raises for a transform whose warm-up is not a share of the run

    @property
    def warmup(self) -> float:
        """The share of the run, in [0, 1), in which transforms still grow stronger."""
        return longest_warmup(self.transforms)

    @property
    def joins_units(self) -> bool:
        """Whether the pictures of different units depend on each other, and have to be made together."""
        return any(joint.across == "units" for joint in self.joint_objectives)

    @property
    def normalizes_gradients(self) -> bool:
        """Whether gradients are normalised; by default, with the default optimiser only."""
        return self.optimizer is None if self.normalize_gradients is None else self.normalize_gradients

    # Defaults chosen on EfficientNet-Lite0 by how well other networks recognise the pictures: tools/quality.py.
    def make_optimizer(self, parameters: Iterable[Any]) -> Optimizer:
        """Return the optimiser of some parameters, by default AdamW."""
        if self.optimizer is not None:
            return self.optimizer(parameters)
        decay = self.image.weight_decay
        return torch.optim.AdamW(parameters, lr=0.2, betas=(0.8, 0.99), eps=1e-3, weight_decay=decay, fused=True)

    @property
    def make_schedule(self) -> SchedulerCallable | None:
        """The schedule; by default `CosineWithWarmup` with the default optimiser, else None, a constant rate."""
        return CosineWithWarmup if self.scheduler is None and self.optimizer is None else self.scheduler

    def describe(self, skipped: int = 0) -> dict[str, Any]:
        """Return as plain values what determines a picture, besides the unit and the network.

        Args:
            skipped: The number of steps of the schedule before the first, of a warm start.

        Raises:
            InputError: A parametrisation, transform, penalty or joint objective has settings that are not plain.
        """
        optimizer = self.make_optimizer([nn.Parameter(torch.zeros(1))])
        schedule = start_schedule(self.make_schedule, optimizer, skipped + self.steps) if self.make_schedule else None
        return ({"skipped_steps": skipped} if skipped else {}) | {
            "steps": self.steps,
            "image": self.image.settings,
            "optimizer": _described(optimizer, optimizer.defaults),
            "transforms": [transform.settings for transform in self.transforms],
            "penalties": [penalty.settings for penalty in self.penalties],
            "patience": self.patience,
            "min_delta": self.min_delta,
            "pooling": self.pooling,
            "normalize_gradients": self.normalizes_gradients,
            "scheduler": schedule and _described(schedule, vars(schedule)),
            "transforms_per_step": self.transforms_per_step,
            "open_relu_steps": self.open_relu_steps,
            "joint_objectives": [joint.settings for joint in self.joint_objectives],
            "scales": [asdict(scale) for scale in self.scales],
            "initial_picture": self.initial_picture and self.initial_picture.settings,
            "importance": self.importance,
            "log_odds": self.log_odds,
            "seed": self.seed,
        }

    def warn_of_idle_patience(self, steps: int) -> None:
        """Warn if no picture can ever stop early in a run of so many steps."""
        if self.patience is None or self.patience == 1:
            return
        n_counted = sum(step / max(steps - 1, 1) >= self.warmup for step in range(steps))
        if self.patience >= n_counted:
            behind = " after the warm-up of the transforms" if self.warmup else ""
            warnings.warn(
                f"Maximizer(patience={self.patience}): stops no picture: of {steps} steps, {n_counted} count{behind}; "
                "give less, or more steps",
                stacklevel=3,
            )


def _described(instance: object, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the class of an optimiser or a schedule, with its settings among some attributes."""
    settings = {name: _plain(value) for name, value in attributes.items() if not name.startswith("_")}
    named = {name: value for name, value in settings.items() if value is not None and name not in _STATE}
    return {"class": type(instance).__name__, **named}


def _plain(value: object) -> object:
    """Return a value as a plain one; a function by its name, and None for anything else."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return type(value)(map(_plain, value))
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    return getattr(value, "__qualname__", None)
