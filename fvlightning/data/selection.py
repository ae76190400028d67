"""A fixed selection of the pictures of a set, read in shares and again by their places."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fvlightning.data.reading import PictureBatch, index_pictures, read_pictures
from fvlightning.errors import InputError
from fvlightning.io import UnreadableImageError


class PictureSelection:
    """Pictures of a set in the order of their places: all, or a random sample that is the same each time.

    Sets that cannot be read picture by picture (iterable datasets, datasets of batches, several loaders) are read from
    their beginning each time; a place is then the number of the picture, and a sample is the first pictures.

    Args:
        source: See `read_pictures`.
        part: See `read_pictures`.
        image_shape: ``(C, H, W)``. See `read_pictures`.
        crop_pct: See `read_pictures`.
        limit: The size of the sample. Default: all pictures.
        device: Where the pictures go. Default: the CPU.

    Raises:
        InputError: There are no pictures.

    Attributes:
        image_shape: ``(C, H, W)`` of the pictures.
        n_pictures: The number of pictures, None if it is not known.
        files: The file of each place, relative to the folder of a folder; None where pictures have no files.
    """

    def __init__(
        self,
        source: Any,
        part: str | None = None,
        *,
        image_shape: Sequence[int],
        crop_pct: float = 1.0,
        limit: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self._limit = limit
        self.image_shape = tuple(image_shape)
        self._settings: dict[str, Any] = {
            "part": part,
            "image_shape": image_shape,
            "crop_pct": crop_pct,
            "device": device,
        }
        index = index_pictures(source, part)
        paths = None if index is None else index.files
        is_folder = isinstance(source, str | Path)
        # Listing a large folder each time would take longer than reading a few of its files.
        self._source = paths if is_folder else source
        self._places: Tensor | None = None
        if index is not None:
            order = torch.randperm(len(index.places), generator=torch.Generator().manual_seed(0))
            self._places = index.places[order[:limit].sort().values]
        self.files: list[str] | None = None
        if paths is not None:
            self.files = [str(path.relative_to(source) if is_folder else path) for path in paths]
        self.n_pictures = None if self._places is None else len(self._places)

    def share(
        self,
        rank: int = 0,
        world_size: int = 1,
        after: int = -1,
        on_unreadable: Callable[[UnreadableImageError], object] | None = None,
    ) -> Iterator[PictureBatch]:
        """Yield a rank's pictures at places greater than `after`, in order; each picture has exactly one rank.

        For `on_unreadable` see `read_pictures`.
        """
        if self._places is not None:
            places = self._places[rank::world_size]
            yield from self._read(places[places > after], on_unreadable)
        else:
            yield from self._numbered(lambda numbers: (numbers % world_size == rank) & (numbers > after))

    def at(self, places: Tensor) -> Iterator[PictureBatch]:
        """Yield the pictures at some places of the selection, int64 ``(N,)``, in order."""
        if self._places is not None:
            yield from self._read(places)
        else:
            yield from self._numbered(lambda numbers: torch.isin(numbers, places))

    def _read(
        self, places: Tensor, on_unreadable: Callable[[UnreadableImageError], object] | None = None
    ) -> Iterator[PictureBatch]:
        if not len(places):
            return
        for batch in read_pictures(self._source, places=places, on_unreadable=on_unreadable, **self._settings):
            if bool((batch.indices < 0).any()):
                name = type(self._source).__name__
                raise InputError(
                    f"{name} leaves images out of its batches, so their places are not known; read them without that"
                )
            yield batch

    def _numbered(self, is_chosen: Callable[[Tensor], Tensor]) -> Iterator[PictureBatch]:
        n_read = 0
        for pictures, labels, _ in read_pictures(self._source, limit=self._limit, **self._settings):
            numbers = torch.arange(n_read, n_read + len(pictures))
            n_read += len(pictures)
            chosen = is_chosen(numbers)
            if bool(chosen.any()):
                yield PictureBatch(pictures[chosen], None if labels is None else labels[chosen], numbers[chosen])
