"""Pictures and figures to Lightning's loggers, by each logger's own call."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger
from PIL import Image as PILImage


def takes_images(logger: Logger) -> bool:
    """Whether `log_image` can give pictures to this logger: TensorBoard, Weights & Biases, MLflow and their likes."""
    experiment = _experiment(logger)
    return hasattr(logger, "log_image") or hasattr(experiment, "add_image") or _is_mlflow(logger)


def log_image(logger: Logger, tag: str, image: PILImage.Image, step: int) -> None:
    """Give a picture to a logger that takes pictures.

    Args:
        logger: A logger for which `takes_images` holds.
        tag: Its name, for example ``features/conv1``.
        image: The picture.
        step: The training step that it belongs to.
    """
    experiment = _experiment(logger)
    if _is_mlflow(logger):
        experiment.log_image(logger.run_id, image, artifact_file=f"{tag}/step_{step:08d}.png")  # type: ignore[attr-defined]
    elif hasattr(logger, "log_image"):
        logger.log_image(key=tag, images=[image], step=step)
    else:
        experiment.add_image(tag, np.asarray(image), step, dataformats="HWC")


def log_scalars(loggers: Iterable[Logger], scalars: Mapping[str, float], step: int) -> None:
    """Give figures to every logger, beside those of the model, which stay as they are.

    Args:
        loggers: The trainer's loggers.
        scalars: Values by their names.
        step: The training step that they belong to.
    """
    for logger in loggers:
        logger.log_metrics(dict(scalars), step)


def _experiment(logger: Logger) -> Any:
    """Return the client that the logger writes with; Lightning's base class does not declare it."""
    return getattr(logger, "experiment", None)


def _is_mlflow(logger: Logger) -> bool:
    return any(base.__name__ == "MLFlowLogger" for base in type(logger).__mro__)
