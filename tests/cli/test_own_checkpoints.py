"""A LightningModule of one's own, trained in a script: its checkpoint works on the command line."""

import logging
from pathlib import Path

import lightning.pytorch as pl
import own_models
import pytest
import torch
from torch import nn

from fvlightning import score
from fvlightning.cli import main
from fvlightning.io import digest_of_weights
from fvlightning.output import read_manifest, read_pixels

pytestmark = pytest.mark.usefixtures("in_folder")

SHORT = ["--maximizer", "Maximizer", "--maximizer.steps", "2"]
UNITS = ["--units", '["stem:0", "head:1"]']


def train(model: pl.LightningModule) -> list[str]:
    """Train as a script does, and return the options that name the model and its checkpoint."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False)
    trainer.fit(model, own_models.OwnData())
    logging.getLogger("lightning.pytorch").setLevel(logging.INFO)
    return ["--model", f"own_models.{type(model).__name__}", "--ckpt_path", trainer.checkpoint_callback.best_model_path]


@pytest.mark.parametrize(
    "model",
    [
        own_models.Plain(width=5),
        own_models.Required(5),
        own_models.Missing(),
        own_models.HoldsClass(5, nn.Tanh),
        own_models.HoldsTypedClass(nn.Tanh),
        own_models.Dictionary({"width": 5, "note": "kept"}),
        own_models.Keywords(width=5),
    ],
    ids=lambda model: type(model).__name__,
)
def test_the_checkpoint_of_a_script_is_visualized_compared_and_tested(model: pl.LightningModule):
    trained = train(model)
    shape = ["--image_shape", str(list(own_models.IMAGE_SHAPE))]
    assert main(["visualize", *trained, *UNITS, *SHORT, *shape]) == 0
    for record in read_manifest("out"):
        assert record.weights == digest_of_weights(model)
        picture = torch.from_numpy(read_pixels(Path("out", record.file)).copy()).permute(2, 0, 1)[None] / 255
        assert score(model, record.unit, picture).item() == pytest.approx(record.score, abs=1e-5)
    data = ["--data", "own_models.OwnData"]
    assert main(["test", *trained, *data]) == 0
    assert main(["compare", *trained, *data, *UNITS, *SHORT, "--spaces.pixel", "PixelImage"]) == 0


def test_a_checkpoint_that_holds_a_module_is_refused_with_the_fix(refused):
    with pytest.warns(UserWarning, match="is an instance of `nn.Module`"):
        model = own_models.HoldsModule(activation=nn.Tanh())
    trained = train(model)
    line = refused(["visualize", *trained, *UNITS], 1)
    assert "holds more than tensors and plain values (torch.nn.modules.activation.Tanh), and is refused" in line
    assert "save_hyperparameters(ignore=['net'])" in line


@pytest.mark.parametrize("named", [print, Path])
def test_other_classes_and_functions_are_not_taken_from_a_checkpoint(named: object, refused):
    trained = train(own_models.HoldsClass())
    checkpoint = torch.load(trained[-1], weights_only=False)
    checkpoint["hyper_parameters"]["activation"] = named
    torch.save(checkpoint, trained[-1])
    line = refused(["visualize", *trained, *UNITS], 1)
    assert f"the hyperparameter 'activation' of the checkpoint '{trained[-1]}' is {named.__module__}." in line
    assert "save_hyperparameters(ignore=['activation'])" in line


@pytest.mark.parametrize("text", ["shutil.rmtree", "poisoned.call"])
@pytest.mark.parametrize("model", [own_models.HoldsClass(), own_models.HoldsTypedClass(nn.ReLU)])
def test_no_text_in_a_checkpoint_is_imported(model: pl.LightningModule, text: str, refused, monkeypatch):
    Path("poisoned.py").write_text("raise KeyboardInterrupt")
    monkeypatch.syspath_prepend(Path())
    trained = train(model)
    checkpoint = torch.load(trained[-1], weights_only=False)
    checkpoint["hyper_parameters"]["activation"] = text
    torch.save(checkpoint, trained[-1])
    line = refused(["visualize", *trained, *UNITS], 1)
    assert f"names '{text}', which is not a class of layers, optimisers or schedules" in line
