"""What arrives in loggers, read back from where they keep it. MLflow and Weights & Biases are optional."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from digits import Classifier, Digits
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fvlightning.callbacks import VisualizationCallback
from fvlightning.features import Maximizer
from fvlightning.output import log_image, log_scalars, read_manifest, read_pixels, takes_images

UNITS = ["conv:0-2", "fc:1", "fc:1 - 0.5*fc:2"]


def make_sheet() -> PILImage.Image:
    return PILImage.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))


def fit(folder: Path, logger: Logger) -> Path:
    """Train for an epoch, and return the folder of the pictures."""
    pl.seed_everything(0)
    callback = VisualizationCallback(UNITS, Maximizer(steps=2), log_units=True, dirpath=str(folder / "features"))
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        default_root_dir=folder,
        callbacks=[callback],
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(), Digits())
    return folder / "features"


@pytest.fixture
def mlflow_logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("mlflow")
    from lightning.pytorch.loggers import MLFlowLogger

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return MLFlowLogger("digits", tracking_uri=(tmp_path / "mlruns").as_uri())


@pytest.fixture
def wandb_logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    wandb = pytest.importorskip("wandb")
    from lightning.pytorch.loggers import WandbLogger

    monkeypatch.setenv("WANDB_SILENT", "true")
    yield WandbLogger(project="digits", save_dir=tmp_path, offline=True)
    wandb.finish()


def test_mlflow_keeps_the_pixels_of_a_sheet(tmp_path: Path, mlflow_logger: Any) -> None:
    assert takes_images(mlflow_logger)
    sheet = make_sheet()
    log_image([mlflow_logger], "features/relu#1", sheet, 12)
    client, run = mlflow_logger.experiment, mlflow_logger.run_id
    path = client.download_artifacts(run, "features/relu_1/step_00000012.png", tmp_path)
    np.testing.assert_array_equal(read_pixels(Path(path)), np.asarray(sheet))


def test_mlflow_takes_scalars_of_any_unit(mlflow_logger: Any) -> None:
    log_scalars([mlflow_logger], {"visualization/relu#1/3@4,5": 0.5, "visualization/sums/(a=1+b=2)": -1.0}, 7)
    metrics = mlflow_logger.experiment.get_run(mlflow_logger.run_id).data.metrics
    assert metrics == {"visualization/relu_1/3_4_5": 0.5, "visualization/sums/_a_1_b_2_": -1.0}
    (point,) = mlflow_logger.experiment.get_metric_history(mlflow_logger.run_id, "visualization/relu_1/3_4_5")
    assert point.step == 7


def test_mlflow_gets_the_sheets_and_scalars_of_every_epoch(tmp_path: Path, mlflow_logger: Any) -> None:
    folder = fit(tmp_path, mlflow_logger)
    client, run = mlflow_logger.experiment, mlflow_logger.run_id
    for epoch, step in ((0, 0), (1, 6)):
        for layer in ("conv", "fc", "sums"):
            path = client.download_artifacts(run, f"visualization/{layer}/step_{step:08d}.png", tmp_path)
            np.testing.assert_array_equal(
                read_pixels(Path(path)), read_pixels(folder / f"epoch_000{epoch}/{layer}.png")
            )
    scores = {record.unit: record.score for record in read_manifest(folder / "epoch_0001")}
    metrics = client.get_run(run).data.metrics
    assert metrics["visualization/conv/2"] == pytest.approx(scores["conv:2"])
    assert metrics["visualization/sums/fc_1-0.5xfc_2"] == pytest.approx(scores["fc:1 - 0.5*fc:2"])


def test_wandb_keeps_the_pixels_of_the_sheets_of_every_epoch(tmp_path: Path, wandb_logger: Any) -> None:
    assert takes_images(wandb_logger)
    folder = fit(tmp_path, wandb_logger)
    media = Path(wandb_logger.experiment.dir) / "media/images/visualization"
    for layer in ("conv", "fc", "sums"):
        files = sorted(media.glob(f"{layer}_*.png"), key=lambda file: int(file.name.split("_")[1]))
        for file, epoch in zip(files, (0, 1), strict=True):
            np.testing.assert_array_equal(read_pixels(file), read_pixels(folder / f"epoch_000{epoch}/{layer}.png"))
    summary = wandb_logger.experiment.summary
    scores = {record.unit: record.score for record in read_manifest(folder / "epoch_0001")}
    assert summary["visualization/conv/2"] == pytest.approx(scores["conv:2"])
    assert summary["visualization/sums/fc=1-0.5xfc=2"] == pytest.approx(scores["fc:1 - 0.5*fc:2"])


def test_tensorboard_keeps_the_pixels_of_a_sheet(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    sheet = make_sheet()
    log_image([logger], "features/conv", sheet, 3)
    logger.finalize("success")
    (event,) = EventAccumulator(logger.log_dir).Reload().Images("features/conv")
    (tmp_path / "sheet.png").write_bytes(event.encoded_image_string)
    np.testing.assert_array_equal(read_pixels(tmp_path / "sheet.png"), np.asarray(sheet))
    assert (event.step, event.width, event.height) == (3, 24, 16)


def test_writers_like_tensorboards_get_pixels() -> None:
    class Experiment:
        def add_image(self, *args: Any, **options: Any) -> None:
            self.got = args, options

    logger = SimpleNamespace(experiment=Experiment())
    sheet = make_sheet()
    log_image([logger], "features/conv", sheet, 3)  # type: ignore[list-item]
    (tag, pixels, step), options = logger.experiment.got
    assert (tag, step, options) == ("features/conv", 3, {"dataformats": "HWC"})
    np.testing.assert_array_equal(pixels, np.asarray(sheet))


def test_loggers_without_pictures_get_none(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    assert not takes_images(logger)
    log_image([logger], "features/conv", make_sheet(), 3)
