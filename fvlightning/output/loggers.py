"""Pictures and scalars for Lightning's loggers, by the call that each logger offers."""

import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger
from PIL import Image as PILImage

from fvlightning.output.pixels import write_png


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
        elif _is_summary_writer(experiment):
            _add_png(experiment, tag, image, step)
        elif hasattr(experiment, "add_image"):
            experiment.add_image(tag, np.asarray(image), step, dataformats="HWC")


def _add_png(writer: Any, tag: str, image: PILImage.Image, step: int) -> None:
    """Add a picture to TensorBoard's file as ``add_image`` does, in half the time: see `write_png`."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    file = io.BytesIO()
    write_png(image, file)
    value = Summary.Image(
        height=image.height,
        width=image.width,
        colorspace=len(image.getbands()),
        encoded_image_string=file.getvalue(),
    )
    # There is no public call for a picture that is encoded already.
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=value)]), step)


def log_scalars(loggers: Iterable[Logger], scalars: Mapping[str, float], step: int) -> None:
    """Pass the scalars of a training step, by name, to every logger."""
    for logger in loggers:
        is_mlflow = _is_mlflow(logger)
        logger.log_metrics({_mlflow_name(name) if is_mlflow else name: value for name, value in scalars.items()}, step)


def _is_mlflow(logger: Logger) -> bool:
    return any(base.__name__ == "MLFlowLogger" for base in type(logger).__mro__)


def _is_summary_writer(experiment: object) -> bool:
    # By name: to import torch's writer is to import TensorFlow, where that is installed.
    return any(base.__module__ == "torch.utils.tensorboard.writer" for base in type(experiment).__mro__)


def _mlflow_name(name: str) -> str:
    """Return a name without the signs of positions, calls and sums, which MLflow refuses or cannot read back."""
    return re.sub(r"[^\w ./-]", "_", name)
