"""`visualize`: sums of units, strips of snapshots, importance, and the batches of units."""

from functools import partial
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from digits import Classifier
from PIL import Image as PILImage
from visualizing import COMMON, files, records

from fvlightning.cli import main
from fvlightning.features import Alignment, Maximizer, Unit, UnitActivation
from fvlightning.runs._prediction import UnitSampler
from fvlightning.trainer import Trainer

pytestmark = [
    pytest.mark.usefixtures("in_folder"),
    pytest.mark.filterwarnings("ignore:visualize without --ckpt_path"),
    pytest.mark.filterwarnings("ignore:.*Consider setting `trainer.devices`"),
]


def test_sums_have_files_records_and_scores(caplog):
    caplog.set_level("INFO")
    long = " + ".join(f"fc:{index}" for index in range(10)) + " - 0.25*conv:3 + 0.125*conv:4 + 2*conv:5"
    arguments = ["--units", f'["fc:1", "fc:1 - 0.5*fc:2", "conv:0 + 3*fc:1", "{long}"]']
    assert main([*COMMON, *arguments]) == 0
    one, difference, across, last = records()
    assert [one["file"], difference["file"], across["file"]] == [
        "fc/1.png",
        "sums/fc=1-0.5xfc=2.png",
        "sums/conv=0+3xfc=1.png",
    ]
    assert [record["unit"] for record in records()[1:]] == ["fc:1 - 0.5*fc:2", "conv:0 + 3*fc:1", long]
    assert files() == {"fc.png", "sums.png", "features.json", *(record["file"] for record in records())}
    assert len(Path(last["file"]).name) < 100
    pl.seed_everything(0)
    module = Classifier().eval()
    picture = torch.tensor(np.asarray(PILImage.open(Path("out", across["file"])).convert("L")))[None, None] / 255
    with torch.no_grad():
        score = module.net.conv(picture)[0, 0].mean() + 3 * module(picture)[0, 1]
    assert score.item() == pytest.approx(across["score"], abs=1e-4)
    assert main([*COMMON, *arguments]) == 0
    assert "4 of 4 units are in out already, and kept" in caplog.text


def test_each_picture_has_one_strip_of_snapshots():
    arguments = [*COMMON, "--units", '["conv:0-1", "fc:0 + fc:1"]', "--maximizer.repeats=2"]
    snapshots = "--maximizer.snapshots=[1, 4, 100]"
    assert main(arguments) == 0
    without = files()
    assert main([*arguments, snapshots]) == 0
    strips = {f"conv/{name}_steps.png" for name in ("0", "0_1", "1", "1_1")}
    strips |= {"sums/fc=0+fc=1_steps.png", "sums/fc=0+fc=1_1_steps.png"}
    assert files() == without | strips
    assert {record["snapshots_file"] for record in records()} == strips
    assert {tuple(record["snapshots"]) for record in records()} == {(1, 4)}
    # Three pictures side by side. The last is the saved one, enlarged by a whole factor.
    with PILImage.open("out/conv/0_steps.png") as strip, PILImage.open("out/conv/0.png") as picture:
        enlarged = picture.resize((112, 112), PILImage.Resampling.NEAREST)
        places = np.asarray(strip)
        assert strip.width == 3 * (112 + 8) + 8
        row = next(y for y in range(strip.height) if (places[y : y + 112, -120:-8] == np.asarray(enlarged)).all())
        assert (places[row : row + 112, 8:120] != np.asarray(enlarged)).any()


def test_the_manifest_lists_the_pictures_of_earlier_runs_last():
    assert main([*COMMON, "--units", '["conv:0-1", "fc:2"]', "--maximizer.snapshots=[1]"]) == 0
    earlier = records()
    assert main([*COMMON, "--units", '["fc:2", "fc:3"]', "--seed_everything=0", "--maximizer.seed=5"]) == 0
    assert [record["unit"] for record in records()] == ["fc:2", "fc:3", "conv:0", "conv:1"]
    assert [record["seed"] for record in records()] == [5, 5, 0, 0]
    assert records()[2:] == earlier[:2]
    # The strip of a replaced picture is removed.
    assert {name for name in files() if "steps" in name} == {"conv/0_steps.png", "conv/1_steps.png"}


def test_a_missing_strip_is_made_again_with_only_its_picture():
    arguments = [*COMMON, "--units", '["conv:0-1"]', "--maximizer.snapshots=[1, 4]"]
    assert main(arguments) == 0
    expected = records()
    Path("out/conv/0_steps.png").unlink()
    kept = Path("out/conv/1.png").stat().st_mtime_ns
    assert main(arguments) == 0
    assert Path("out/conv/0_steps.png").is_file()
    assert Path("out/conv/1.png").stat().st_mtime_ns == kept
    assert records() == expected
    # Without snapshots the pictures are kept; with others they are made again.
    assert main([*arguments[:-1]]) == 0
    assert Path("out/conv/1.png").stat().st_mtime_ns == kept
    assert main([*arguments[:-1], "--maximizer.snapshots=[2]"]) == 0
    assert Path("out/conv/1.png").stat().st_mtime_ns > kept


def test_importance_is_the_alpha_channel(caplog):
    caplog.set_level("INFO")
    arguments = [*COMMON, "--units", '["conv:0-1"]']
    assert main([*arguments, "--output_dir=opaque"]) == 0
    for _ in range(2):
        assert main([*arguments, "--maximizer.importance=true"]) == 0
    assert "2 of 2 units are in out already, and kept" in caplog.text
    for opaque, record in zip(records("opaque"), records(), strict=True):
        assert record["score"] == opaque["score"]
        with PILImage.open(Path("out", record["file"])) as picture:
            assert picture.mode == "RGBA"
            pixels = np.asarray(picture)
        with PILImage.open(Path("opaque", record["file"])) as picture:
            np.testing.assert_array_equal(pixels[..., :3], np.asarray(picture))
        assert pixels[..., 3].min() < 128
        assert pixels[..., 3].max() == 255
    with PILImage.open("out/conv.png") as sheet:
        assert sheet.mode == "RGB"


def test_units_are_dealt_out_evenly_in_batches_of_the_same_layers():
    units = [Unit("a", index) for index in range(5)] + [Unit("b", 0), Unit("c", 0)]
    units += [UnitActivation("a:0") + UnitActivation("b:1"), UnitActivation("b:2") + UnitActivation("a:3")]
    parts = [list(UnitSampler(units, 2, rank)) for rank in range(2)]
    assert parts == [[[0, 2, 4], [6], [8]], [[1, 3], [5], [7]]]
    assert list(UnitSampler(units, 1, 0)) == [[0, 1, 2, 3, 4], [5], [6], [7, 8]]


class CountsSteps(pl.Callback):
    n_steps = 0

    def on_predict_batch_end(self, *args: object) -> None:
        self.n_steps += 1


def test_a_prediction_step_makes_a_layer_and_writes_each_picture_when_it_is_done():
    pl.seed_everything(0)
    counts = CountsSteps()
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, callbacks=[counts])
    optimizer = partial(torch.optim.Adam, lr=0.1)
    maximizer = Maximizer(steps=160, patience=3, min_delta=0.02, transforms=[], optimizer=optimizer)
    trainer.visualize(Classifier(), ["fc:*", "conv:*"], maximizer, "out", batch_size=4)
    assert counts.n_steps == 2, "batches of 4 are the maximizer's own"
    for layer, n_units in {"fc": 10, "conv": 6}.items():
        written = {record["unit"]: Path("out", record["file"]).stat().st_mtime_ns for record in records()}
        steps = {record["unit"]: record["steps"] for record in records()}
        of_layer = [unit for unit in written if unit.startswith(layer)]
        assert len(of_layer) == n_units
        first = sorted((f"{layer}:{index}" for index in range(4)), key=lambda unit: written[unit])
        rounds = [(steps[unit] + 15) // 16 for unit in first]
        assert rounds == sorted(rounds), "pictures that stop first are written first"
    assert len(set(steps.values())) > 1


def test_joined_units_are_made_together():
    units = [Unit("conv", 0), Unit("fc", 0)]
    assert [list(UnitSampler(units, 2, rank, joined=True)) for rank in range(2)] == [[[0, 1]], []]
    maximizer = Maximizer(steps=4, joint_objectives=[Alignment()])
    times = []
    for _ in range(2):
        pl.seed_everything(0)
        trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
        trainer.visualize(Classifier(), ["conv:0-2", "fc:0"], maximizer, "out", batch_size=1)
        times.append(Path("out/conv/0.png").stat().st_mtime_ns)
        Path("out/conv/1.png").unlink()  # without it the others cannot be as they were
    assert times[1] > times[0]
