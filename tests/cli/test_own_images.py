"""A user's own folder of images with a network of this package needs one option, which the error names."""

import re

import numpy as np
import pytest
import torch
from PIL import Image as PILImage

from fvlightning.cli import main


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """Return the command that trains on bright, dark and middling squares of 40 pixels."""
    monkeypatch.chdir(tmp_path)
    for place, name in enumerate(["bright", "dark", "middling"]):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(10):
            pixels = np.full((40, 40, 3), 250 - 100 * place - number, np.uint8)
            PILImage.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    trainer = ["--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
    model = ["--model=ClassifierModule", "--model.network=CifarCNN"]
    return ["fit", *model, *trainer, "--data=ImageFolderDataModule", "--data.data_dir=photos", "--data.image_size=32"]


def test_the_error_names_the_option_that_is_needed(fit, capsys):
    assert main(fit) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "ImageFolderDataModule has images of shape (3, 32, 32) in 3 classes" in line
    option, for_more_classes = re.findall(r"--model\S+ \d+", line)
    assert for_more_classes == "--model.num_classes 10"
    assert main([*fit, *option.split(), "--test_after_fit=true"]) == 0
    assert "test/f1" in capsys.readouterr().out

    checkpoint = "runs/default/version_1/checkpoints/last.ckpt"
    assert main(["test", *fit[1:], "--ckpt_path", checkpoint]) == 0
    assert len(torch.load(checkpoint, weights_only=True)["state_dict"]["net.fc2.bias"]) == 3


def test_a_backbone_for_one_class_is_refused_by_the_name_of_the_class(fit, refused, tmp_path):
    for name in ("dark", "middling"):
        (tmp_path / "photos" / name).rename(tmp_path / name)
    backbone = ["--model=BackboneModule", "--model.model_name=test_resnet", "--model.weights=null"]
    line = refused(["fit", *backbone, *fit[3:]], 1)
    assert "the data have one class alone, 'bright': a classifier needs at least two" in line
