"""Sets of images that are read in whole batches: image by image costs more than training a small network does."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler
from torch.utils.data.distributed import DistributedSampler
from typing_extensions import override

from fvlightning.errors import InputError


class ImageSet(Dataset[tuple[Tensor, Tensor]]):
    """Images of one size and their labels; a tensor of indices selects a whole batch."""

    labels: Tensor
    """Class indices, int64 ``(N,)``."""
    paths: Sequence[Path] | None = None
    """The files of the images, if they are from files of their own."""

    @abstractmethod
    def read(self, indices: Tensor, draws: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read images.

        Args:
            indices: int64 ``(B,)``.
            draws: Random numbers ``(B, N_DRAWS)`` for windows of training images. See `fvlightning.data._augment`.

        Returns:
            The images that can be read, uint8 ``(B', C, H, W)``, and whether each index could be read, bool ``(B,)``.
        """

    @abstractmethod
    def subset(self, indices: Tensor) -> Self:
        """Return the images at `indices`, int64 ``(M,)``, in that order."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images, uint8 ``(B, C, H, W)``, and labels ``(B,)`` at `indices`, int64 ``(B,)``."""
        images, is_read = self.read(indices)
        return images, self.labels[indices[is_read]]


class TensorImages(ImageSet):
    """Images and labels in memory; the tensors are not copied.

    Args:
        images: uint8 ``(N, C, H, W)``.
        labels: Class indices, int64 ``(N,)``.
        paths: The files that the images are from.
    """

    def __init__(self, images: Tensor, labels: Tensor, paths: Sequence[Path] | None = None) -> None:
        assert images.dtype == torch.uint8, f"images must be uint8, got {images.dtype}"
        assert images.ndim == 4, f"images must be (N, C, H, W), got {tuple(images.shape)}"
        assert labels.dtype == torch.int64, f"labels must be int64, got {labels.dtype}"
        assert labels.shape == images.shape[:1], f"{len(images)} images, labels of shape {tuple(labels.shape)}"
        self.images = images
        self.labels = labels
        self.paths = paths

    @override
    def read(self, indices: Tensor, draws: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.images[indices], torch.ones(len(indices), dtype=torch.bool)

    @override
    def __getitem__(self, index: int | slice | Tensor) -> tuple[Tensor, Tensor]:
        return self.images[index], self.labels[index]

    @override
    def subset(self, indices: Tensor) -> "TensorImages":
        paths = None if self.paths is None else [self.paths[index] for index in indices.tolist()]
        return TensorImages(self.images[indices], self.labels[indices], paths)


class _BatchSampler(DistributedSampler[Tensor]):
    """Yield one rank's indices, int64 ``(B,)`` a batch; Lightning calls `set_epoch`, and does not replace the sampler.

    `batch_size` is that of one rank; the other arguments are those of torch's `DistributedSampler`.
    """

    def __init__(self, dataset: ImageSet, batch_size: int, num_replicas: int = 1, rank: int = 0, seed: int = 0) -> None:
        super().__init__(dataset, num_replicas, rank, seed=seed)
        self.size = len(dataset)
        self.batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of batches, the same on every rank."""
        return -(-self.num_samples // self.batch_size)

    def _padded_part(self, order: Tensor) -> Tensor:
        """Return this rank's part of `order`, whose start is repeated until all ranks have equally many indices."""
        repeats = -(-self.total_size // max(len(order), 1))
        return order.repeat(repeats)[self.rank : self.total_size : self.num_replicas]


class ShuffledBatchSampler(_BatchSampler):
    """Yield one rank's indices for training, int64 ``(B,)`` a batch, in a new order every epoch.

    The order is that of torch's `DistributedSampler`, seeded by ``seed + epoch``. All ranks get equally many indices,
    since a rank with an additional step would wait for the others for ever; so a few indices come twice if the size of
    the set is not a multiple of `num_replicas`.
    """

    skipped = 0
    """Batches at the start of an epoch that are left out."""

    def __iter__(self) -> Iterator[Tensor]:
        order = torch.randperm(self.size, generator=self._epoch_generator())
        yield from torch.split(self._padded_part(order), self.batch_size)[self.skipped :]

    def _epoch_generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed + self.epoch)


class OrderedBatchSampler(_BatchSampler, SequentialSampler):
    """Yield one rank's indices for evaluation, int64 ``(B,)`` a batch, in order; the set must not be empty.

    Each index comes exactly once, so that metrics summed over the ranks are those of the set. All ranks have equally
    many batches, whose sizes differ by at most one. A few indices come twice only if a rank would otherwise have an
    empty batch.

    Lightning recognises a `SequentialSampler` as one that does not shuffle (`overfit_batches`).
    """

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore[override]  # `SequentialSampler` is one of int
        order = torch.arange(self.size)
        has_enough = self.size // self.num_replicas >= len(self)
        part = order[self.rank :: self.num_replicas] if has_enough else self._padded_part(order)
        yield from part.tensor_split(len(self))


class _ResumableLoader(DataLoader[Any]):
    """A loader with a state, by which Lightning goes on within an epoch: the number of batches that it has given."""

    _given = _skipped = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # As a generator it starts its workers with the first batch: only then does the sampler know the epoch.
        self._given, self._skipped = self._skipped, 0
        if isinstance(self.sampler, ShuffledBatchSampler):
            self.sampler.skipped = self._given
        try:
            for batch in super().__iter__():
                self._given += 1
                yield batch
        except InputError as error:  # a worker's has its message as the last line of a traceback
            raise InputError(str(error).rstrip().rpartition("InputError: ")[2]) from error

    def state_dict(self) -> dict[str, int]:
        return {"batches": self._given}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._skipped = state_dict["batches"] % len(self)


def batch_loader(dataset: Dataset[Any], sampler: _BatchSampler, num_workers: int = 0) -> DataLoader[Any]:
    """Return a loader that indexes `dataset` with the items of `sampler`, which are whole batches.

    Use no workers for images in memory: sending a batch takes longer than indexing it.
    """
    # Automatic batching is off, since the sampler's items are batches already.
    return _ResumableLoader(
        dataset,
        sampler=sampler,
        batch_size=None,
        num_workers=num_workers,
        # Workers that live on draw no seed in later epochs; those of a resumed run would, from the global random state.
        generator=torch.Generator() if num_workers else None,
        persistent_workers=num_workers > 0,
        pin_memory=num_workers > 0 and torch.cuda.is_available(),
    )
