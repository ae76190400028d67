import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from torch import nn

from fvlightning.features import Feature, FourierImage, Maximizer, PixelImage, RawInput, UnitActivation
from fvlightning.output import FeatureWriter, contact_sheet, read_manifest, read_pixels, read_record

SHAPE = (1, 8, 8)
UNITS = ["0:0", "2:1", "-2:2"]


def make_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 4)).eval()


def make_maximizer(**options: Any) -> Maximizer:
    return Maximizer(**{"steps": 3, "image": PixelImage(), "transforms": [], **options})


def make(
    folder: Path, units: Sequence[Any] = UNITS, network: nn.Module | None = None, **options: Any
) -> tuple[FeatureWriter, list[Feature]]:
    """Make the pictures of units, and return the writer that has written them."""
    network = make_network() if network is None else network
    given = {name: options.pop(name) for name in ("class_names", "epoch") if name in options}
    maximizer = make_maximizer(**options)
    features = maximizer.maximize(network, units, SHAPE)
    resolved = list(dict.fromkeys(feature.unit for feature in features))
    writer = FeatureWriter(folder, resolved, maximizer, network, SHAPE, **given)
    for feature in features:
        writer.write(feature)
    return writer, features


def test_a_writer_makes_pictures_sheets_and_records(tmp_path: Path) -> None:
    writer, features = make(tmp_path, class_names={"2:1": "cat"})
    records, sheets = writer.finish()
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert files == {"0/0.png", "2/1.png", "2/-2.png", "0.png", "2.png", "features.json"}
    assert read_manifest(tmp_path) == records
    for feature, record in zip(features, records, strict=True):
        assert read_record(tmp_path / record.file) == record
        assert (record.unit, record.score, record.steps) == (feature.name, feature.score, 3)
        assert record.history == pytest.approx(feature.history.tolist(), rel=1e-5)
        assert (record.model, record.image_shape) == ("Sequential", SHAPE)
        assert set(record.versions) == {"fvlightning", "torch", "lightning"}
        np.testing.assert_allclose(read_pixels(tmp_path / record.file)[..., 0] / 255, feature.image[0], atol=1e-6)
    assert [record.class_name for record in records] == [None, "cat", None]
    pixels = [read_pixels(tmp_path / file) for file in ("2/1.png", "2/-2.png")]
    expected = np.asarray(contact_sheet(pixels, ["1 cat", "-2"], "Sequential, 2"))
    np.testing.assert_array_equal(np.asarray(sheets["2"]), expected)
    np.testing.assert_array_equal(read_pixels(tmp_path / "2.png"), expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"importance": True},
        {"repeats": 2, "image": RawInput()},
        {"importance": True, "image": RawInput()},
        {"units": ["2:1", "2:1 - 2:2"]},
        {"units": [f"0:0@{row},{column}" for row in range(6) for column in range(6)] + ["2:1"]},  # several cards
    ],
)
def test_pictures_just_written_are_not_read_back(tmp_path: Path, options: dict[str, Any]) -> None:
    writer, features = make(tmp_path, **options)
    written = writer.write(*features)
    records, sheets = writer.finish()
    (tmp_path / "2/1.png").write_bytes(b"")
    again, sheets_again = writer.finish(written)
    assert again == records
    assert sheets_again.keys() == sheets.keys()
    for name, sheet in sheets.items():
        np.testing.assert_array_equal(np.asarray(sheets_again[name]), np.asarray(sheet))
    rest = {file: picture for file, picture in written.items() if file != "2/1.png"}
    assert [record.file for record in writer.finish(rest)[0]] == [r.file for r in records if r.file != "2/1.png"]


def test_pictures_are_named_after_the_model_that_timm_knows(tmp_path: Path) -> None:
    network = make_network()
    network.model_name = "tf_efficientnet_lite0"
    writer, _ = make(tmp_path, ["2:1"], network)
    records, sheets = writer.finish()
    assert records[0].model == "tf_efficientnet_lite0"
    expected = contact_sheet([read_pixels(tmp_path / "2/1.png")], ["1"], "tf_efficientnet_lite0, 2")
    np.testing.assert_array_equal(np.asarray(sheets["2"]), np.asarray(expected))


@pytest.mark.parametrize(("epoch", "title"), [(0, "2, before training"), (3, "2, epoch 3")])
def test_pictures_of_an_epoch_say_so(tmp_path: Path, epoch: int, title: str) -> None:
    writer, _ = make(tmp_path, ["2:1"], epoch=epoch)
    (record,), sheets = writer.finish()
    assert record.epoch == epoch
    expected = contact_sheet([read_pixels(tmp_path / "2/1.png")], ["1"], title)
    np.testing.assert_array_equal(np.asarray(sheets["2"]), np.asarray(expected))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 4},
        {"seed": 1},
        {"repeats": 2},
        {"snapshots": [2]},
        {"importance": True},
        {"image": FourierImage()},
        {"network": make_network(1)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_and_other_weights_make_other_pictures(tmp_path: Path, change: dict[str, Any]) -> None:
    writer, _ = make(tmp_path)
    assert writer.missing() == []
    (tmp_path / "other").mkdir()
    other, _ = make(tmp_path / "other", **change)
    assert other.missing() == []
    other.folder = tmp_path
    assert [str(unit) for unit in other.missing()] == UNITS


def test_a_unit_is_missing_if_a_picture_or_a_strip_of_it_is(tmp_path: Path) -> None:
    writer, _ = make(tmp_path, repeats=2, snapshots=[1, 3, 50])
    assert writer.missing() == []
    (tmp_path / "0/0_steps.png").unlink()
    (tmp_path / "2/1_1.png").write_bytes((tmp_path / "2/1_1.png").read_bytes()[:-30])
    assert [str(unit) for unit in writer.missing()] == ["0:0", "2:1"]
    strips = [tmp_path / f"0/0{repeat}_steps.png" for repeat in ("", "_1")]
    (tmp_path / "0/0_steps.png").write_bytes((tmp_path / "0/0_1_steps.png").read_bytes())
    assert str(writer.missing()[0]) == "0:0", "the strip of another picture"
    strips[1].write_bytes(strips[1].read_bytes()[:-30])
    assert str(writer.missing()[0]) == "0:0", "a damaged strip"
    # The picture of another unit in its place does not count.
    os.replace(tmp_path / "2/1.png", tmp_path / "2/-2.png")
    assert [str(unit) for unit in writer.missing()] == UNITS


def test_snapshots_are_a_strip_and_an_older_strip_goes(tmp_path: Path) -> None:
    writer, features = make(tmp_path, ["2:1"], snapshots=[3, 1])
    record = read_record(tmp_path / "2/1.png")
    assert record is not None
    assert (record.snapshots, record.snapshots_file) == ((1, 3), "2/1_steps.png")
    with PILImage.open(tmp_path / "2/1_steps.png") as strip:
        assert strip.width > 3 * 112
    # Pictures with snapshots are also those of a run that does not ask for them.
    without = FeatureWriter(tmp_path, [features[0].unit], make_maximizer(), make_network(), SHAPE)
    assert without.missing() == []
    make(tmp_path, ["2:1"])
    assert not (tmp_path / "2/1_steps.png").exists()
    assert len(writer.missing()) == 1


def test_pictures_that_failed_have_records_and_are_not_missing(tmp_path: Path) -> None:
    network = make_network()
    with torch.no_grad():
        network[2].bias[1] = torch.nan
    writer, _ = make(tmp_path, network=network, snapshots=[2])
    assert writer.missing() == []
    records, _ = writer.finish()
    assert [record.status for record in records] == ["ok", "non-finite", "ok"]
    assert records[1].score is None
    json.loads((tmp_path / "features.json").read_text(), parse_constant=pytest.fail)


def test_signed_values_have_their_limit_in_the_record(tmp_path: Path) -> None:
    options = {"image": RawInput(), "optimizer": torch.optim.SGD}
    _, (feature,) = make(tmp_path, ["2:1"], **options)
    record = read_record(tmp_path / "2/1.png")
    assert record is not None
    assert record.limit == feature.image.abs().max().item()
    writer, (feature,) = make(tmp_path, ["2:1"], **options)
    writer.write(feature, replace(feature, repeat=1, image=torch.full(SHAPE, 100.0)))
    record = read_record(tmp_path / "2/1.png")
    assert record is not None
    assert record.limit == 100.0
    assert (read_pixels(tmp_path / "2/1.png") > 230).all(), "pale, because the scale is that of larger values"


def test_importance_is_the_alpha_channel_and_the_sheet_has_none(tmp_path: Path) -> None:
    writer, features = make(tmp_path, importance=True)
    _, sheets = writer.finish()
    for feature in features:
        assert feature.importance is not None
        pixels = read_pixels(tmp_path / writer.finish()[0][features.index(feature)].file)
        np.testing.assert_allclose(pixels[..., 3] / 255, feature.importance, atol=0.5 / 255 + 1e-6)
    assert {sheet.mode for sheet in sheets.values()} == {"RGB"}


def test_objectives_have_a_sheet_of_their_own(tmp_path: Path) -> None:
    difference = UnitActivation("2:1") - UnitActivation("2:3")
    writer, _ = make(tmp_path, ["2:1", difference])
    records, sheets = writer.finish()
    assert list(sheets) == ["2", "sums"]
    assert [record.file for record in records] == ["2/1.png", "sums/2=1-2=3.png"]
    assert writer.missing() == []


def test_earlier_pictures_are_listed_and_copied_ones_are_not(tmp_path: Path) -> None:
    earlier, _ = make(tmp_path, ["0:0", "0:1"])
    earlier.finish()
    writer, _ = make(tmp_path, ["2:1"])
    (tmp_path / "0/copy.png").write_bytes((tmp_path / "0/0.png").read_bytes())
    records, sheets = writer.finish()
    assert [record.unit for record in records] == ["2:1"]
    assert list(sheets) == ["2"]
    assert [record.unit for record in read_manifest(tmp_path)] == ["2:1", "0:0", "0:1"]
