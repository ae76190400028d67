"""Callbacks that show a network while it trains do not affect its training."""

from pathlib import Path

import pytest
from digits import assert_same_bits, fit, training_result

from fvlightning.callbacks import EpochPictures, ExamplesCallback, InspectionCallback


@pytest.mark.parametrize(
    "callback",
    [ExamplesCallback(["conv:*", "fc:0"], n_images=20), InspectionCallback(["conv", "drop"], classes=True)],
    ids=lambda callback: type(callback).__name__,
)
def test_training_ends_with_the_same_bits(tmp_path: Path, callback: EpochPictures):
    results = []
    for callbacks in ([], [callback]):
        module, trainer = fit(tmp_path, *callbacks, accumulate_grad_batches=2)
        assert all(part.training for part in module.net.modules())
        results.append(training_result(module, trainer))
    assert_same_bits(*results)
    assert len(list(tmp_path.glob("*/epoch_*/*.json"))) == 3
