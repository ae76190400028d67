"""Shares of a set and pictures at places, of sets that can be read picture by picture and of others."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

from fvlightning.data import ImageFolderDataModule, PictureBatch, PictureSelection
from fvlightning.errors import InputError

# The value of a picture is its number.
PICTURES = torch.arange(30).view(-1, 1, 1, 1).expand(-1, 1, 2, 3) / 30
LABELS = torch.arange(30) % 4


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(PICTURES, LABELS, strict=True)


DATASET = TensorDataset(PICTURES, LABELS)
LOADERS = {
    "shuffled": DataLoader(DATASET, batch_size=4, shuffle=True),
    "subset": DataLoader(DATASET, batch_size=4, sampler=SubsetRandomSampler(range(3, 30))),
    "stream": DataLoader(Stream(), batch_size=4),
    "two loaders": [DataLoader(TensorDataset(PICTURES[half], LABELS[half]), 4) for half in (slice(18), slice(18, 30))],
}


def numbers(batches: Iterator[PictureBatch]) -> list[int]:
    """Return the places of pictures, once these are known to be the right ones."""
    places: list[int] = []
    for batch in batches:
        assert torch.equal(batch.pictures, PICTURES[batch.indices])
        assert torch.equal(batch.labels, LABELS[batch.indices])
        places += batch.indices.tolist()
    return places


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("limit", [None, 11])
def test_shares_are_in_order_and_together_the_whole(name: str, limit: int | None):
    selection = PictureSelection(LOADERS[name], image_shape=(1, 2, 3), limit=limit)
    whole = numbers(selection.share())
    assert whole == sorted(set(whole))
    assert len(whole) == (limit or (27 if name == "subset" else 30))
    assert selection.n_pictures in (None, len(whole))
    shares = [numbers(selection.share(rank, 3)) for rank in range(3)]
    assert shares == [whole[rank::3] for rank in range(3)]
    assert numbers(selection.share(1, 3, after=shares[1][1])) == shares[1][2:]
    assert numbers(selection.share(1, 3, after=29)) == []
    chosen = whole[2::4]
    assert numbers(selection.at(torch.tensor(chosen))) == chosen


@pytest.mark.parametrize("in_memory", [True, False])
def test_files_are_known(tmp_path, in_memory: bool):
    for place in range(12):
        path = tmp_path / "train" / "ab"[place % 2] / f"{place:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PILImage.fromarray(np.full((4, 4, 3), 20 * place, np.uint8)).save(path)
    folder = PictureSelection(str(tmp_path / "train"), image_shape=(3, 4, 4))
    assert folder.files == [f"{'ab'[place % 2]}/{place:02d}.png" for place in [*range(0, 12, 2), *range(1, 12, 2)]]
    data = ImageFolderDataModule(tmp_path, in_memory=in_memory, val_size=4, test_size=2, num_workers=0)
    selection = PictureSelection(data, "val", image_shape=(3, 4, 4))
    (batch,) = selection.share()
    assert len(batch.indices) == 4
    for place, picture in zip(batch.indices.tolist(), batch.pictures, strict=True):
        assert round(picture.max().item() * 255) == 20 * int(selection.files[place][-6:-4])


def test_pictures_that_batches_leave_out_are_named():
    loader = DataLoader(DATASET, batch_size=4, collate_fn=lambda rows: torch.stack([row[0] for row in rows[1:]]))
    with pytest.raises(InputError, match="leaves images out of its batches, so their places are not known"):
        numbers(PictureSelection(loader, image_shape=(1, 2, 3)).share())
