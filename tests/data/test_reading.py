"""Any data are read in order, against naive loops, and training does not notice."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from digits import Classifier
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from typing_extensions import override

from fvlightning.data import (
    ImageFolderDataModule,
    InMemoryDataModule,
    MNISTDataModule,
    PictureBatch,
    TensorImages,
    pictures_by_class,
    read_pictures,
)
from fvlightning.errors import InputError
from fvlightning.io import fit_picture, list_image_files, read_image, to_tensor

SHAPE = (1, 2, 3)


def numbered(count: int) -> Tensor:
    """Pictures (B, 1, 2, 3) in [0, 1] whose values are their index over 100."""
    return (torch.arange(count) / 100)[:, None, None, None].expand(count, *SHAPE).clone()


def numbered_set(count: int = 10, labels: Tensor | None = None) -> TensorDataset:
    return TensorDataset(numbered(count), torch.arange(count) % 3 if labels is None else labels)


def numbers(batches: Iterator[PictureBatch]) -> list[int]:
    """The indices of numbered pictures, after a check that pictures, labels and indices belong together."""
    places = []
    for pictures, labels, indices in batches:
        assert pictures.dtype == torch.float32
        assert labels is not None
        assert labels.dtype == indices.dtype == torch.int64
        assert torch.equal(pictures, (indices / 100)[:, None, None, None].expand(-1, *SHAPE))
        assert torch.equal(labels, indices % 3)
        places += indices.tolist()
    return places


def values(batches: Iterator[PictureBatch]) -> list[int]:
    """The numbers that numbered pictures show, after a check that their labels fit and their places are unknown."""
    shown = []
    for pictures, labels, indices in batches:
        assert labels is not None
        assert indices.tolist() == [-1] * len(pictures)
        shown += (pictures[:, 0, 0, 0] * 100).round().int().tolist()
        assert labels.tolist() == [number % 3 for number in shown[-len(pictures) :]]
    return shown


def joined(batches: Iterator[PictureBatch]) -> tuple[Tensor, Tensor, Tensor]:
    pictures, labels, indices = zip(*batches, strict=True)
    return torch.cat(pictures), torch.cat(labels), torch.cat(indices)


def shuffled(count: int, seed: int = 0) -> list[int]:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


class Varied(InMemoryDataModule):
    """Numbered images as bytes, with augmentation."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(batch_size=7, crop_padding=1, padding_mode="zeros", flip=True, **settings)
        self.image_shape, self.class_names = (1, 4, 5), tuple("abc")

    def load(self) -> tuple[TensorImages, TensorImages]:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (40, 1, 4, 5), generator=generator, dtype=torch.uint8)
        labels = torch.arange(40) % 3
        return TensorImages(images[:30], labels[:30]), TensorImages(images[30:], labels[30:])


@pytest.mark.parametrize("part", [None, "train", "val", "test"])
def test_parts_of_this_projects_data_are_read_in_order_and_not_augmented(part: str | None):
    data = Varied(val_size=9)
    pictures, labels, indices = joined(read_pictures(data, part))
    images = getattr(data.splits, part or "test")
    assert torch.equal(pictures, images.images / 255)
    assert torch.equal(labels, images.labels)
    assert indices.tolist() == list(range(len(images)))


def test_digits_are_read_in_a_seeded_order_up_to_a_limit(mnist_dir: Path):
    data = MNISTDataModule(mnist_dir, val_size=64)
    pictures, labels, indices = joined(read_pictures(data, "train", limit=100, seed=3, image_shape=(1, 28, 28)))
    assert indices.tolist() == shuffled(576, seed=3)[:100]
    assert torch.equal(pictures, data.splits.train.images[indices] / 255)
    assert torch.equal(labels, data.splits.train.labels[indices])


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_are_read_from_files_keep_their_places_where_one_is_damaged(tmp_path: Path, workers: int):
    noise = np.random.default_rng(0).integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
    for number, pixels in enumerate(noise):
        (tmp_path / "ab"[number % 2]).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "ab"[number % 2] / f"{number:02}.png")
    damaged = tmp_path / "a" / "04.png"
    damaged.write_bytes(damaged.read_bytes()[:80])
    settings = {"val_size": 0, "test_size": 0, "batch_size": 6, "num_workers": workers, "crop_area": (0.1, 0.2)}
    data = ImageFolderDataModule(tmp_path, **settings)
    # Workers warn in their own processes.
    message = "1 of 6 files cannot be read as images and are left out: .*04.png"
    with warnings.catch_warnings(action="ignore") if workers else pytest.warns(UserWarning, match=message):
        pictures, labels, indices = joined(read_pictures(data))
    assert indices.tolist() == [index for index in range(20) if index != 2]
    assert torch.equal(labels, data.splits.train.labels[indices])
    in_order = np.concatenate([noise[::2], noise[1::2]])[indices]
    assert np.array_equal((pictures * 255).round().byte().permute(0, 2, 3, 1), in_order)


def test_validation_falls_back_to_training_and_the_default_is_the_best_part_that_has_images():
    images = torch.zeros(30, 1, 4, 5, dtype=torch.uint8)

    class WithoutTest(Varied):
        def load(self) -> tuple[TensorImages, TensorImages]:
            test = TensorImages(images[:0], torch.zeros(0, dtype=torch.int64))
            return TensorImages(images, torch.arange(30) % 3), test

    assert len(joined(read_pictures(WithoutTest(), "val"))[0]) == 30
    assert len(joined(read_pictures(WithoutTest()))[0]) == 30
    assert len(joined(read_pictures(WithoutTest(val_size=4)))[0]) == 4
    with pytest.raises(InputError, match="WithoutTest has no images for test"):
        next(read_pictures(WithoutTest(), "test"))


class Foreign(pl.LightningDataModule):
    """A data module of a user's own, whose pictures are bytes until they are on the device."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.options = {"batch_size": 4, "shuffle": True, "drop_last": True, **options}

    def prepare_data(self) -> None:
        self.calls.append("prepare")

    def setup(self, stage: str) -> None:
        self.calls.append(stage)
        self.images = TensorDataset(torch.arange(10)[:, None, None, None].expand(10, *SHAPE), torch.arange(10) % 3)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.images, **self.options)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0].float(), batch[1]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        self.calls.append(str(device))
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch[0] / 100, batch[1]


@pytest.mark.parametrize("options", [{}, {"num_workers": 1}])
def test_other_data_modules_are_set_up_and_read_in_order_with_their_hooks(options: dict[str, Any]):
    data = Foreign(**options)
    assert numbers(read_pictures(data)) == list(range(10))
    assert data.calls == ["prepare", "fit", "cpu", "cpu", "cpu"]
    assert numbers(read_pictures(data, "val", seed=1, limit=7)) == shuffled(10, seed=1)[:7]


def collate_doubled(samples: list[Any]) -> tuple[Tensor, Tensor]:
    pictures, labels = zip(*samples, strict=True)
    return torch.stack(pictures) / 2, torch.tensor(labels)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 4},
        {"batch_size": 4, "shuffle": True, "drop_last": True},
        {"batch_size": 3, "sampler": WeightedRandomSampler([1.0] * 10, 20)},
        {"batch_sampler": BatchSampler(RandomSampler(range(10)), 4, drop_last=True)},
        {"batch_sampler": [[9, 8], [1]]},
        {"batch_size": None, "sampler": BatchSampler(RandomSampler(range(10)), 4, drop_last=True)},
    ],
)
def test_loaders_are_read_in_the_order_of_their_datasets(options: dict[str, Any]):
    loader = DataLoader(numbered_set(), **options)
    assert numbers(read_pictures(loader)) == list(range(10))
    assert numbers(read_pictures(loader, seed=0)) == shuffled(10)
    assert numbers(read_pictures(loader, limit=5)) == list(range(5))


def test_a_loader_of_a_subset_is_read_as_far_as_its_sampler_goes():
    loader = DataLoader(numbered_set(), batch_size=2, sampler=SubsetRandomSampler([7, 1, 5]))
    assert numbers(read_pictures(loader)) == [1, 5, 7]
    assert sorted(numbers(read_pictures(loader, seed=0))) == [1, 5, 7]


def test_the_collate_function_and_the_batch_size_are_those_of_the_loader():
    batches = list(read_pictures(DataLoader(numbered_set(), batch_size=4, shuffle=True, collate_fn=collate_doubled)))
    assert [len(batch.pictures) for batch in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([batch.pictures for batch in batches]), numbered(10) / 2)


def test_where_a_collate_function_leaves_images_out_their_places_are_unknown():
    loader = DataLoader(numbered_set(), batch_size=4, collate_fn=lambda samples: collate_doubled(samples[1:]))
    assert [batch.indices.tolist() for batch in read_pictures(loader)] == [[-1] * 3, [-1] * 3, [-1]]


def test_several_loaders_are_read_one_after_the_other():
    loaders = [DataLoader(numbered_set(5), batch_size=4), DataLoader(numbered_set(3), batch_size=2)]
    assert numbers(read_pictures(loaders)) == [0, 1, 2, 3, 4, 0, 1, 2]
    assert numbers(read_pictures(loaders, limit=7)) == [0, 1, 2, 3, 4, 0, 1]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from zip(numbered(10), torch.arange(10) % 3, strict=True)


class Batches(Dataset[Any]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        places = torch.arange(10).split(4)[index]
        return numbered(10)[places], places % 3


@pytest.mark.parametrize(
    "source",
    [
        DataLoader(Stream(), batch_size=4, drop_last=True),
        DataLoader(Batches(), batch_size=None, shuffle=True),
        [[(numbered(10), torch.arange(10) % 3)]],
    ],
    ids=["iterable dataset", "dataset of batches", "other iterable"],
)
def test_sources_without_places_keep_their_order(source: Any):
    assert values(read_pictures(source)) == list(range(10))
    assert values(read_pictures(source, seed=1, limit=6)) == list(range(6))


@pytest.mark.parametrize(
    "labels", [torch.zeros(8, 3, dtype=torch.int64), torch.zeros(8, 1, dtype=torch.int64), torch.rand(8)]
)
def test_labels_that_are_not_classes_are_none(labels: Tensor):
    loader = DataLoader(numbered_set(8, labels), batch_size=4)
    assert [batch.labels for batch in read_pictures(loader)] == [None, None]
    assert pictures_by_class(loader, 2, 3) == {}


def test_pictures_without_labels_have_none():
    (batch,) = read_pictures(DataLoader(TensorDataset(numbered(4)), batch_size=4))
    assert batch.labels is None
    (batch,) = read_pictures(DataLoader(numbered(4), batch_size=4))
    assert torch.equal(batch.pictures, numbered(4))


def foreign(pictures: Tensor) -> pl.LightningDataModule:
    return pl.LightningDataModule.from_datasets(val_dataset=TensorDataset(pictures))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (pl.LightningDataModule(), "LightningDataModule has no images for test or val or train"),
        (foreign(numbered(0)), "LightningDataModule has no images for test or val or train"),
        (DataLoader(numbered_set(0)), "TensorDataset has no images"),
        ({"a": DataLoader(numbered_set())}, r"dict has images of shape str, not \(1, 2, 3\)"),
        (foreign(torch.zeros(8, 1, 2, 2)), r"has images of shape \(1, 2, 2\), not \(1, 2, 3\); give other data"),
        (DataLoader(torch.zeros(8, 2, 3)), r"Tensor has images of shape \(2, 3\), not \(1, 2, 3\)"),
        ([[{"pixels": numbered(1)}]], r"list has images of shape dict, not \(1, 2, 3\)"),
        (foreign(numbered(4) * 255), r"LightningDataModule has images with values outside \[0, 1\]; leave normalis"),
        (foreign(-numbered(4)), r"values outside \[0, 1\]"),
        (foreign(torch.full((4, *SHAPE), torch.nan)), r"values outside \[0, 1\]"),
    ],
)
def test_data_that_cannot_be_used_are_refused(source: Any, message: str):
    with pytest.raises(InputError, match=message) as caught:
        list(read_pictures(source, image_shape=SHAPE))
    assert "\n" not in str(caught.value)


def test_a_limit_below_1_is_refused():
    with pytest.raises(InputError, match=r"read_pictures\(limit=0\): must be at least 1"):
        read_pictures(numbered_set(), limit=0)
    with pytest.raises(InputError, match=r"read_pictures\(part='valid'\): must be 'train', 'val', 'test' or None"):
        read_pictures(numbered_set(), "valid")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty files of different sizes and kinds in two folders, and other files."""
    rng = np.random.default_rng(0)
    (tmp_path / "more").mkdir()
    for number in range(20):
        pixels = rng.integers(0, 256, (10 + number, 20, 3), dtype=np.uint8)
        folder = tmp_path / "more" if number % 3 == 0 else tmp_path
        Image.fromarray(pixels).save(folder / f"{number}.{('png', 'PNG', 'bmp', 'tif')[number % 4]}")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


@pytest.mark.parametrize("image_shape", [(3, 8, 9), (1, 12, 6)])
def test_files_of_a_folder_are_read_sorted_and_fitted(photos: Path, image_shape: tuple[int, ...]):
    files = sorted(path for path in photos.rglob("*.*") if path.suffix != ".txt")
    assert list_image_files(str(photos)) == files
    expected = [fit_picture(to_tensor(read_image(path)) / 255, image_shape) for path in files]
    batches = list(read_pictures(str(photos), image_shape=image_shape))
    assert torch.equal(torch.cat([batch.pictures for batch in batches]), torch.stack(expected))
    assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(20))
    assert all(batch.labels is None for batch in batches)
    some = list(read_pictures(photos, image_shape=image_shape, seed=2, limit=18))
    assert torch.cat([batch.indices for batch in some]).tolist() == shuffled(20, seed=2)[:18]
    assert torch.equal(some[0].pictures[3], expected[some[0].indices[3]])


def test_files_of_a_list_are_read_in_its_order_and_cropped(photos: Path):
    files = [photos / "7.tif", str(photos / "more/3.tif")]
    (batch,) = read_pictures(files, image_shape=(3, 8, 8), crop_pct=0.5)
    for picture, file in zip(batch.pictures, files, strict=True):
        assert torch.equal(picture, fit_picture(to_tensor(read_image(file)) / 255, (3, 8, 8), 0.5))
    assert batch.indices.tolist() == [0, 1]


def test_files_that_cannot_be_read_are_named_in_one_warning_and_left_out(photos: Path):
    (photos / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    (photos / "more/empty.jpg").touch()
    with pytest.warns(UserWarning, match="cannot be read") as caught:
        batches = list(read_pictures(photos, image_shape=(3, 8, 8)))
    (warning,) = caught
    message = str(warning.message)
    assert message.startswith("2 of 22 files cannot be read as images and are left out: ")
    assert "/0.png (" in message
    assert "more/empty.jpg (it is not an image)" in message
    damaged = photos / "0.png", photos / "more/empty.jpg"
    readable = [index for index, path in enumerate(list_image_files(photos)) if path not in damaged]
    assert torch.cat([batch.indices for batch in batches]).tolist() == readable


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path):
    shape = (3, 8, 8)
    with pytest.raises(InputError, match=r"no folder '.*nowhere'; give one with images"):
        read_pictures(tmp_path / "nowhere", image_shape=shape)
    with pytest.raises(InputError, match=r"no image files in '.*' or its subfolders"):
        read_pictures(tmp_path, image_shape=shape)
    (tmp_path / "a.png").touch()
    with pytest.raises(InputError, match=r"not one of 1 images can be read; the last: cannot read '.*a.png' as an im"):
        next(read_pictures(tmp_path, image_shape=shape))
    for wrong in (None, (2, 8, 8), (3, 0, 8), (8, 8)):
        with pytest.raises(InputError, match=r"image_shape=.*: must be \[C, H, W\] with 1 or 3 channels"):
            read_pictures(tmp_path, image_shape=wrong)


def places_by_class(pictures: dict[int, Tensor]) -> dict[int, list[int]]:
    return {label: (some[:, 0, 0, 0] * 100).round().int().tolist() for label, some in pictures.items()}


def test_pictures_of_the_first_classes_come_in_a_random_order():
    labels = torch.tensor([2, 0, 2, 1, 2, 2, 0, 3, 1, 1])
    loader = DataLoader(numbered_set(10, labels), batch_size=4)
    expected = {label: [place for place in shuffled(10) if labels[place] == label][:2] for label in range(3)}
    assert places_by_class(pictures_by_class(loader, 2, 3)) == expected


def test_each_class_has_as_many_pictures_as_there_are(mnist_dir: Path):
    data = MNISTDataModule(mnist_dir, val_size=64)
    by_class = pictures_by_class(data, 55, 3)
    assert list(by_class) == [0, 1, 2]
    train = data.splits.train
    order = shuffled(len(train))
    for label, pictures in by_class.items():
        of_class = [train.images[place] / 255 for place in order if train.labels[place] == label]
        assert torch.equal(pictures, torch.stack(of_class[:55]))
        assert pictures.untyped_storage().nbytes() == pictures.nbytes


def test_the_random_state_of_torch_and_the_loaders_generators_stay(mnist_dir: Path):
    generator = torch.Generator().manual_seed(5)
    sampler = RandomSampler(range(10), generator=generator)
    loaders = [
        DataLoader(numbered_set(), batch_size=4, shuffle=True),
        DataLoader(numbered_set(), batch_size=4, shuffle=True, generator=generator),
        DataLoader(numbered_set(), batch_size=4, sampler=sampler, num_workers=1),
        DataLoader(numbered_set(), batch_sampler=BatchSampler(sampler, 4, drop_last=False)),
        DataLoader(Stream(), batch_size=4, generator=generator, num_workers=1),
        MNISTDataModule(mnist_dir, val_size=64),
    ]
    states = torch.get_rng_state(), generator.get_state()
    for loader in loaders:
        for seed in (None, 1):
            assert list(read_pictures(loader, seed=seed))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(generator.get_state(), states[1])


class Reader(Callback):
    """Read some images while the batches of the first epoch are already being made."""

    def __init__(self, source: Any) -> None:
        self.source = source

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        source = self.source or trainer.train_dataloader
        for part in ("train", "val"):
            next(read_pictures(source, part))
            assert len(list(read_pictures(source, part, seed=0))) == 3


class Noting(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen += batch[0][:, 0, 0, 0].tolist()
        return super().training_step(batch, batch_idx)


class Trained(Foreign):
    @override
    def setup(self, stage: str) -> None:
        self.calls.append(stage)
        pictures = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 100
        self.options["generator"] = torch.Generator().manual_seed(1)
        self.images = TensorDataset(pictures, torch.arange(12) % 10)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
@pytest.mark.parametrize("workers", [{}, {"num_workers": 1, "persistent_workers": True}], ids=["no workers", "workers"])
@pytest.mark.parametrize("with_module", [False, True], ids=["loader", "data module"])
def test_training_gets_the_batches_that_it_gets_otherwise(tmp_path: Path, workers: dict[str, Any], with_module: bool):
    seen = []
    for reads in (False, True):
        data = Trained(**workers)
        module = Noting()
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=2,
            default_root_dir=tmp_path,
            callbacks=[Reader(data if with_module else None)] if reads else [],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        if with_module:
            trainer.fit(module, datamodule=data)
            assert [call for call in data.calls if call != "cpu"] == ["prepare", "fit"]
        else:
            data.setup("fit")
            loader = data.train_dataloader()
            loader.dataset.tensors[0].div_(100)
            trainer.fit(module, loader)
        seen.append(module.seen)
    assert len(seen[0]) == 24
    assert seen[1] == seen[0]


def test_loaders_leave_the_users_warnings_alone():
    filters = list(warnings.filters)
    data = Varied()
    data.setup()
    assert data.val_dataloader() == []
    assert data.train_dataloader()
    assert data.test_dataloader()
    assert warnings.filters == filters
