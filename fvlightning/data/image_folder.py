"""A user's own images."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import filterfalse
from pathlib import Path
from typing import Any

from typing_extensions import override

from fvlightning.data.encoded import EncodedDataModule, readable_names
from fvlightning.data.file_images import EncodedImages, FileImages, LabelledFile
from fvlightning.errors import InputError, some_of
from fvlightning.io import UnreadableImageError


class ImageFolderDataModule(EncodedDataModule):
    """Images in a folder with a subfolder for each class, of any size, in any format that Pillow reads.

    The folder has ``train/CLASS/*``, and may have ``val/CLASS/*`` and ``test/CLASS/*``; a missing part is held out of
    the training images, stratified and seeded. Or it has ``CLASS/*`` only, and both parts are held out. Classes
    whose folders have the names of ImageNet's, ``train/n02099601``, have readable names, "golden retriever".

    Args:
        data_dir: The folder.
        **settings: See `EncodedDataModule`.
    """

    def __init__(self, data_dir: str | Path, **settings: Any) -> None:
        super().__init__(**settings)
        self.data_dir = self.place = Path(data_dir)
        # Models ask for the names before the images are read; `read` reports problems with the folder.
        with suppress(InputError, OSError):
            self.class_names = readable_names(_find_classes(_find_parts(self.data_dir)["train"]))

    @override
    def find(self) -> tuple[dict[str, EncodedImages], tuple[str, ...]]:
        folders = _find_parts(self.data_dir)
        class_names = _find_classes(folders["train"])
        return {part: FileImages(_list_files(folder, class_names)) for part, folder in folders.items()}, class_names

    @override
    def require_classes(
        self, labels: set[int], class_names: Sequence[str], errors: Sequence[UnreadableImageError]
    ) -> None:
        """Raise `InputError` if the folder of a class has no image, and name the first of its files with an error."""
        if empty := [name for label, name in enumerate(class_names) if label not in labels]:
            folder = _find_parts(self.data_dir)["train"]
            reasons = [f" ({one.path}: {one.reason})" for one in errors if folder / empty[0] in Path(one.path).parents]
            raise InputError(
                f"no image of {_some(empty)} can be read in {folder}{''.join(reasons[:1])}; add images there, or "
                "remove their folders"
            )


def _find_parts(folder: Path) -> dict[str, Path]:
    """Return the folders of a set's parts; a folder without parts has the training images itself."""
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise InputError(f"data_dir {problem}: {folder}; give a folder with a subfolder of images for each class")
    parts = {part: folder / part for part in ("train", "val", "test") if (folder / part).is_dir()}
    if not parts:
        if len(_find_classes(folder)) == 1 and (train := next(_find_train(folder), None)) is not None:
            raise InputError(f"{folder} has one folder alone, and in it a set of images: give data_dir {train.parent}")
        return {"train": folder}
    if "train" not in parts:
        raise InputError(f"{folder} has {' and '.join(parts)} but no train; put the training images in {folder}/train")
    return parts


def _find_train(folder: Path) -> Iterator[Path]:
    """Yield the folders ``train`` below a folder, as deep as in ImageNet's own archive, ILSVRC/Data/CLS-LOC/train."""
    return (path for depth in range(1, 4) for path in folder.glob("*/" * depth + "train") if path.is_dir())


def _find_classes(folder: Path, known: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the names of the subfolders that are not hidden, sorted; `known` are those of the training images."""
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not _is_hidden(entry.name)))
    if not classes:
        names = f"the training images have {some_of(known)}" if known else "one of any name if classes do not matter"
        raise InputError(
            f"{folder} has no classes; put images in {folder}/CLASS/, a subfolder for each class ({names})"
        )
    return classes


def _list_files(folder: Path, class_names: Sequence[str]) -> list[LabelledFile]:
    """List the files in and below the folders of classes, by class and name, without hidden files."""
    if unknown := sorted(set(_find_classes(folder, class_names)) - set(class_names)):
        raise InputError(
            f"{folder} has classes that the training images do not have: {_some(unknown)}; their classes: "
            f"{some_of(class_names)}; rename or remove the folders"
        )
    files = []
    for label, name in enumerate(class_names):
        for parent, subfolders, file_names in os.walk(folder / name, followlinks=True):
            subfolders[:] = sorted(filterfalse(_is_hidden, subfolders))
            files += [LabelledFile(Path(parent, file), label) for file in sorted(filterfalse(_is_hidden, file_names))]
    return files


def _some(class_names: Sequence[str]) -> str:
    more = f" and {len(class_names) - 10} more" if len(class_names) > 10 else ""
    return ", ".join(map(repr, class_names[:10])) + more


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
