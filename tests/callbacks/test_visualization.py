import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from digits import Classifier, Digits, assert_same_bits, make_trainer, training_result
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from fvlightning.callbacks import VisualizationCallback
from fvlightning.errors import InputError
from fvlightning.features import L2, Alignment, Direction, Feature, FourierImage, Maximizer, RawInput
from fvlightning.io import digest_of_weights
from fvlightning.output import contact_sheet, read_manifest, read_pixels, read_record

UNITS = ["conv:*", "fc:0-2", "-fc:3"]


def fit(folder: Path, *callbacks: Callback, seed: int = 0, **options: Any) -> tuple[Classifier, pl.Trainer]:
    pl.seed_everything(seed)
    module = Classifier()
    trainer = make_trainer(folder, *callbacks, **options)
    trainer.fit(module, Digits())
    return module, trainer


def records(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "features.json").read_text())


class Metrics(Callback):
    """Keeps what is logged at the end of each epoch."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.append({name: value.item() for name, value in trainer.callback_metrics.items()})


def test_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    results, metrics_seen = [], []
    for visualize in (False, True):
        metrics = Metrics()
        callbacks: list[Callback] = [metrics]
        if visualize:
            callbacks.append(VisualizationCallback(UNITS, Maximizer(steps=8), dirpath=str(tmp_path / "features")))
        options = {"max_epochs": 3, "accumulate_grad_batches": 2}
        module, trainer = fit(tmp_path, *callbacks, **options)
        results.append(training_result(module, trainer))
        metrics_seen.append(metrics.seen)
    assert_same_bits(*results)
    metrics_without, metrics_with = metrics_seen
    assert metrics_with == metrics_without
    assert len(metrics_with) == 3
    assert len(list((tmp_path / "features").glob("epoch_*"))) == 4


def test_network_is_left_as_it_was(tmp_path: Path) -> None:
    class Checks(Callback):
        checked = 0

        def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object) -> None:
            assert all(module.training for module in pl_module.net.modules())
            assert all(parameter.requires_grad for parameter in pl_module.parameters())
            assert not any(module._forward_hooks for module in pl_module.modules())
            self.checked += 1

    checks = Checks()
    fit(tmp_path, VisualizationCallback(UNITS, Maximizer(steps=4)), checks)
    assert checks.checked == 12


def test_every_epoch_has_its_pictures_sheets_and_records(tmp_path: Path) -> None:
    fit(tmp_path, VisualizationCallback(UNITS, Maximizer(steps=8, repeats=2)))
    for epoch in range(3):
        folder = tmp_path / "features" / f"epoch_{epoch:04d}"
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
        pictures = {f"conv/{index}{repeat}.png" for index in range(6) for repeat in ("", "_1")}
        pictures |= {f"fc/{name}{repeat}.png" for name in ("0", "1", "2", "-3") for repeat in ("", "_1")}
        assert found == pictures | {"conv.png", "fc.png", "features.json"}
        listed = records(folder)
        assert {record["file"] for record in listed} == pictures
        assert listed[0]["unit"] == "conv:0"
        assert listed[0]["model"] == "Net"
        assert listed[0]["epoch"] == epoch
        # Warm starts take a quarter of the steps.
        assert {record["steps"] for record in listed} == {8 if epoch == 0 else 2}
    assert np.asarray(PILImage.open(tmp_path / "features/epoch_0002/conv/3.png")).shape == (8, 8, 3)


def test_animation_shows_every_epoch(tmp_path: Path) -> None:
    fit(tmp_path, VisualizationCallback(UNITS, Maximizer(steps=4)))
    with PILImage.open(tmp_path / "features" / "conv.webp") as animation:
        assert animation.n_frames == 3
        with PILImage.open(tmp_path / "features/epoch_0000/conv.png") as sheet:
            assert animation.size == sheet.size


class NamedDigits(Digits):
    class_names = ("first", "second", "third", "3", "fifth", "sixth", "seventh", "eighth", "none", "no row")


def test_pictures_of_an_epoch_have_the_names_of_classes(tmp_path: Path) -> None:
    callback = VisualizationCallback(["fc:2-4", "-fc:2", "conv:0"], Maximizer(steps=2, repeats=2), animate=False)
    make_trainer(tmp_path, callback, max_epochs=1).fit(Classifier(), NamedDigits())
    folder = tmp_path / "features" / "epoch_0001"
    assert [record.get("class_name") for record in records(folder)[::2]] == ["third", "3", "fifth", "third", None]
    pictures = [read_pixels(folder / record["file"]) for record in records(folder)[:8]]
    labels = ["2 third", "2 third #1", "3", "3 #1", "4 fifth", "4 fifth #1", "-2 third", "-2 third #1"]
    expected = np.asarray(contact_sheet(pictures, labels, "fc, epoch 1"))
    np.testing.assert_array_equal(read_pixels(folder / "fc.png"), expected)


def test_pictures_have_their_records_inside_with_the_history_and_the_weights(tmp_path: Path) -> None:
    module, _ = fit(tmp_path, VisualizationCallback(["conv:0", "fc:1"], Maximizer(steps=8)), max_epochs=1)
    before, after = (read_manifest(tmp_path / f"features/epoch_000{epoch}") for epoch in (0, 1))
    for epoch, listed in enumerate((before, after)):
        for record in listed:
            assert read_record(tmp_path / f"features/epoch_000{epoch}" / record.file) == record
            assert len(record.history) == record.steps == (8 if epoch == 0 else 2)
            assert record.epoch == epoch
            assert record.image_shape == (1, 8, 8)
    assert {record.weights for record in after} == {digest_of_weights(module)}
    assert before[0].weights != after[0].weights


def test_snapshots_and_importance_are_written_as_visualize_writes_them(tmp_path: Path) -> None:
    maximizer = Maximizer(steps=8, snapshots=[2, 5], importance=True)
    fit(tmp_path, VisualizationCallback(["conv:0"], maximizer), max_epochs=1)
    first, second = (read_manifest(tmp_path / f"features/epoch_000{epoch}")[0] for epoch in (0, 1))
    assert (first.snapshots, first.snapshots_file) == ((2, 5), "conv/0_steps.png")
    assert second.snapshots == (2,), "a warm start makes fewer steps"
    with PILImage.open(tmp_path / "features/epoch_0000/conv/0_steps.png") as strip:
        assert strip.width == 3 * (112 + 8) + 8
    assert read_pixels(tmp_path / "features/epoch_0001/conv/0.png").shape == (8, 8, 4)


def test_sums_and_objectives_have_files_sheets_scalars_and_warm_starts(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    direction = Direction("fc", [1.0] * 5 + [0.0] * 5, 1.0)
    units = ["fc:1", "fc:1 - 0.5*fc:2", direction]
    module, _ = fit(tmp_path, VisualizationCallback(units, Maximizer(steps=8), log_units=True), logger=logger)
    run = tmp_path / "run/version_0"
    listed = read_manifest(run / "features/epoch_0002")
    assert [record.unit for record in listed] == ["fc:1", "fc:1 - 0.5*fc:2", str(direction)]
    assert [record.steps for record in listed] == [2, 2, 2]
    assert (run / "features/epoch_0002/sums.png").is_file()
    assert (run / "features/sums.webp").is_file()
    events = EventAccumulator(str(run), size_guidance={"images": 0, "scalars": 0}).Reload()
    assert set(events.Tags()["images"]) == {"visualization/fc", "visualization/sums"}
    for record in listed:
        (point,) = [p for p in events.Scalars(f"visualization/{record.file.removesuffix('.png')}") if p.step == 12]
        assert point.value == pytest.approx(record.score)
    pixels = read_pixels(run / "features/epoch_0002" / listed[1].file)[..., 0]
    logits = module.eval()(torch.tensor(pixels)[None, None] / 255)[0]
    assert listed[1].score == pytest.approx((logits[1] - 0.5 * logits[2]).item(), abs=1e-5)


def test_units_in_yaml_are_texts_or_objectives() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(VisualizationCallback, "callback")
    direction = {"class_path": "fvlightning.features.Direction", "init_args": {"layer": "fc", "vector": [1, 0]}}
    for units, expected in (
        ("conv:*", ["conv:*"]),
        (["conv:*", "fc:1 - fc:2", direction], ["conv:*", "fc:1 - fc:2", Direction("fc", [1, 0])]),
    ):
        config = parser.parse_string(yaml.safe_dump({"callback": {"units": units}}))
        assert parser.instantiate(config).callback.units == expected


def test_a_maximizer_is_taken_only_if_none_was_given() -> None:
    offered = Maximizer(steps=3)
    without, with_one = VisualizationCallback(["fc:0"]), VisualizationCallback(["fc:0"], Maximizer(steps=4))
    assert without.offer_maximizer(offered)
    assert without.maximizer is offered
    assert not with_one.offer_maximizer(offered)
    assert with_one.maximizer.settings.steps == 4
    with pytest.raises(InputError, match="cannot optimise them together"):
        without.offer_maximizer(Maximizer(joint_objectives=[Alignment()]))


def test_signed_values_of_a_layer_share_a_scale(tmp_path: Path) -> None:
    maximizer = Maximizer(steps=4, image=RawInput(), transforms=[], penalties=[L2(squared=True)])
    fit(tmp_path, VisualizationCallback(["conv:0-2", "fc:0"], maximizer), max_epochs=1)
    limits = {record.unit: record.limit for record in read_manifest(tmp_path / "features/epoch_0001")}
    assert limits["conv:0"] == limits["conv:1"] == limits["conv:2"] != limits["fc:0"]


def test_reported_score_is_reproduced_from_the_file(tmp_path: Path) -> None:
    module, _ = fit(tmp_path, VisualizationCallback(UNITS, Maximizer(steps=16)), max_epochs=1)
    folder = tmp_path / "features" / "epoch_0001"
    module.eval()
    for record in records(folder):
        picture = torch.tensor(np.asarray(PILImage.open(folder / record["file"]).convert("L"))) / 255
        with torch.no_grad():
            maps = module.net.conv(picture[None, None])
            logits = module(picture[None, None])[0]
        layer, index = record["unit"].lstrip("-").split(":")
        score = logits[int(index)] if layer == "fc" else maps[0, int(index)].mean()
        score = -score if record["unit"].startswith("-") else score
        assert score.item() == pytest.approx(record["score"], abs=1e-5)


def test_tensorboard_gets_sheets_and_the_mean_and_best_of_each_layer(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    fit(tmp_path, VisualizationCallback(UNITS, Maximizer(steps=8)), logger=logger)
    events = EventAccumulator(str(tmp_path / "run" / "version_0"), size_guidance={"images": 0, "scalars": 0}).Reload()
    assert set(events.Tags()["images"]) == {"visualization/conv", "visualization/fc"}
    images = events.Images("visualization/conv")
    assert [image.step for image in images] == [0, 6, 12]
    folder = tmp_path / "run" / "version_0" / "features"
    with PILImage.open(folder / "epoch_0002" / "conv.png") as sheet:
        assert (images[-1].width, images[-1].height) == sheet.size
    scores = {record["unit"]: record["score"] for record in records(folder / "epoch_0002")}
    scalars = [tag for tag in events.Tags()["scalars"] if tag.startswith("visualization/")]
    expected = [f"visualization/{layer}/{name}" for layer in ("conv", "fc") for name in ("best", "mean")]
    assert sorted(scalars) == [*expected, "visualization/seconds"]
    for layer in ("conv", "fc"):
        # A unit that is minimised counts by its score, the negative of its activation.
        of_layer = [score for unit, score in scores.items() if f"{layer}:" in unit]
        assert events.Scalars(f"visualization/{layer}/mean")[-1].value == pytest.approx(np.mean(of_layer))
        assert events.Scalars(f"visualization/{layer}/best")[-1].value == pytest.approx(max(of_layer))


def test_the_time_of_the_pictures_is_logged_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    started = time.perf_counter()
    fit(tmp_path, VisualizationCallback(UNITS, Maximizer(steps=8)), logger=logger)
    elapsed = time.perf_counter() - started
    events = EventAccumulator(str(tmp_path / "run" / "version_0")).Reload()
    seconds = [event.value for event in events.Scalars("visualization/seconds")]
    said = re.search(r"The pictures took ([\d.]+) of the training's ([\d.]+) s", caplog.text)
    assert len(seconds) == 3
    assert float(said[1]) == pytest.approx(sum(seconds), abs=0.06)
    assert sum(seconds) <= float(said[2]) + 0.1 <= elapsed + 0.2


def test_a_unit_that_was_dead_starts_anew_with_all_steps(tmp_path: Path) -> None:
    class SwitchOff(Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            is_off = trainer.current_epoch == 0
            torch.nn.init.constant_(pl_module.net.norm.weight, 0.0 if is_off else 1.0)
            torch.nn.init.constant_(pl_module.net.norm.bias, -1.0 if is_off else 0.0)

    callback = VisualizationCallback(["fc:0"], Maximizer(steps=8))
    with pytest.warns(UserWarning, match="epoch 1: 1 of 1 units do not respond to any step"):
        fit(tmp_path, SwitchOff(), callback, max_epochs=3)
    made = [records(tmp_path / f"features/epoch_{epoch:04d}")[0] for epoch in range(4)]
    assert [record["steps"] for record in made] == [8, 2, 8, 2]
    assert [record["status"] for record in made] == ["ok", "dead", "ok", "ok"]


def test_pictures_are_of_the_averaged_weights_by_choice(tmp_path: Path) -> None:
    results = {}
    for averaged in (None, False, True):
        callbacks: list[Callback] = [EMAWeightAveraging(decay=0.9)]
        if averaged is not None:
            folder = str(tmp_path / f"{averaged}")
            callbacks.append(VisualizationCallback(UNITS, Maximizer(steps=2), averaged=averaged, dirpath=folder))
        module, trainer = fit(tmp_path, *callbacks)
        results[averaged] = training_result(module, trainer)
        final = digest_of_weights(module)  # a training ends with the averaged weights
    for averaged in (False, True):
        assert_same_bits(results[averaged], results[None])
        shown = records(tmp_path / f"{averaged}" / "epoch_0002")[0]["weights"]
        assert (shown == final) == averaged
    with pytest.warns(UserWarning, match=r"VisualizationCallback\(averaged=True\) has no effect without a Weight"):
        fit(tmp_path, VisualizationCallback(UNITS, Maximizer(steps=2), averaged=True), max_epochs=1)


def test_units_have_scalars_if_asked_for(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="run", version=0)
    callback = VisualizationCallback(UNITS, Maximizer(steps=4, repeats=2), log_units=True)
    with pytest.warns(UserWarning, match="no logger takes images"):
        fit(tmp_path, callback, logger=logger, max_epochs=1)
    with (tmp_path / "run/version_0/metrics.csv").open() as file:
        logged = [row for row in csv.DictReader(file) if row["visualization/conv/mean"]][-1]
    for unit, name, sign in (("conv:4", "conv/4", 1), ("-fc:3", "fc/-3", -1)):
        scores = [
            record["score"]
            for record in records(tmp_path / "run/version_0/features/epoch_0001")
            if record["unit"] == unit
        ]
        # The activation itself, which is small where it was minimised.
        assert float(logged[f"visualization/{name}"]) == pytest.approx(sign * max(scores))


def test_a_large_layer_has_several_cards_and_one_file(tmp_path: Path) -> None:
    class Wide(Classifier):
        def __init__(self) -> None:
            super().__init__()
            self.net.fc = nn.Linear(6 * 4 * 4, 60)

    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    callback = VisualizationCallback(["fc:4-59"], Maximizer(steps=1), before_training=False)
    trainer = make_trainer(tmp_path, callback, logger=logger, max_epochs=1)
    trainer.fit(Wide(), Digits())
    run = tmp_path / "run/version_0"
    cards = [f"visualization/fc/{ends}" for ends in ("4-28", "29-53", "54-59")]
    events = EventAccumulator(str(run)).Reload()
    assert sorted(events.Tags()["images"]) == sorted(cards)
    listed = read_manifest(run / "features/epoch_0001")[25:50]
    pictures = [read_pixels(run / "features/epoch_0001" / record.file) for record in listed]
    expected = contact_sheet(pictures, [str(unit) for unit in range(29, 54)], "fc, epoch 1")
    (card,) = events.Images(cards[1])
    (tmp_path / "card.png").write_bytes(card.encoded_image_string)
    np.testing.assert_array_equal(read_pixels(tmp_path / "card.png"), np.asarray(expected))
    assert [path.name for path in (run / "features/epoch_0001").glob("*.png")] == ["fc.png"]


def test_logger_without_images_warns_once_and_files_are_written(tmp_path: Path) -> None:
    callback = VisualizationCallback(["conv:0"], Maximizer(steps=4))
    with pytest.warns(UserWarning, match="no logger takes images \\(CSVLogger\\): the pictures are in") as caught:
        fit(tmp_path, callback, logger=CSVLogger(tmp_path, name="run", version=0), max_epochs=1)
    assert len([warning for warning in caught if "takes images" in str(warning.message)]) == 1
    assert (tmp_path / "run/version_0/features/epoch_0001/conv/0.png").exists()
    assert "visualization/conv/best" in (tmp_path / "run/version_0/metrics.csv").read_text()


def test_every_n_epochs_and_not_before_training(tmp_path: Path) -> None:
    callback = VisualizationCallback(
        ["conv:0"], Maximizer(steps=2), every_n_epochs=2, before_training=False, animate=False
    )
    fit(tmp_path, callback, max_epochs=5)
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["epoch_0002", "epoch_0004"]


def test_trial_run_leaves_no_files(tmp_path: Path) -> None:
    fit(tmp_path, VisualizationCallback(["conv:0"], Maximizer(steps=2)), fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_cold_start_makes_pictures_anew(tmp_path: Path) -> None:
    fit(tmp_path, VisualizationCallback(["conv:0"], Maximizer(steps=4), warm_start=False))
    assert [record["steps"] for record in records(tmp_path / "features/epoch_0002")] == [4]


# It resumes without the ModelCheckpoint that wrote the checkpoint, on purpose.
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_warm_starts_are_kept_in_checkpoints(tmp_path: Path) -> None:
    def callback(name: str) -> VisualizationCallback:
        return VisualizationCallback(["conv:*"], Maximizer(steps=8), dirpath=str(tmp_path / name))

    def checkpoint(name: str) -> ModelCheckpoint:
        return ModelCheckpoint(tmp_path / name / "checkpoints", save_last=True, save_on_train_epoch_end=True)

    pl.seed_everything(0)
    module = Classifier()
    module.net.drop = nn.Identity()  # Lightning does not save the random state that dropout draws from
    make_trainer(tmp_path, callback("whole"), max_epochs=2).fit(module, Digits())
    pl.seed_everything(0)
    module = Classifier()
    module.net.drop = nn.Identity()
    options: dict[str, Any] = {"enable_checkpointing": True}
    make_trainer(tmp_path, callback("first"), checkpoint("first"), max_epochs=1, **options).fit(module, Digits())
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    module = Classifier()
    module.net.drop = nn.Identity()
    trainer = make_trainer(tmp_path, callback("second"), max_epochs=2)
    trainer.fit(module, Digits(), ckpt_path=last, weights_only=True)
    whole, second = (records(tmp_path / name / "epoch_0002") for name in ("whole", "second"))
    assert [record["score"] for record in second] == [record["score"] for record in whole]
    assert not (tmp_path / "second" / "epoch_0000").exists()


def test_raw_inputs_are_shown_with_signed_colours(tmp_path: Path) -> None:
    maximizer = Maximizer(steps=4, image=RawInput(), transforms=[], penalties=[L2(squared=True)])
    fit(tmp_path, VisualizationCallback(["conv:0"], maximizer), max_epochs=1)
    pixels = np.asarray(PILImage.open(tmp_path / "features/epoch_0001/conv/0.png")).astype(int)
    red, blue = pixels[..., 0], pixels[..., 2]
    assert (red > blue + 20).any()
    assert (blue > red + 20).any()


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (["conf:0"], r"no layer 'conf' in Net; layers: conv, norm, drop, fc\. Did you mean 'conv'\?"),
        (["fc:10"], r"no unit 10 in layer 'fc', which has 10 units: 0 to 9"),
    ],
)
def test_wrong_units_end_before_training(tmp_path: Path, units: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit(tmp_path, VisualizationCallback(units), logger=False)
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_gradients_ends_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "forward", torch.no_grad()(Classifier.forward))
    with pytest.raises(InputError, match=r"no gradient leads from layer 'fc' of Classifier .* under torch\.no_grad"):
        fit(tmp_path, VisualizationCallback(["fc:0"]), logger=False)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_size_that_the_network_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Classifier cannot take a picture of shape \(1, 9, 9\)"):
        fit(tmp_path, VisualizationCallback(["fc:0"], image_shape=(1, 9, 9)))


def test_an_unknown_picture_size_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Classifier, "input_shape")
    with pytest.raises(InputError, match="the shape of Classifier's pictures is not known; give"):
        fit(tmp_path, VisualizationCallback(["fc:0"]))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write to the folder .*file/features"):
        fit(tmp_path, VisualizationCallback(["fc:0"], dirpath=str(tmp_path / "file" / "features")))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="no units are given"):
        VisualizationCallback([])
    for units in (["fc:0", ""], ["fc:0 - ", "fc:1"]):
        with pytest.raises(InputError, match="malformed"):
            VisualizationCallback(units)
    with pytest.raises(InputError, match=r"every_n_epochs=0\): must be at least 1"):
        VisualizationCallback(["fc:0"], every_n_epochs=0)
    with pytest.raises(InputError, match=r"cannot optimise them together, as .* \(Alignment\)"):
        VisualizationCallback(UNITS, Maximizer(joint_objectives=[Alignment()]))
    with pytest.raises(InputError, match=r"warm_steps=0\): must be at least 1"):
        VisualizationCallback(["fc:0"], warm_steps=0)
    with pytest.warns(UserWarning, match="no effect with warm_start=False"):
        VisualizationCallback(["fc:0"], warm_steps=5, warm_start=False)


def test_unit_that_fails_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    class Poisoned(Callback):
        def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            with torch.no_grad():
                pl_module.net.fc.bias[1] = torch.nan

    callback = VisualizationCallback(["fc:0-2"], Maximizer(steps=4), before_training=False)
    with pytest.warns(UserWarning, match="epoch 1: 1 of 3 units gave values that are not finite; .*: fc:1"):
        fit(tmp_path, Poisoned(), callback, max_epochs=1)
    status = {record["unit"]: record["status"] for record in records(tmp_path / "features/epoch_0001")}
    assert status == {"fc:0": "ok", "fc:1": "non-finite", "fc:2": "ok"}


def test_two_processes_make_the_pictures_of_one(tmp_path: Path) -> None:
    program = Path(__file__).with_name("fit_on_ranks.py")
    path = os.pathsep.join([str(program.parents[1]), *sys.path])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PL_DISABLE_FORK": "1"}
    runs = []
    for count in (1, 2):
        (tmp_path / str(count)).mkdir()
        command = [sys.executable, str(program), str(count), str(tmp_path / str(count))]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        runs.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    for run in runs:
        _, errors = run.communicate(timeout=100)
        assert run.returncode == 0, errors
    for epoch in ("epoch_0000", "epoch_0001"):
        one, two = (records(tmp_path / count / epoch) for count in ("1", "2"))
        assert [record["unit"] for record in two] == [f"conv:{i}" for i in range(6)] + [f"fc:{i}" for i in range(5)]
        assert [record["unit"] for record in one] == [record["unit"] for record in two]
        for layer in ("conv", "fc"):
            sheets = [np.asarray(PILImage.open(tmp_path / n / epoch / f"{layer}.png")) / 255 for n in ("1", "2")]
            # A difference of a rounding is one level of 8 bits.
            assert np.abs(sheets[0] - sheets[1]).mean() < 1e-3
            assert np.abs(sheets[0] - sheets[1]).max() <= 1.01 / 255


def test_a_failure_ends_training_with_its_own_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object, **kwargs: object) -> list[Feature]:
        raise RuntimeError("the device is gone")

    callback = VisualizationCallback(["fc:0"], Maximizer(steps=4, image=FourierImage()))
    monkeypatch.setattr(callback.maximizer, "stream", fails)
    with pytest.raises(RuntimeError, match="the device is gone"):
        fit(tmp_path, callback)
