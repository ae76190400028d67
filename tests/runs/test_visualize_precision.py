"""`visualize` in mixed precision, and the size of its batches."""

from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from digits import Classifier
from torch import Tensor
from visualizing import COMMON, records

from fvlightning.cli import main
from fvlightning.features import Maximizer
from fvlightning.output import read_pixels
from fvlightning.trainer import Trainer

pytestmark = [
    pytest.mark.usefixtures("in_folder"),
    pytest.mark.filterwarnings("ignore:visualize without --ckpt_path"),
    pytest.mark.filterwarnings("ignore:.*Consider setting `trainer.devices`"),
]


class Spy(Classifier):
    """Records the batch sizes and the dtypes of its convolution."""

    def __init__(self) -> None:
        super().__init__()
        # Not its own list and set, which would be as before after the pictures.
        self.seen = SimpleNamespace(sizes=[], dtypes=set())
        self.net.conv.register_forward_hook(lambda _module, _inputs, output: self.note(output))

    def note(self, output: Tensor) -> None:
        self.seen.sizes.append(len(output))
        self.seen.dtypes.add(output.dtype)


def make_trainer(precision: str) -> Trainer:
    return Trainer(accelerator="cpu", devices=1, precision=precision, logger=False, enable_checkpointing=False)


def test_pictures_in_mixed_precision_are_close_to_those_in_full():
    rate = ["--maximizer.optimizer", "Adam", "--maximizer.optimizer.lr", "0.05", "--maximizer.optimizer.eps", "0.001"]
    small_steps = [*rate, "--maximizer.normalize_gradients", "true"]
    arguments = [*COMMON, *small_steps, "--units", '["conv:*", "fc:*"]']
    assert main([*arguments, "--output_dir", "full"]) == 0
    assert main([*arguments, "--output_dir", "mixed", "--trainer.precision", "bf16-mixed"]) == 0
    for full, mixed in zip(records("full"), records("mixed"), strict=True):
        assert mixed["unit"] == full["unit"]
        assert mixed["status"] == "ok"
        assert mixed["score"] == pytest.approx(full["score"], rel=0.1, abs=0.02)
        pixels = [read_pixels(Path(folder, full["file"])).astype(float) for folder in ("full", "mixed")]
        assert pixels[0].std() > 4, "not grey"
        assert np.abs(pixels[0] - pixels[1]).mean() < 6


def test_the_network_runs_in_the_trainers_precision_with_a_layer_a_batch():
    pl.seed_everything(0)
    spy = Spy()
    make_trainer("bf16-mixed").visualize(spy, ["conv:*", "fc:*"], Maximizer(steps=4), "mixed")
    assert torch.bfloat16 in spy.seen.dtypes
    assert max(spy.seen.sizes) == 10, "all units of a layer are one batch"
    for record in records("mixed"):
        pixels = torch.from_numpy(read_pixels(Path("mixed", record["file"]))[None, None, ..., 0] / np.float32(255))
        with torch.no_grad(), torch.autocast("cpu"):
            maps = spy.eval().net.conv(pixels)[0].float().mean((1, 2))
            scores = maps if record["unit"].startswith("conv") else spy(pixels)[0].float()
        assert record["score"] == pytest.approx(scores[int(record["unit"].split(":")[1])].item(), abs=1e-6)


def test_batch_size_limits_the_pictures_at_once():
    spy = Spy()
    make_trainer("32-true").visualize(spy, ["fc:*"], Maximizer(steps=4), batch_size=3)
    assert max(spy.seen.sizes) == 3
    assert len(records()) == 10
