"""Pictures of the data that a run trains on, and of those that it holds out."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

_BATCH = 256
# Of data with many classes, or of which some are rare, not all images are read.
_MOST_READ = 20 * _BATCH


def read_batches(trainer: pl.Trainer, part: str) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield pictures ``(B, C, H, W)`` in [0, 1], not varied where the data module knows its parts, and labels."""
    data: Any = getattr(trainer, "datamodule", None)
    splits = getattr(data, "splits", None)
    images = None if splits is None else splits.val if part == "val" and len(splits.val) else splits.train
    batches: Any
    if images is not None:
        # In an order of their own, as sets are often sorted by classes; of the training images all are taken anyway.
        places = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        batches = (images[places[first : first + _BATCH]] for first in range(0, len(images), _BATCH))
    else:
        loaders = trainer.val_dataloaders if part == "val" else None
        batches = (loaders[0] if isinstance(loaders, list) and loaders else loaders) or trainer.train_dataloader
    for batch in batches:
        if data is not None:
            batch = data.on_after_batch_transfer(batch, 0)
        yield (batch, None) if isinstance(batch, Tensor) else (batch[0], batch[1] if len(batch) > 1 else None)


def some_pictures(trainer: pl.Trainer, count: int) -> tuple[Tensor, Tensor | None]:
    """Return the first held-out pictures, or as many as there are, and their labels, if they have any."""
    pictures: list[Tensor] = []
    labels: list[Tensor] = []
    for part, classes in read_batches(trainer, "val"):
        pictures.append(part.cpu())
        labels += [] if classes is None else [classes.cpu()]
        if sum(map(len, pictures)) >= count:
            break
    return torch.cat(pictures)[:count], torch.cat(labels)[:count] if labels else None


def names_of(trainer: pl.Trainer, labels: Tensor) -> list[str]:
    """Return the names of classes, or their numbers where the data module has no names."""
    classes = getattr(getattr(trainer, "datamodule", None), "class_names", None)
    return [classes[label] if classes is not None else str(label) for label in labels.tolist()]


def some_of_each_class(trainer: pl.Trainer, count: int) -> dict[int, Tensor]:
    """Return training pictures by classes: of each the first `count`, among the first five thousand of all.

    Returns:
        ``(B, C, H, W)`` by labels, in their order; empty if the data have no labels, one a picture.
    """
    found: dict[int, list[Tensor]] = defaultdict(list)
    n_read = 0
    for pictures, labels in read_batches(trainer, "train"):
        if labels is None or labels.ndim != 1:
            return {}
        for picture, label in zip(pictures.cpu(), labels.tolist(), strict=True):
            if len(found[label]) < count:
                found[label].append(picture)
        n_read += len(pictures)
        if n_read >= _MOST_READ:
            break
    return {label: torch.stack(found[label]) for label in sorted(found)}
