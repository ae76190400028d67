"""Pictures of the data that a run trains on, and of those that it holds out."""

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fvlightning.protocols import read_class_names

BATCH = 256
# Of data of which nobody knows which image is of which class, not all are read.
_MOST_READ = 5000


def read_batches(trainer: pl.Trainer, part: str) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield pictures ``(B, C, H, W)`` in [0, 1], not varied where the data module knows its parts, and their classes.

    Training does not notice: loaders of data modules of other kinds give the same batches afterwards.

    Args:
        trainer: Of the run.
        part: ``train``, or ``val``, instead of which the training images are read if there are no others.

    Yields:
        The pictures, and int ``(B,)``, or None if they have no labels or labels of another kind.
    """
    data: Any = getattr(trainer, "datamodule", None)
    if (splits := getattr(data, "splits", None)) is not None:
        images = splits.val if part == "val" and len(splits.val) else splits.train
        # In an order of their own, as sets are often sorted by classes; of the training images all are taken anyway.
        yield from _prepared(data, _in_batches(images, _order(len(images))))
        return
    loaders = trainer.val_dataloaders if part == "val" else None
    loader = (loaders[0] if isinstance(loaders, list) and loaders else loaders) or trainer.train_dataloader
    with _borrowed(loader) as borrowed:
        yield from _prepared(data, borrowed)


def some_pictures(trainer: pl.Trainer, count: int) -> tuple[Tensor, Tensor | None]:
    """Return the first held-out pictures, or as many as there are, and their classes, if they have any."""
    pictures: list[Tensor] = []
    labels: list[Tensor] = []
    for part, classes in read_batches(trainer, "val"):
        pictures.append(part.cpu())
        labels += [] if classes is None else [classes.cpu()]
        if sum(map(len, pictures)) >= count:
            break
    return torch.cat(pictures)[:count], torch.cat(labels)[:count] if labels else None


def some_of_each_class(trainer: pl.Trainer, count: int, n_classes: int) -> dict[int, Tensor]:
    """Return training pictures of the first classes, ``(B, C, H, W)`` by labels, in the order of these.

    Args:
        trainer: Of the run.
        count: How many pictures of a class are taken at most. If the data module does not know its parts, they are
            those among the first 5,000 of all.
        n_classes: How many classes there are at most.
    """
    data: Any = getattr(trainer, "datamodule", None)
    batches: Iterable[tuple[Tensor, Tensor | None]]
    if (splits := getattr(data, "splits", None)) is not None:
        order = _order(len(splits.train))
        labels = splits.train.labels[order]
        classes = labels.unique().tolist()[:n_classes]
        places = torch.cat([order[labels == label][:count] for label in classes])
        batches = _prepared(data, _in_batches(splits.train, places))
    else:
        batches = read_batches(trainer, "train")
    found: dict[int, list[Tensor]] = defaultdict(list)
    n_read = 0
    for pictures, classes_of in batches:
        if classes_of is None:
            return {}
        for picture, label in zip(pictures, classes_of.tolist(), strict=True):
            if len(found[label]) < count:
                # Not a view, by which the whole batch would stay.
                found[label].append(picture.cpu().clone())
        n_read += len(pictures)
        if splits is None and n_read >= _MOST_READ:
            break
    return {label: torch.stack(found[label]) for label in sorted(found)[:n_classes]}


def names_of(trainer: pl.Trainer, labels: Tensor) -> list[str]:
    """Return the names of classes ``(B,)``, or their numbers where the data module has no names."""
    names = read_class_names(getattr(trainer, "datamodule", None))
    return [names[label] if 0 <= label < len(names) else str(label) for label in labels.tolist()]


def _order(count: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


def _in_batches(images: Any, places: Tensor) -> Iterator[Any]:
    return (images[part] for part in torch.split(places, BATCH))


def _prepared(data: Any, batches: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor | None]]:
    for batch in batches:
        if data is not None:
            batch = data.on_after_batch_transfer(batch, 0)
        pictures, labels = (
            (batch, None) if isinstance(batch, Tensor) else (batch[0], batch[1] if len(batch) > 1 else None)
        )
        is_class = isinstance(labels, Tensor) and labels.ndim == 1 and not labels.is_floating_point()
        yield pictures, labels if is_class else None


@contextmanager
def _borrowed(loader: Any) -> Iterator[Any]:
    """Lend a loader: one with workers of its own, whose generators are afterwards as they were before."""
    if not isinstance(loader, DataLoader):
        yield loader
        return
    # With persistent workers a loader has a single iterator, which training may be in the midst of.
    borrowed = copy.copy(loader)
    borrowed._iterator = None
    samplers = [loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
    generators = {getattr(each, "generator", None) for each in (loader, *samplers)}
    states = {each: each.get_state() for each in generators if isinstance(each, torch.Generator)}
    try:
        yield borrowed
    finally:
        for generator, state in states.items():
            generator.set_state(state)
