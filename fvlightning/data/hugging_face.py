"""Sets of the Hugging Face hub, parquet files and WebDataset shards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import override

from fvlightning.data._hub import DataFiles, HubSource
from fvlightning.data._rows import RowImages, find_column, read_labels
from fvlightning.data.encoded import EncodedDataModule, readable_names
from fvlightning.data.file_images import EncodedImages
from fvlightning.errors import InputError, some_of
from fvlightning.io import UnreadableImageError


class HuggingFaceDataModule(EncodedDataModule):
    """Images that the library `datasets` reads: sets of the Hugging Face hub, parquet files, WebDataset tar shards.

    In the first run the library writes a copy of the set, as large as the set itself, to its cache; single images are
    read from there. Nothing is streamed, and no code of a set is run. Parts called ``validation`` or ``val``, and
    ``test``, are used; a part that is missing or has no labels is held out of the training images, stratified and
    seeded. ImageNet's classes have readable names, "golden retriever".

    Needs the extra ``hub``.

    Args:
        path: A set of the hub, such as ``ILSVRC/imagenet-1k``; a folder with a copy of its files; or the format of your
            own files, ``parquet``, ``webdataset`` or ``arrow``.
        name: Which of several configurations of a set is read.
        data_dir: The folder of your own files, if `path` is a format; the names of files or folders hold ``train``,
            ``validation`` (or ``val``) and ``test``. Not used for other paths: a config may name other data's folder.
        data_files: Which files are read: a pattern, a list, or patterns by part,
            ``{train: a/*.tar, validation: b/*.tar}``. Default: all.
        cache_dir: Where the copy goes. Default: ``~/.cache/huggingface/datasets``.
        revision: Version of a set of the hub: a tag, a branch or a commit.
        image_column: Column of the images. Default: the only one of images.
        label_column: Column of the classes, which may be numbers or names. Default: the only one that is known to have
            classes, or one of integers that is called ``cls`` or ``label``.
        **settings: See `EncodedDataModule`.

    Raises:
        InputError: The set cannot be read, or has no such columns; `datasets` is not installed.
    """

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        data_dir: str | Path | None = None,
        data_files: DataFiles | None = None,
        cache_dir: str | Path | None = None,
        revision: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._class_names: tuple[str, ...] | None = None
        self._source = HubSource(path, data_dir, data_files, name=name, cache_dir=cache_dir, revision=revision)
        self.path = path
        self.name = name
        self.place = self._source.place
        self.revision = revision
        self.image_column = image_column
        self.label_column = label_column

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, in the order of the labels; read from the set when they are first asked for."""
        if self._class_names is None:
            # For some formats the column types are known only once everything has been read.
            features = self._source.features() or self._source.tables()["train"].features
            names = getattr(features[find_column(features, "label", self.label_column, self.place)], "names", None)
            self._class_names = readable_names(self.find()[1] if names is None else names)
        return self._class_names

    @class_names.setter
    def class_names(self, names: tuple[str, ...]) -> None:
        self._class_names = names

    @override
    def prepare_data(self) -> None:
        """Download the set if it is one of the hub, and make its copy, unless there is one."""
        self._source.tables()

    @override
    def find(self) -> tuple[dict[str, EncodedImages], tuple[str, ...]]:
        tables = self._source.tables()
        features = tables["train"].features
        image_column = find_column(features, "image", self.image_column, self.place)
        label_column = find_column(features, "label", self.label_column, self.place)
        labels, class_names = read_labels(tables, label_column, self.place)
        known = set(labels["train"].tolist())
        images: dict[str, EncodedImages] = {}
        for part, table in tables.items():
            n_unlabelled = int((labels[part] < 0).sum())
            if n_unlabelled == len(table) and part != "train":
                rank_zero_warn(f"the {part} images of {self.place} have no labels and are left out", stacklevel=2)
                continue
            if n_unlabelled:
                raise InputError(
                    f"{n_unlabelled} of {len(table)} {part} images of {self.place} have no label in {label_column}; "
                    "remove them, or set label_column to another column"
                )
            if unknown := sorted(set(labels[part].tolist()) - known):
                raise InputError(
                    f"{self.place} has {part} images of classes that the training images do not have: "
                    f"{some_of([repr(class_names[label]) for label in unknown])}; remove them, or set data_files "
                    "without them"
                )
            images[part] = RowImages(table, image_column, labels[part])
        return images, class_names

    @override
    def require_classes(
        self, labels: set[int], class_names: Sequence[str], errors: Sequence[UnreadableImageError]
    ) -> None:
        """Raise `InputError` if no training image can be read. Names without an image are kept: their labels count."""
        if not labels:
            reason = f" ({errors[0].path}: {errors[0].reason})" if errors else ""
            raise InputError(f"no training image of {self.place} can be read{reason}; see that the images are whole")
