from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from digits import Classifier
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from typing_extensions import override

from fvlightning.data import MNISTDataModule
from fvlightning.data.reading import names_of, read_batches, some_of_each_class


def trainer_of(loader: Any) -> Any:
    return SimpleNamespace(val_dataloaders=None, train_dataloader=loader)


def loader_of(labels: Tensor, **options: Any) -> DataLoader[Any]:
    """Pictures that say their place."""
    places = torch.arange(len(labels)).float()[:, None, None, None].expand(-1, 1, 2, 2)
    return DataLoader(TensorDataset(places, labels), batch_size=4, **options)


def places_of(found: dict[int, Tensor]) -> dict[int, list[int]]:
    return {label: pictures[:, 0, 0, 0].int().tolist() for label, pictures in found.items()}


def test_first_pictures_of_the_first_classes():
    loader = loader_of(torch.tensor([2, 0, 2, 1, 2, 2, 0, 3, 1, 1]))
    assert places_of(some_of_each_class(trainer_of(loader), 2, 3)) == {0: [1, 6], 1: [3, 8], 2: [0, 2]}


def test_of_known_parts_each_class_has_as_many_as_there_are(mnist_dir: Path):
    data = MNISTDataModule(mnist_dir, val_size=64)
    data.setup("fit")
    found = some_of_each_class(SimpleNamespace(datamodule=data), 20, 3)  # type: ignore[arg-type]
    assert list(found) == [0, 1, 2]
    train = data.splits.train
    for label, pictures in found.items():
        own = train.images[train.labels == label] / 255
        assert len(pictures) == min(20, len(own))
        assert all((own == picture).flatten(1).all(1).any() for picture in pictures)
        assert pictures.untyped_storage().nbytes() == pictures.nbytes


@pytest.mark.parametrize(
    "labels", [torch.zeros(8, 3, dtype=torch.int64), torch.zeros(8, 1, dtype=torch.int64), torch.rand(8)]
)
def test_labels_of_other_kinds_are_none(labels: Tensor):
    trainer = trainer_of(loader_of(labels))
    assert [classes for _, classes in read_batches(trainer, "train")] == [None, None]
    assert some_of_each_class(trainer, 2, 3) == {}


def test_classes_without_names_have_their_numbers():
    data = SimpleNamespace(class_names=["cat", "dog"])
    assert names_of(SimpleNamespace(datamodule=data), torch.tensor([1, 2, 0])) == ["dog", "2", "cat"]  # type: ignore[arg-type]


class Reader(Callback):
    """Reads some of the training images, when the first epoch's batches are being made already."""

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        next(read_batches(trainer, "train"))


class Noting(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    @override
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen += batch[0][:, 0, 0, 0].tolist()
        return super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`", "ignore:.*does not have many workers")
@pytest.mark.parametrize("workers", [{}, {"num_workers": 1, "persistent_workers": True}], ids=["no workers", "workers"])
def test_training_gets_the_batches_that_it_gets_otherwise(tmp_path: Path, workers: dict[str, Any]):
    seen = []
    for callbacks in ([], [Reader()]):
        pictures = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        data = TensorDataset(pictures, torch.arange(12) % 10)
        loader = DataLoader(data, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(1), **workers)
        module = Noting()
        trainer = pl.Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=2,
            default_root_dir=tmp_path,
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=1,
        )
        trainer.fit(module, loader)
        seen.append(module.seen)
    assert len(seen[0]) == 24
    assert seen[1] == seen[0]
