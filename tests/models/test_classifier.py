import csv
import sys

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from fvlightning.data import MNISTDataModule, ShapesDataModule
from fvlightning.errors import InputError
from fvlightning.models import ClassifierModule
from fvlightning.models._confusion import class_scores
from fvlightning.networks import MnistCNN, MnistMLP


def make_data(mnist_dir, **settings):
    return MNISTDataModule(mnist_dir, val_size=128, batch_size=64, **settings)


def make_trainer(max_epochs=1, logger=False, **settings):
    quiet = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return pl.Trainer(accelerator="cpu", max_epochs=max_epochs, logger=logger, **quiet, **settings)


def adam(parameters):
    return torch.optim.Adam(parameters, 3e-3)


@pytest.fixture(scope="module")
def run(mnist_dir, tmp_path_factory):
    """Two epochs of training and a test, with TensorBoard and a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    pl.seed_everything(0)
    module, data = ClassifierModule(MnistCNN(), optimizer=adam), make_data(mnist_dir)
    logger = TensorBoardLogger(folder, name="", version="")
    trainer = make_trainer(2, logger=logger, log_every_n_steps=4)
    trainer.fit(module, datamodule=data)
    fitted = dict(trainer.callback_metrics)
    trainer.save_checkpoint(folder / "last.ckpt")
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    logger.finalize("success")
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    return {"module": module, "data": data, "fitted": fitted, "tested": tested, "events": events, "folder": folder}


def predictions(module, images):
    module.eval()
    with torch.no_grad():
        return module(images.images.float() / 255)


def test_training_learns_the_digits(run):
    assert run["tested"]["test/accuracy"] > 0.7
    assert run["fitted"]["train/accuracy"] > 0.5


def test_metrics_are_those_of_the_whole_set(run):
    images = run["data"].splits.test
    logits = predictions(run["module"], images)

    assert run["tested"]["test/accuracy"] == pytest.approx((logits.argmax(1) == images.labels).float().mean().item())
    assert run["tested"]["test/loss"] == pytest.approx(F.cross_entropy(logits, images.labels).item(), rel=1e-5)


def test_the_event_file_has_losses_and_accuracies(run):
    scalars = run["events"].Tags()["scalars"]
    tags = {"train/loss", "train/accuracy", "val/loss", "val/accuracy", "test/loss", "test/accuracy"}

    assert tags <= set(scalars)
    assert [event.step for event in run["events"].Scalars("train/loss")] == [3, 7, 11, 15]
    assert len(run["events"].Scalars("val/accuracy")) == 2
    # The validations of a training log no scores of classes.
    assert not any(tag.startswith("val/f1") for tag in scalars)


def test_a_logger_without_figures_has_the_scores_of_each_class(run, tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    make_trainer(logger=logger).test(run["module"], datamodule=run["data"], verbose=False)
    with (tmp_path / "metrics.csv").open() as file:
        (logged,) = (row for row in csv.DictReader(file) if row["test/f1/0"])
    images = run["data"].splits.test
    predicted = predictions(run["module"], images).argmax(1)
    confusion = torch.zeros(10, 10, dtype=torch.int64)
    for true, guess in zip(images.labels, predicted, strict=True):
        confusion[true, guess] += 1

    for score, values in class_scores(confusion).items():
        assert run["tested"][f"test/{score}"] == pytest.approx(values.mean().item(), rel=1e-5)
        for label, value in enumerate(values.tolist()):
            assert float(logged[f"test/{score}/{label}"]) == pytest.approx(value, rel=1e-5)


def test_the_event_file_has_the_confusion_matrix(run):
    assert run["events"].Tags()["images"] == ["test/confusion_matrix"]
    # It has the scores of each class, which are no scalars.
    scalars = [tag for tag in run["events"].Tags()["scalars"] if tag.startswith("test/")]
    assert sorted(scalars) == [f"test/{name}" for name in ("accuracy", "f1", "loss", "precision", "recall")]
    (image,) = run["events"].Images("test/confusion_matrix")

    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert image.width > 600
    assert image.height > 400


def test_validate_logs_the_scores_too(mnist_dir, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="")
    make_trainer(logger=logger).validate(ClassifierModule(MnistMLP()), datamodule=make_data(mnist_dir), verbose=False)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path)).Reload()

    assert {"val/precision", "val/recall", "val/f1"} <= set(events.Tags()["scalars"])
    assert events.Tags()["images"] == ["val/confusion_matrix"]


def test_the_scores_of_many_classes_are_a_table(tmp_path):
    images = TensorDataset(torch.rand(31, 1, 28, 28), torch.arange(31))
    logger = TensorBoardLogger(tmp_path, name="", version="")
    make_trainer(logger=logger).test(ClassifierModule(MnistMLP(31)), DataLoader(images, batch_size=31), verbose=False)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path)).Reload()
    (event,) = events.Tensors("test/classes/text_summary")
    lines = event.tensor_proto.string_val[0].decode().splitlines()

    assert lines[:2] == ["| class | precision | recall | f1 |", "| --- | --- | --- | --- |"]
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {label}" for label in range(31)]
    assert events.Tags()["images"] == ["test/confusion_matrix"]


def test_outputs_without_a_class_in_the_data_do_not_lower_the_mean_scores(run, mnist_dir, tmp_path):
    larger, last = MnistCNN(num_classes=12), run["module"].net.fc2
    with torch.no_grad():
        weight, bias = F.pad(last.weight, (0, 0, 0, 2)), F.pad(last.bias, (0, 2), value=-1000)
    larger.load_state_dict({**run["module"].net.state_dict(), "fc2.weight": weight, "fc2.bias": bias})
    module = ClassifierModule(larger, num_classes=12)
    module.normalize = run["module"].normalize
    logger = CSVLogger(tmp_path, name="", version="")
    with pytest.warns(UserWarning, match="MNISTDataModule has 10 of the 12 classes of ClassifierModule"):
        (tested,) = make_trainer(logger=logger).test(module, datamodule=make_data(mnist_dir), verbose=False)
    for score in ("precision", "recall", "f1"):
        assert tested[f"test/{score}"] == pytest.approx(run["tested"][f"test/{score}"])
    assert "test/recall/11" in (tmp_path / "metrics.csv").read_text()


def test_normalisation_is_that_of_the_training_images(run):
    module, data = run["module"], run["data"]

    torch.testing.assert_close(module.normalize.mean, torch.tensor(data.mean))
    torch.testing.assert_close(module.normalize.std, torch.tensor(data.std))
    pictures = data.splits.train.images.float() / 255
    assert module.normalize(pictures).mean().item() == pytest.approx(0, abs=1e-5)
    assert module.normalize(pictures).std().item() == pytest.approx(1, abs=1e-4)


class InputStatistics(nn.Module):
    """Record the statistics of the network's inputs."""

    input_shape = (1, 28, 28)

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(784, 10)
        self.register_buffer("seen", torch.zeros(2))

    def forward(self, images):
        self.seen = torch.stack([images.mean(), images.std()]).detach()
        return self.layer(images.flatten(1))


@pytest.mark.parametrize("normalize", [True, False])
def test_images_are_normalised_once_or_not_at_all(mnist_dir, normalize):
    data = MNISTDataModule(mnist_dir, val_size=64, batch_size=640)
    module = ClassifierModule(InputStatistics(), normalize=normalize)
    trainer = make_trainer(limit_val_batches=0)
    trainer.fit(module, datamodule=data)
    expected = (0, 1) if normalize else (data.mean[0], data.std[0])

    assert module.net.seen.tolist() == pytest.approx(expected, abs=1e-4)


def test_statistics_of_a_checkpoint_are_kept_when_training_goes_on_with_other_images(run, mnist_dir):
    loaded = ClassifierModule.load_from_checkpoint(run["folder"] / "last.ckpt", weights_only=True, network=MnistCNN())
    other = MNISTDataModule(mnist_dir, val_size=320, seed=1)
    make_trainer(max_steps=1, limit_val_batches=0).fit(loaded, datamodule=other)

    assert other.mean != pytest.approx(run["data"].mean, abs=1e-7)
    assert torch.equal(loaded.normalize.mean, run["module"].normalize.mean)


def test_averaged_weights_see_pictures_normalised_as_the_weights_do():
    seen = []

    class Noting(EMAWeightAveraging):
        def on_validation_epoch_end(self, trainer, pl_module):
            seen.append((pl_module.normalize.mean.tolist(), pl_module.normalize.std.tolist()))  # of the averages
            super().on_validation_epoch_end(trainer, pl_module)

    data = ShapesDataModule(train_size=64, val_size=16, test_size=16, batch_size=32)
    module = ClassifierModule(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)))
    make_trainer(callbacks=[Noting(decay=0.9)]).fit(module, datamodule=data)
    assert len(seen) == 2  # before training and after it
    assert all(mean == pytest.approx(data.mean) and std == pytest.approx(data.std) for mean, std in seen)


def test_resuming_takes_the_statistics_of_the_checkpoint(run, mnist_dir):
    module = ClassifierModule(MnistCNN(), optimizer=adam)
    other = MNISTDataModule(mnist_dir, val_size=128, seed=1, batch_size=64)
    make_trainer(3, limit_val_batches=0).fit(
        module, datamodule=other, ckpt_path=run["folder"] / "last.ckpt", weights_only=True
    )

    assert torch.equal(module.normalize.mean, run["module"].normalize.mean)


def test_checkpoint_of_a_module_built_in_python(run):
    path = run["folder"] / "last.ckpt"
    hyperparameters = torch.load(path, weights_only=True)["hyper_parameters"]
    loaded = ClassifierModule.load_from_checkpoint(path, weights_only=True, network=MnistCNN())

    assert hyperparameters == {
        "num_classes": 10,
        "scheduler": None,
        "scheduler_interval": "epoch",
        "label_smoothing": 0.0,
        "normalize": True,
        "input_shape": None,
        "mixup": 0.0,
        "cutmix": 0.0,
    }
    images = run["data"].splits.test
    assert torch.equal(predictions(loaded, images), predictions(run["module"], images))


CONFIG = [
    "--model=fvlightning.ClassifierModule",
    "--model.network=fvlightning.MnistMLP",
    "--model.optimizer=torch.optim.SGD",
    "--model.optimizer.lr=0.25",
    "--model.scheduler=torch.optim.lr_scheduler.ExponentialLR",
    "--model.scheduler.gamma=0.5",
    "--model.label_smoothing=0.125",
    "--data=fvlightning.MNISTDataModule",
    "--data.val_size=128",
]


def test_checkpoint_of_a_module_built_by_the_command_line(mnist_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fvlightning"])
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 2}
    cli = LightningCLI(
        args=[*CONFIG, f"--data.data_dir={mnist_dir}"],
        run=False,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=None,
        trainer_defaults={**quiet, "enable_checkpointing": False, "accelerator": "cpu"},
    )
    cli.trainer.fit(cli.model, datamodule=cli.datamodule)
    cli.trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = ClassifierModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)

    assert isinstance(loaded.net, MnistMLP)
    assert loaded.label_smoothing == 0.125
    assert loaded.configure_optimizers()["optimizer"].param_groups[0]["lr"] == 0.25
    assert loaded.configure_optimizers()["lr_scheduler"]["scheduler"].gamma == 0.5
    images = cli.datamodule.splits.test
    assert torch.equal(predictions(loaded, images), predictions(cli.model, images))
    assert cli.trainer.optimizers[0].param_groups[0]["lr"] == 0.25 * 0.5**2


def test_schedule_can_go_on_after_every_step(mnist_dir):
    module = ClassifierModule(
        MnistMLP(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, 1.0),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5),
        scheduler_interval="step",
    )
    trainer = make_trainer(limit_train_batches=3, limit_val_batches=0)
    trainer.fit(module, datamodule=make_data(mnist_dir))

    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.125


def test_schedule_that_watches_a_metric(mnist_dir):
    module = ClassifierModule(
        MnistMLP(),
        optimizer=lambda parameters: torch.optim.SGD(parameters, 1e-6),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9),
    )
    trainer = make_trainer(2)
    trainer.fit(module, datamodule=make_data(mnist_dir))

    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-7)


def test_frozen_weights_are_not_given_to_the_optimiser():
    network = MnistMLP()
    network.fc1.requires_grad_(False)
    optimizer = ClassifierModule(network).configure_optimizers()

    assert [parameter.numel() for parameter in optimizer.param_groups[0]["params"]] == [1280, 10]


def test_predict_gives_probabilities(mnist_dir):
    module = ClassifierModule(MnistMLP())
    batches = make_trainer().predict(module, datamodule=make_data(mnist_dir))
    probabilities = torch.cat(batches)

    assert probabilities.shape == (128, 10)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(128))


def test_plain_loaders_are_enough():
    images = TensorDataset(torch.rand(32, 1, 28, 28), torch.arange(32) % 10)
    module = ClassifierModule(MnistMLP())
    make_trainer().fit(module, DataLoader(images, batch_size=8), DataLoader(images, batch_size=8))

    assert not module.normalize.is_set
    assert module.input_shape == (1, 28, 28)


def test_input_shape_is_the_arguments_then_the_networks_then_the_datas(mnist_dir):
    assert ClassifierModule(MnistMLP(), input_shape=(3, 2, 2)).input_shape == (3, 2, 2)
    assert ClassifierModule(MnistMLP()).input_shape == (1, 28, 28)

    module = ClassifierModule(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))
    assert module.input_shape is None
    make_trainer().test(module, datamodule=make_data(mnist_dir), verbose=False)
    assert module.input_shape == (1, 28, 28)


@pytest.mark.parametrize("settings", [{"num_classes": 5}, {"input_shape": (3, 32, 32)}])
def test_data_that_do_not_fit_are_refused(mnist_dir, settings):
    module = ClassifierModule(MnistMLP(), **settings)
    with pytest.raises(InputError, match="data and model do not fit") as caught:
        make_trainer().fit(module, datamodule=make_data(mnist_dir))

    assert "MNISTDataModule has images of shape (1, 28, 28) in 10 classes" in str(caught.value)
    assert "ClassifierModule with MnistMLP" in str(caught.value)
    assert "\n" not in str(caught.value)


class OutputsFirst(nn.Module):
    """The layer that is made last is not the last one that runs."""

    def __init__(self):
        super().__init__()
        self.outputs, self.inputs = nn.Linear(7, 10), nn.Linear(784, 7)

    def forward(self, images):
        return self.outputs(self.inputs(images.flatten(1)))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(784, 7)),
            r"\(64, 7\), but num_classes is 10: .*a network with 10 outputs",
        ),
        (
            nn.Conv2d(1, 10, 28),
            r"\(64, 10, 1, 1\), .*: \(64, 10\) is needed; give a network with one output for each class",
        ),
        (MnistMLP(7), r"\(64, 7\), .*give --model.network.num_classes 10, or leave num_classes out"),
    ],
)
def test_a_network_whose_outputs_are_not_the_classes_is_refused(mnist_dir, network, message):
    module = ClassifierModule(network, num_classes=10)
    with pytest.raises(InputError, match=rf"{type(network).__name__} gives outputs of shape {message}"):
        make_trainer().fit(module, datamodule=make_data(mnist_dir))


def test_a_number_of_classes_that_was_guessed_wrong_is_refused():
    images = DataLoader(TensorDataset(torch.rand(8, 1, 28, 28), torch.arange(8)), batch_size=8)
    with pytest.raises(InputError, match=r"\(8, 10\), but num_classes is 7: .*give --model.num_classes 10"):
        make_trainer().test(ClassifierModule(OutputsFirst()), images)
    make_trainer().test(ClassifierModule(OutputsFirst(), num_classes=10), images, verbose=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 1}, r"ClassifierModule\(num_classes=1\): must be at least 2"),
        ({"label_smoothing": 1.5}, r"ClassifierModule\(label_smoothing=1.5\): must be between 0 and 1"),
        ({"scheduler_interval": "batch"}, r"ClassifierModule\(scheduler_interval='batch'\): must be 'epoch' or 'step'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        ClassifierModule(MnistMLP(), **settings)


def test_the_number_of_classes_is_that_of_the_network():
    images = TensorDataset(torch.rand(32, 1, 28, 28), torch.arange(32) % 3)
    module = ClassifierModule(MnistMLP(num_classes=3))
    make_trainer().test(module, DataLoader(images, batch_size=32), verbose=False)

    assert module.num_classes == module.hparams["num_classes"] == 3
    assert module.confusion.num_classes == module.test_accuracy.num_classes == 3


def test_a_number_of_classes_that_is_not_evident_has_to_be_given():
    with pytest.raises(InputError, match=r"the number of classes of Flatten is not evident; .*--model.num_classes N"):
        ClassifierModule(nn.Flatten())
    assert ClassifierModule(nn.Flatten(), num_classes=784).num_classes == 784
