"""Real images that excite units, at the end of epochs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from digits import Digits, fit
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fvlightning import ExamplesCallback, Maximizer, VisualizationCallback, score
from fvlightning.errors import InputError
from fvlightning.output import read_pixels


def units_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "examples.json").read_text())["units"]


def test_each_epoch_shows_the_strongest_of_the_same_images(tmp_path: Path):
    logger = TensorBoardLogger(tmp_path, name="run", version=0)
    module, _ = fit(tmp_path, ExamplesCallback(["conv:*", "fc:0"], k=2, n_images=30), logger=logger)
    folder = tmp_path / "run/version_0/examples"
    assert {path.name for path in folder.iterdir()} == {
        *(f"epoch_000{epoch}" for epoch in range(3)),
        *("conv.webp", "fc.webp"),
    }
    scores = score(module.net, ["fc:0"], Digits().images.images / 255)[:, 0]
    looked_at = [{one["place"] for one in units_of(folder / f"epoch_000{epoch}")[6]["tenths"]} for epoch in range(3)]
    (*_, unit) = units_of(folder / "epoch_0002")
    for example in unit["strongest"] + unit["weakest"]:
        assert example["score"] == pytest.approx(scores[example["place"]].item(), abs=1e-5)
    assert unit["n_images"] == 30
    assert len(looked_at[0]) == 10
    events = EventAccumulator(logger.log_dir).Reload()
    assert sorted(events.Tags()["images"]) == ["examples/conv", "examples/fc"]
    assert [event.step for event in events.Images("examples/conv")] == [0, 6, 12]
    assert all(0 <= event.value <= 1 for event in events.Scalars("examples/fc/active"))


def test_pictures_of_the_same_epoch_stand_beside_the_images(tmp_path: Path):
    def sheets(folder: str, *callbacks: Callback) -> list[int]:
        """Return the widths of the sheets of epochs."""
        fit(tmp_path / folder, *callbacks)
        return [read_pixels(tmp_path / folder / f"examples/epoch_000{epoch}/conv.png").shape[1] for epoch in range(3)]

    def pictures() -> VisualizationCallback:
        return VisualizationCallback(["conv:0", "-conv:1"], Maximizer(steps=2), every_n_epochs=2)

    alone = sheets("alone", ExamplesCallback("conv:0-1"))
    behind = sheets("behind", pictures(), ExamplesCallback("conv:0-1"))
    # Those of epochs 0 and 2 have a column of pictures and one of negatives.
    columns = 2 * (112 + 8 + 2 * 8)
    assert [wide - narrow for wide, narrow in zip(behind, alone, strict=True)] == [columns, 0, columns]
    with pytest.warns(UserWarning, match="VisualizationCallback only if that is listed before it; change their order"):
        assert sheets("before", ExamplesCallback("conv:0-1"), pictures()) == alone
    # Pictures of other weights are not shown.
    shutil.copytree(tmp_path / "behind/features/epoch_0000", tmp_path / "behind/features/epoch_0001")
    assert sheets("behind", pictures(), ExamplesCallback("conv:0-1")) == behind


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": "conv:0", "k": 0}, r"ExamplesCallback\(k=0\): must be at least 1"),
        ({"units": "conv:0", "n_images": 0}, r"ExamplesCallback\(n_images=0\): must be at least 1"),
        ({"units": "conf:0"}, "no layer 'conf' in Net.*Did you mean 'conv'"),
        ({"units": "conv:6"}, "no unit 6 in layer 'conv', which has 6 units"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, options: dict[str, Any], message: str):
    with pytest.raises(InputError, match=message):
        fit(tmp_path, ExamplesCallback(**options))
