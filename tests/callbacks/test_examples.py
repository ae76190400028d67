"""Real images that excite units, at the end of epochs."""

import json
from pathlib import Path
from typing import Any

import pytest
from digits import Digits, fit
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fvlightning import ExamplesCallback, score
from fvlightning.errors import InputError


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
