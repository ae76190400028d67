"""Read the pictures of any data module, loader or folder."""

import copy
import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import move_data_to_device
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from fvlightning.data._augment import DrawnImages
from fvlightning.data.file_images import report_unreadable
from fvlightning.data.tensors import ImageSet
from fvlightning.errors import InputError
from fvlightning.io import UnreadableImageError, fit_picture, list_image_files, read_image, to_tensor

# The parts that are tried in turn for the part that is asked for, and the stages that set a part up.
_TRIED = {None: ("test", "val", "train"), "test": ("test",), "val": ("val", "train"), "train": ("train",)}
_STAGES = {"test": ("test",), "val": ("validate", "fit"), "train": ("fit",)}
_BATCH_SIZE = 64  # for batch samplers without this attribute
_VALUES_AT_ONCE = 2**21  # of pictures from files: 13 of 224 x 224 pixels
_MOST_FILES_AT_ONCE = 128


class PictureIndex(NamedTuple):
    """The pictures of a set, each of which can be read on its own by `read_pictures`.

    Attributes:
        places: Places of the pictures, in order, int64 ``(N,)``.
        files: The file of each place, from 0 on; None where pictures have no files.
    """

    places: Tensor
    files: Sequence[Path] | None


class PictureBatch(NamedTuple):
    """Pictures of a set.

    Attributes:
        pictures: float32 ``(B, C, H, W)`` in [0, 1].
        labels: Class indices, int64 ``(B,)``; None if there are no labels, or labels of another kind.
        indices: Places in the loader's dataset or in the sorted folder, int64 ``(B,)``; -1 where they are not known:
            with iterable datasets, datasets of batches, and collate functions that leave images out.
    """

    pictures: Tensor
    labels: Tensor | None
    indices: Tensor


def read_pictures(
    source: Any,
    part: str | None = None,
    *,
    image_shape: Sequence[int] | None = None,
    crop_pct: float = 1.0,
    limit: int | None = None,
    seed: int | None = None,
    places: Tensor | None = None,
    device: torch.device | str | None = None,
    on_unreadable: Callable[[UnreadableImageError], object] | None = None,
) -> Iterator[PictureBatch]:
    """Yield the pictures of a set, each once, in order; this project's data modules do not augment them.

    Training does not notice: copies of loaders are read. A data module is prepared and set up unless its trainer has
    done so, and its hooks around the transfer to the device are applied.

    Args:
        source: A data module, a `DataLoader`, a list of loaders, a folder of image files with its subfolders, or a list
            of image files.
        part: ``train``, ``test`` or ``val`` of a data module; without ``val``, ``train`` is read. Default: the first of
            ``test``, ``val`` and ``train`` that has images.
        image_shape: ``(C, H, W)``. The pictures of data must have it; those of files are brought to it.
        crop_pct: How much of the sides of an image file is read, around its middle, in (0, 1].
        limit: Most pictures, at least 1.
        seed: Seed of a random order. Default: the order of the dataset, which iterable datasets and datasets of batches
            always keep.
        places: Which pictures are read, int64 ``(N,)``, some of those of `index_pictures`; they come in this order.
        device: Where the pictures go. Default: the CPU.
        on_unreadable: Called for each file of a folder or list that cannot be read, in place of the warning and error.

    Raises:
        InputError: There are no pictures that can be read, or they have another shape or values outside [0, 1]. Single
            files that cannot be read are left out, with one warning that names them.
    """
    if limit is not None and limit < 1:
        raise InputError(f"read_pictures(limit={limit}): must be at least 1")
    if part not in _TRIED:
        raise InputError(f"read_pictures(part={part!r}): must be 'train', 'val', 'test' or None")
    device = torch.device(device or "cpu")
    if not _names_files(source):
        loaders = _loaders_by_part(source, part)
        return _read_parts(source, loaders, device, image_shape, limit=limit, seed=seed, places=places)
    files = list_image_files(source) if isinstance(source, str | Path) else [Path(file) for file in source]
    if places is None:
        places = _order(len(files), seed)
    if image_shape is None or len(image_shape) != 3 or image_shape[0] not in (1, 3) or min(image_shape) < 1:
        shape = image_shape and list(image_shape)
        raise InputError(f"image_shape={shape}: must be [C, H, W] with 1 or 3 channels, for example [3, 224, 224]")
    return _read_files(files, places, image_shape, crop_pct, limit=limit, device=device, on_unreadable=on_unreadable)


def index_pictures(source: Any, part: str | None = None) -> PictureIndex | None:
    """Return what can be read picture by picture, or None: of iterable datasets, datasets of batches, several loaders.

    See `read_pictures` for the arguments.

    Raises:
        InputError: There are no images.
    """
    if isinstance(source, str | Path):
        files = list_image_files(source)
        return PictureIndex(torch.arange(len(files)), files)
    for loaders in _loaders_by_part(source, part):
        if isinstance(loaders, list | tuple) and len(loaders) != 1:
            if loaders:
                return None
            continue
        loader = loaders[0] if isinstance(loaders, list | tuple) else loaders
        places = _places(loader)
        if places is None or len(places):
            images = _image_set(loader)
            return None if places is None else PictureIndex(places, None if images is None else images.paths)
    raise AssertionError("_loaders_by_part ends with an error")


def pictures_by_class(source: Any, count: int, n_classes: int) -> dict[int, Tensor]:
    """Return training pictures of the first classes by their labels, ``(B, C, H, W)`` on the CPU.

    There are at most `n_classes` classes, none if there are no labels, and at most `count` pictures of a class, drawn
    at random, the same at each call. Where labels are not known before the images are read, 5,000 images are drawn.
    """
    loader = next(_loaders_by_part(source, "train"))
    images = _image_set(loader)
    if images is None:
        batches = read_pictures(source, "train", limit=5000, seed=0)
    else:
        order = _order(len(images), seed=0)
        labels = images.labels[order]
        places = torch.cat([order[labels == label][:count] for label in torch.unique(labels)[:n_classes]])
        batches = _read_parts(source, [_copy(loader, dataset=images.subset(places))], torch.device("cpu"))
    pictures: dict[int, list[Tensor]] = defaultdict(list)
    for batch in batches:
        if batch.labels is None:
            return {}
        for picture, label in zip(batch.pictures, batch.labels.tolist(), strict=True):
            if len(pictures[label]) < count:
                pictures[label].append(picture.clone())  # a view would keep the whole batch in memory
    return {label: torch.stack(pictures[label]) for label in sorted(pictures)[:n_classes]}


def _names_files(source: Any) -> bool:
    names = source if isinstance(source, list) and source else [source]
    return all(isinstance(name, str | Path) for name in names)


def _read_files(
    files: Sequence[Path],
    places: Tensor,
    image_shape: Sequence[int],
    crop_pct: float,
    *,
    limit: int | None,
    device: torch.device,
    on_unreadable: Callable[[UnreadableImageError], object] | None,
) -> Iterator[PictureBatch]:
    errors: list[UnreadableImageError] = []
    note = on_unreadable or errors.append

    def read_each() -> Iterator[tuple[Tensor, int]]:
        for index in places.tolist():
            try:
                # Pillow warns of odd metadata, which does not change the picture.
                with warnings.catch_warnings(action="ignore"):
                    image = read_image(files[index])
            except UnreadableImageError as error:
                note(error)
            else:
                yield fit_picture(to_tensor(image) / 255, image_shape, crop_pct), index

    readable = islice(read_each(), limit)
    n_at_once = max(1, min(_VALUES_AT_ONCE // math.prod(image_shape), _MOST_FILES_AT_ONCE))
    while chunk := list(islice(readable, n_at_once)):
        pictures, indices = zip(*chunk, strict=True)
        yield PictureBatch(torch.stack(pictures).to(device), None, torch.tensor(indices))
    if errors and len(errors) == len(places):
        raise InputError(f"not one of {len(places)} images can be read; the last: {errors[-1]}") from errors[-1]
    report_unreadable(errors, len(places))


def _loaders_by_part(source: Any, part: str | None) -> Iterator[Any]:
    """Yield the loader or loaders of each part that may have the pictures, in turn; then raise `InputError`."""
    if not isinstance(source, pl.LightningDataModule):
        yield source
        raise InputError(f"{_name(source)} has no images")
    stage = source.trainer.state.fn if source.trainer is not None else None
    if stage is None:
        source.prepare_data()
    for tried in _TRIED[part]:
        if is_overridden(f"{tried}_dataloader", source, pl.LightningDataModule):
            if stage not in _STAGES[tried]:
                source.setup(_STAGES[tried][0])
            yield getattr(source, f"{tried}_dataloader")()
    raise InputError(f"{_name(source)} has no images for {' or '.join(_TRIED[part])}")


def _read_parts(
    source: Any,
    parts: Iterable[Any],
    device: torch.device,
    image_shape: Sequence[int] | None = None,
    *,
    limit: int | None = None,
    seed: int | None = None,
    places: Tensor | None = None,
) -> Iterator[PictureBatch]:
    """Yield the pictures of the first part, a loader or a list of loaders, that has any."""
    for loaders in parts:
        n_read = 0
        listed = loaders if isinstance(loaders, list | tuple) else [] if loaders is None else [loaders]
        for number, loader in enumerate(listed):
            for batch, indices in _in_order(loader, limit, seed, places):
                batch = _transfer(batch, source, device, number)
                pictures, labels = _pictures_and_labels(batch, image_shape, _name(source))
                if indices is None or len(indices) != len(pictures):
                    indices = torch.full((len(pictures),), -1)
                left = None if limit is None else limit - n_read
                yield PictureBatch(pictures[:left], None if labels is None else labels[:left], indices[:left])
                n_read += len(pictures)
                if limit is not None and n_read >= limit:
                    return
        if n_read:
            return


def _transfer(batch: Any, source: Any, device: torch.device, number: int) -> Any:
    """Move a batch of the loader with this number to the device, with the hooks of `source` if it has any."""
    if not isinstance(source, pl.LightningDataModule):
        return move_data_to_device(batch, device)
    batch = source.on_before_batch_transfer(batch, number)
    batch = source.transfer_batch_to_device(batch, device, number)
    return source.on_after_batch_transfer(batch, number)


def _pictures_and_labels(batch: Any, image_shape: Sequence[int] | None, name: str) -> tuple[Tensor, Tensor | None]:
    pictures, *others = batch if isinstance(batch, list | tuple) and batch else [batch]
    is_batch = isinstance(pictures, Tensor) and pictures.ndim == 4
    if not is_batch or (image_shape is not None and tuple(pictures.shape[1:]) != tuple(image_shape)):
        shape = tuple(pictures.shape[1:]) if isinstance(pictures, Tensor) else type(pictures).__name__
        valid = "(C, H, W)" if image_shape is None else tuple(image_shape)
        raise InputError(f"{name} has images of shape {shape}, not {valid}; give other data")
    # Not `min() < 0 or max() > 1`, which lets NaN pass.
    if not bool(((pictures >= 0) & (pictures <= 1)).all()):
        raise InputError(f"{name} has images with values outside [0, 1]; leave normalisation to the model")
    labels = others[0] if others else None
    if not isinstance(labels, Tensor) or labels.shape != pictures.shape[:1] or labels.is_floating_point():
        return pictures.float(), None
    return pictures.float(), labels.long()


def _places(loader: Any) -> Tensor | None:
    """Return the places of the images that a loader gives one by one, in order, or None for other loaders."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    if loader.batch_sampler is None and not hasattr(loader.sampler, "batch_size"):
        return None
    sampler = getattr(
        loader.sampler if loader.batch_sampler is None else loader.batch_sampler, "sampler", loader.sampler
    )
    places = getattr(sampler, "indices", torch.arange(len(loader.dataset)))  # type: ignore[arg-type]
    return torch.as_tensor(places).sort().values  # of a `SubsetRandomSampler`, or all


def _in_order(
    loader: Any, limit: int | None, seed: int | None, places: Tensor | None = None
) -> Iterable[tuple[Any, Tensor | None]]:
    """Return the batches of a copy of a loader, of at most `limit` images, with their places if these are known."""
    if not isinstance(loader, DataLoader):
        return zip(loader, repeat(None))
    dataset: Any = loader.dataset
    if isinstance(dataset, IterableDataset):
        return zip(_copy(loader, drop_last=False), repeat(None))
    kind = "sampler" if loader.batch_sampler is None else "batch_sampler"
    sampler = getattr(loader, kind)
    batch_size = getattr(sampler, "batch_size", None if kind == "sampler" else _BATCH_SIZE)
    if batch_size is None:
        return zip(_copy(loader, sampler=range(len(dataset))), repeat(None))
    if places is None:
        order = _places(loader)
        assert order is not None
        places = order[_order(len(order), seed)]
    if not len(places):
        return []
    parts = torch.split(places, batch_size if limit is None else min(batch_size, limit))
    images = _image_set(loader)
    if images is None:
        return zip(_copy(loader, **{kind: [part.tolist() for part in parts]}), parts, strict=True)
    loader = _copy(loader, dataset=parts, sampler=range(len(parts)), collate_fn=partial(_read_placed, images))
    return _copy(loader, num_workers=min(loader.num_workers, len(parts) - 1))  # one batch is not worth a process


def _read_placed(images: ImageSet, places: Tensor) -> tuple[list[Tensor], Tensor]:
    """Return images ``(B, C, H, W)``, labels ``(B,)``, and the places ``(B,)`` of the images that can be read."""
    pictures, is_read = images.read(places)
    return [pictures, images.labels[places[is_read]]], places[is_read]


def _copy(loader: DataLoader[Any], **changes: object) -> DataLoader[Any]:
    """Return a changed copy of a loader with its own iterator, workers and generator."""
    copied = copy.copy(loader)
    # Not by assignment, which a loader refuses.
    vars(copied).update({"persistent_workers": False, "pin_memory": False, "generator": torch.Generator()} | changes)
    return copied


def _image_set(loader: Any) -> ImageSet | None:
    """Return the set that a loader of this project reads in whole batches; None for other loaders."""
    dataset = getattr(loader, "dataset", None)
    images = dataset.images if isinstance(dataset, DrawnImages) else dataset
    return images if isinstance(images, ImageSet) and loader.batch_sampler is None else None


def _order(count: int, seed: int | None) -> Tensor:
    return torch.arange(count) if seed is None else torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def _name(source: object) -> str:
    return type(source.dataset if isinstance(source, DataLoader) else source).__name__
