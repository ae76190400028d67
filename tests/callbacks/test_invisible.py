"""Callbacks that show a network while it trains do not affect its training."""

from pathlib import Path

import pytest
import torch
from digits import fit

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
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        results.append((module.state_dict(), trainer.optimizers[0].state_dict(), metrics, torch.get_rng_state()))
    (weights, optimizer, metrics, rng), (weights_with, optimizer_with, metrics_with, rng_with) = results
    assert all(torch.equal(weights[name], weights_with[name]) for name in weights)
    for place, state in optimizer["state"].items():
        assert all(torch.equal(value, optimizer_with["state"][place][name]) for name, value in state.items())
    assert metrics == metrics_with
    assert torch.equal(rng, rng_with)
    assert len(list(tmp_path.glob("*/epoch_*/*.json"))) == 3
