"""Folders with a subfolder of images for each class."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fvlightning.errors import InputError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class LabelledFiles:
    """Files of one part of a set, in the order of their classes and names.

    Attributes:
        paths: The files; whether they are images is not known yet.
        labels: The class of each.
    """

    paths: list[Path]
    labels: list[int]

    def subset(self, indices: Sequence[int]) -> "LabelledFiles":
        """Return the files at `indices`, in that order."""
        return LabelledFiles([self.paths[index] for index in indices], [self.labels[index] for index in indices])


def find_parts(folder: Path) -> dict[str, Path]:
    """Return the folders of the parts that a folder has: `train`, and perhaps `val` and `test`.

    A folder that has no `train` is itself the folder of the training images.

    Raises:
        InputError: If the folder is missing, or has `val` or `test` but no `train`.
    """
    if not folder.is_dir():
        what = "is a file, no folder" if folder.exists() else "does not exist"
        raise InputError(f"data_dir {what}: {folder}. Give a folder with a subfolder of images for each class.")
    parts = {part: folder / part for part in PARTS if (folder / part).is_dir()}
    if not parts:
        return {"train": folder}
    if "train" not in parts:
        raise InputError(f"{folder} has {' and '.join(parts)} but no train: put the training images in {folder}/train.")
    return parts


def find_classes(folder: Path) -> tuple[str, ...]:
    """Return the names of the subfolders, sorted; hidden ones do not count.

    Raises:
        InputError: If there is none.
    """
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not _is_hidden(entry.name)))
    if not classes:
        raise InputError(
            f"{folder} has no classes: images are expected in {folder}/CLASS/, a subfolder for each class "
            "(one of any name where classes do not matter)."
        )
    return classes


def list_files(folder: Path, class_names: Sequence[str]) -> LabelledFiles:
    """List the files in the classes' folders and in the folders below these; hidden files do not count.

    A class of `class_names` that the folder does not have gives no files.

    Raises:
        InputError: If the folder has classes that are not among `class_names`.
    """
    found = find_classes(folder)
    if unknown := sorted(set(found) - set(class_names)):
        raise InputError(
            f"{folder} has {_classes(unknown)}, which the training images do not have; their classes: "
            f"{', '.join(class_names)}. Rename or remove {'it' if len(unknown) == 1 else 'them'}."
        )
    paths, labels = [], []
    for label, name in enumerate(class_names):
        if name in found:
            files = _files_below(folder / name)
            paths += files
            labels += [label] * len(files)
    return LabelledFiles(paths, labels)


def require_images(folder: Path, class_names: Sequence[str], labels: Sequence[int]) -> None:
    """Refuse classes without images.

    Args:
        folder: Where the classes' folders are.
        class_names: Names of the classes.
        labels: The class of each image that there is.

    Raises:
        InputError: If a class has none.
    """
    if empty := [name for name in class_names if name not in {class_names[label] for label in set(labels)}]:
        raise InputError(
            f"no image of {_classes(empty)} can be read in {folder}: add images there, or remove the "
            f"{'folder' if len(empty) == 1 else 'folders'}."
        )


def _files_below(folder: Path) -> list[Path]:
    files = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        files += [Path(parent, name) for name in sorted(names) if not _is_hidden(name)]
    return files


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _classes(names: Sequence[str]) -> str:
    listed = ", ".join(repr(name) for name in names[:10])
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{'class' if len(names) == 1 else 'classes'} {listed}{more}"
