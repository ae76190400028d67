"""Pictures and scalars for Lightning's loggers, by the call that each logger offers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger
from PIL import Image as PILImage


def takes_images(logger: Logger) -> bool:
    """Return whether `log_image` can pass pictures to this logger: TensorBoard, Weights & Biases, MLflow and others."""
    experiment = getattr(logger, "experiment", None)
    return hasattr(logger, "log_image") or hasattr(experiment, "add_image") or _is_mlflow(logger)


def log_image(loggers: Iterable[Logger], tag: str, image: PILImage.Image, step: int) -> None:
    """Pass a picture of a training step, named for example ``features/conv1``, to every logger that takes pictures."""
    for logger in loggers:
        experiment: Any = getattr(logger, "experiment", None)
        if _is_mlflow(logger):
            file = f"{_mlflow_name(tag)}/step_{step:08d}.png"
            experiment.log_image(logger.run_id, image, artifact_file=file)  # type: ignore[attr-defined]
        elif hasattr(logger, "log_image"):
            logger.log_image(key=tag, images=[image], step=step)
        elif hasattr(experiment, "add_image"):
            experiment.add_image(tag, np.asarray(image), step, dataformats="HWC")


def log_scalars(loggers: Iterable[Logger], scalars: Mapping[str, float], step: int) -> None:
    """Pass the scalars of a training step, by name, to every logger."""
    for logger in loggers:
        is_mlflow = _is_mlflow(logger)
        logger.log_metrics({_mlflow_name(name) if is_mlflow else name: value for name, value in scalars.items()}, step)


def _is_mlflow(logger: Logger) -> bool:
    return any(base.__name__ == "MLFlowLogger" for base in type(logger).__mro__)


def _mlflow_name(name: str) -> str:
    """Return a name without the signs of positions, calls and sums, which MLflow refuses or cannot read back."""
    return re.sub(r"[^\w ./-]", "_", name)
