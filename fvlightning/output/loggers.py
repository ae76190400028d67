"""Pictures and scalars for Lightning's loggers, by the call that each logger offers."""

import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from lightning.pytorch.loggers import Logger
from PIL import Image as PILImage
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter


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
        elif isinstance(experiment, SummaryWriter):
            _add_png(experiment, tag, image, step)
        elif hasattr(experiment, "add_image"):
            experiment.add_image(tag, np.asarray(image), step, dataformats="HWC")


def _add_png(writer: Any, tag: str, image: PILImage.Image, step: int) -> None:
    """Add a picture to TensorBoard's file as ``add_image`` does, in a third of the time: see `save_png`."""
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=3)
    value = Summary.Image(height=image.height, width=image.width, colorspace=3, encoded_image_string=file.getvalue())
    writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=value)]), step)


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
