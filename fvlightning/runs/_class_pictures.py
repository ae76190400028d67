"""Pictures and natural images of classes, as judges get them."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from fvlightning.analysis import ClassLabel, Judge
from fvlightning.data import read_pictures
from fvlightning.errors import InputError, some_of
from fvlightning.io import digest_of_weights, list_image_files
from fvlightning.networks import imagenet_ids
from fvlightning.output import Record, from_pixels, read_manifest, read_pixels
from fvlightning.protocols import read_class_names, read_crop_pct

NATURAL = "natural images"
TRANSFORMS, NONE = "transforms", "none"


@dataclass(frozen=True)
class ClassPicture:
    """A picture ``(C, H, W)`` in [0, 1] of a class; see `JudgedPicture`. The text `views` seeds its random views."""

    source: str
    mode: str
    file: str
    label: ClassLabel
    picture: Tensor
    views: str


def made_pictures(folder: Path, records: Iterable[Record], judge: Judge | None, source: str) -> Iterator[ClassPicture]:
    """Yield the pictures of classes among the records of a folder.

    Units are classes if their names are known, or if they are those of the judge's last layer.

    Args:
        folder: The folder that `visualize` has written.
        records: Its records, or some of them.
        judge: The model that the pictures were made for, if it is among the judges.
        source: The name of that model.
    """
    for record in records:
        layer, _, index = record.unit.rpartition(":")
        is_class = record.class_name is not None or (judge is not None and layer == str(judge.layer))
        is_picture = record.status != "non-finite" and record.limit is None
        if not (is_class and is_picture and index.isdigit() and not layer.startswith("-")):
            continue
        label = ClassLabel(int(index), record.class_name, None) if judge is None else judge.label(int(index))
        mode = TRANSFORMS if record.settings["transforms"] else NONE
        picture = from_pixels(read_pixels(folder / record.file), record.image_shape[0])
        views = f"{source}/{mode}/{record.unit}/{record.repeat}"
        yield ClassPicture(source, mode, str(folder / record.file), label, picture, views)


def read_folders(
    folders: Sequence[str], judges: Sequence[Judge], labels: Sequence[ClassLabel]
) -> Iterator[ClassPicture]:
    """Yield the pictures of classes in folders that `visualize` has written.

    Those of a network among the judges have the judge's name as their source, others that of the model in their
    records. They are labelled with the classes of the first judge.

    Args:
        folders: The folders.
        judges: The judges.
        labels: Classes of the first judge; pictures of others are left out. Empty for all.

    Raises:
        InputError: A folder has no records or no pictures of the classes, or two models have the same name.
    """
    judges_by_weights = {digest_of_weights(judge.network): judge for judge in judges}
    weights = {judge.name: digest for digest, judge in judges_by_weights.items()}
    for folder in map(Path, folders):
        n_pictures = 0
        for record in read_manifest(folder):
            judge = judges_by_weights.get(record.weights)
            source = record.model if judge is None else judge.name
            if weights.setdefault(source, record.weights) != record.weights:
                raise InputError(f"the pictures in '{folder}' are of another {source!r}; name both under models")
            for picture in made_pictures(folder, [record], judge, source):
                try:
                    label = judges[0].label(judges[0].index_of(picture.label))
                except InputError:
                    if labels:
                        continue  # not one of them
                    raise
                if not labels or label in labels:
                    n_pictures += 1
                    yield replace(picture, label=label)
        if not n_pictures:
            raise InputError(
                f"no pictures of the classes in '{folder}'; make some of the last layer with --data or a model that "
                "has class_names, or give their model under models"
            )


def natural_pictures(
    source: str | pl.LightningDataModule, judges: Sequence[Judge], labels: Sequence[ClassLabel], n_images: int
) -> Iterator[ClassPicture]:
    """Yield natural images of classes, at most `n_images` of each.

    The images of a folder are read once, cropped to the `crop_pct` of the judge with the largest pictures: all judges
    get the same views.

    Args:
        source: Data with labels, or a folder with a subfolder for each class, of its name, index or WordNet id. Classes
            without a subfolder are left out.
        judges: The judges.
        labels: Classes of the first judge.
        n_images: The most images of a class.

    Raises:
        InputError: There are no images of the classes, or the data have no labels or other classes.
    """
    if isinstance(source, pl.LightningDataModule):
        yield from _of_data(source, labels, n_images)
        return
    root, ids = Path(source), imagenet_ids(judges[0].class_names)
    if not root.is_dir():
        raise InputError(f"no folder '{root}'; give one with a subfolder of images for each class")
    names = {label: [*filter(None, (label.name, str(label.index), *ids[label.index :][:1]))] for label in labels}
    folders = {label: _first_folder(root, names[label]) for label in labels}
    missing = [label for label, folder in folders.items() if folder is None]
    if len(missing) == len(labels):
        valid = " or ".join(map(repr, names[missing[0]]))
        raise InputError(
            f"'{root}' has no folder of a class: {some_of(missing)}; name folders of classes as in {valid}"
        )
    if missing:
        classes = "1 class" if len(missing) == 1 else f"{len(missing)} classes"
        rank_zero_info(f"No natural images of {classes}: {some_of(missing)}")
    largest = max(judges, key=lambda judge: math.prod(judge.image_shape))
    crop_pct = read_crop_pct(largest.network)
    for label, folder in folders.items():
        if folder is not None:
            files = list_image_files(folder)
            for batch in read_pictures(files, image_shape=largest.image_shape, crop_pct=crop_pct, limit=n_images):
                for place, picture in zip(batch.indices.tolist(), batch.pictures, strict=True):
                    file = files[place]
                    yield _natural(str(file), label, picture, views=str(file.relative_to(root)))


def _of_data(data: pl.LightningDataModule, labels: Sequence[ClassLabel], n_images: int) -> Iterator[ClassPicture]:
    left: Counter[int] = Counter()
    labels_of_data: dict[int, ClassLabel] = {}
    n_read = 0
    for batch in read_pictures(data):
        if batch.labels is None:
            raise InputError(f"{type(data).__name__} has no labels; leave --data out, or give data with labels")
        if not labels_of_data:  # the names may be known only when the data are set up
            names, n_classes = read_class_names(data), getattr(data, "num_classes", None)
            owner = type(data).__name__
            labels_of_data = {label.index_among(names, n_classes, owner): label for label in labels}
            left = Counter(dict.fromkeys(labels_of_data, n_images))
        for row, index in enumerate(batch.labels.tolist()):
            if left[index] > 0:
                left[index] -= 1
                place = str(n_read + row)
                yield _natural(place, labels_of_data[index], batch.pictures[row], views=place)
        n_read += len(batch.labels)
        if not any(left.values()):
            return


def _natural(file: str, label: ClassLabel, picture: Tensor, *, views: str) -> ClassPicture:
    return ClassPicture(NATURAL, "", file, label, picture, f"{NATURAL}/{views}")


def _first_folder(root: Path, names: Iterable[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)
