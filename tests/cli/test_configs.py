"""Every YAML of configs/ runs, shortened, on small data of the same format."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image as PILImage
from tiny import TRAINER

from fvlightning.cli import main
from fvlightning.output import read_manifest

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
pytestmark = pytest.mark.usefixtures("in_folder")


def test_more_than_15_configs_are_found():
    assert len(CONFIGS) > 15


def shorten(settings: object) -> object:
    """Return `settings` with every number of steps cut to 2."""
    if isinstance(settings, dict):
        return {key: 2 if key == "steps" else shorten(value) for key, value in settings.items()}
    return [shorten(value) for value in settings] if isinstance(settings, list) else settings


def write_folder(model_name: str) -> dict[str, dict[str, Any]]:
    """Write a small image folder, and return a config for it, and for a model that fits it."""
    classes = 2 if model_name == "tf_efficientnet_lite0" else 1000  # the others show units of classes such as 852
    for number in range(classes + 8):
        file = Path("PHOTOS", "train" if number < classes else "val", f"{number % classes:03}", f"{number}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        PILImage.new("RGB", (40, 40), (number % 256, 100, 200)).save(file)
    model: dict[str, object] = {"input_shape": [3, 32, 32]}
    small = {"resnet50": {"layers": [1, 1, 1, 1]}, "vit_base_patch16_224": {"embed_dim": 48, "num_heads": 3}}
    model["model_args"] = small.get(model_name)
    data = {"data_dir": "PHOTOS", "image_size": 32, "batch_size": 2, "num_workers": 0}
    trainer = {"limit_train_batches": 2, "limit_val_batches": 2, "max_epochs": 1}
    return {"model": {"init_args": model}, "data": {"init_args": data}, "trainer": trainer}


@pytest.mark.parametrize(
    "config",
    [path for path in CONFIGS if "\nmodel:" in (text := path.read_text()) and "data:" in text],
    ids=lambda path: path.stem,
)
def test_each_config_with_data_trains(config, mnist_dir):
    settings = yaml.safe_load(config.read_text())
    callbacks = shorten(settings["trainer"].get("callbacks", []))
    short: dict[str, Any] = {"trainer": {"callbacks": callbacks}}
    if "maximizer" in settings:
        short["maximizer"] = shorten(settings["maximizer"])
        short["maximizer"]["init_args"]["steps"] = 2
    if "CIFAR10" in settings["data"]["class_path"]:  # generated pictures of the same size, in as many classes
        sizes = {"train_size": 192, "test_size": 32, "val_size": 32}
        short["data"] = {"class_path": "fvlightning.data.ShapesDataModule", "init_args": sizes}
    if "ImageFolder" in settings["data"]["class_path"]:
        folder = write_folder(settings["model"]["init_args"]["model_name"])
        folder["trainer"]["callbacks"] = callbacks
        short |= folder
    Path("short.yaml").write_text(yaml.safe_dump(short))
    args = ["--config", str(config), "--config", "short.yaml", *TRAINER, "--trainer.logger.init_args.save_dir", "out"]
    if "MNIST" in settings["data"]["class_path"]:
        args += ["--data.source", "mnist", "--data.data_dir", str(mnist_dir), "--data.val_size", "64"]
    assert main(["fit", *args]) == 0
    assert list(Path("out").rglob("last.ckpt"))


@pytest.mark.filterwarnings("ignore:visualize without --ckpt_path")
@pytest.mark.parametrize(
    "config",
    [path for path in CONFIGS if "imagenet_" in path.stem and "_vital" not in path.stem],
    ids=lambda path: path.stem,
)
def test_each_config_of_a_backbone_makes_pictures(config):
    unit = re.search(r"--units '\[\"(.+?)\"\]'", config.read_text())[1]
    small = ["--model.weights", "null", "--model.input_shape", "[3, 64, 64]", "--trainer.accelerator", "cpu"]
    maximizer = ["--maximizer", "fvlightning.Maximizer", "--maximizer.steps", "2"]
    assert main(["visualize", "--config", str(config), *small, *maximizer, "--units", f'["{unit}"]']) == 0
    assert list(Path("out").glob("*/*.png"))


@pytest.mark.filterwarnings("ignore:visualize without --ckpt_path")
@pytest.mark.parametrize("config", [path for path in CONFIGS if "maximizer_" in path.stem], ids=lambda path: path.stem)
def test_each_config_of_a_maximizer_makes_pictures(config):
    # In an empty folder these are the files that the package ships.
    configs = ["--config", "configs/quickstart.yaml", f"--config=configs/{config.name}"]
    args = [*configs, "--maximizer.steps=2", "--units", '["conv2:0"]']
    assert main(["visualize", *args, "--trainer.accelerator", "cpu"]) == 0
    assert Path("out/conv2/0.png").exists()


@pytest.mark.filterwarnings("ignore:visualize without --ckpt_path")
@pytest.mark.parametrize(
    ("config", "base"), [("cifar10_vital", ["configs/cifar10_resnet.yaml"]), ("imagenet_lite0_vital", [])]
)
def test_each_config_of_distributions_matches_them(config: str, base: list[str]):
    settings = yaml.safe_load((CONFIGS[0].parent / f"{config}.yaml").read_text())
    sums = [unit["init_args"].get("terms", [(1.0, unit)]) for unit in settings["units"]]
    folders = [Path(terms[0][1]["init_args"]["references"]) for terms in sums]
    for folder in folders:
        folder.mkdir(parents=True)
        # Far from the grey that pictures start from, so that the distance outweighs the class.
        pixels = 255 * np.random.default_rng(len(folder.name)).integers(0, 2, (2, 8, 8, 3), np.uint8)
        for index, image in enumerate(pixels):
            PILImage.fromarray(image).resize((32, 32)).save(folder / f"{index}.jpg")
    args = [f"--config={path}" for path in [*base, f"configs/{config}.yaml"]]
    if not base:
        args += ["--model.weights", "null", "--model.input_shape", "[3, 64, 64]"]
    assert main(["visualize", *args, "--maximizer.steps", "2", "--trainer.accelerator", "cpu"]) == 0
    records = read_manifest("out")
    assert len(list(Path("out/sums").glob("*.png"))) == len(records) == len(folders)
    for record, folder in zip(records, folders, strict=True):
        match, _, unit = record.unit.removeprefix("(").partition(" + 0.2*")
        assert match.startswith(f"DistributionMatch({folder.name}, ")
        assert unit in ("", *(f"fc:{index}" for index in (1, 7, 8)))
        assert record.score < 0


@pytest.mark.filterwarnings("ignore:compare without --ckpt_path")
def test_the_config_of_spaces_compares_them():
    cnn, vae, spaces = (str(CONFIGS[0].with_name(f"cifar10_{name}.yaml")) for name in ("cnn", "vae", "spaces"))
    sizes = {"train_size": 64, "test_size": 16, "val_size": 16}
    data = {"class_path": "fvlightning.data.ShapesDataModule", "init_args": sizes}
    Path("short.yaml").write_text(yaml.safe_dump({"data": data}))
    small = ["--config", "short.yaml", "--trainer.accelerator", "cpu"]
    vae_args = ["--model.latent_size", "8", "--model.widths", "[4, 8]", "--trainer.max_epochs", "1"]
    assert main(["fit", "--config", vae, *small, *vae_args, "--trainer.enable_progress_bar", "false"]) == 0
    Path("runs/short").rename("runs/cifar10_vae")  # a run is named after the last config
    args = ["--config", cnn, "--config", spaces, *small, "--maximizer.steps", "2", "--units", '["fc2:0-1"]']
    assert main(["compare", *args]) == 0
    names = yaml.safe_load(Path(spaces).read_text())["spaces"]
    assert sorted(path.name for path in Path("comparison").iterdir() if path.is_dir()) == sorted(names)
    assert Path("comparison/comparison.md").exists()


@pytest.mark.filterwarnings("ignore:cross_evaluate without --ckpt_paths")
def test_the_config_of_imagenet_networks_evaluates_them():
    small = ["--trainer.accelerator", "cpu", "--classes", "[207]", "--maximizer.steps", "2", "--n_views", "2"]
    for name in ("Lite0", "Lite1", "Lite2"):
        small += [f"--models.{name}.model_name", "test_efficientnet", f"--models.{name}.weights", "null"]
        small += [f"--models.{name}.input_shape", "[3, 32, 32]"]
    assert main(["cross_evaluate", "--config", str(CONFIGS[0].with_name("cross_evaluate_lite.yaml")), *small]) == 0
    assert Path("cross_evaluation/cross_evaluation.md").exists()


@pytest.mark.filterwarnings("ignore:cross_evaluate without --ckpt_paths")
def test_the_config_of_cifar_networks_evaluates_them():
    config = CONFIGS[0].with_name("cross_evaluate_cifar10.yaml")
    sizes = {"train_size": 20, "test_size": 20, "val_size": 0}
    data = {"class_path": "fvlightning.data.ShapesDataModule", "init_args": sizes}
    Path("short.yaml").write_text(yaml.safe_dump({"data": data, "ckpt_paths": None, "classes": [0]}))
    small = ["--config", "short.yaml", "--trainer.accelerator", "cpu", "--maximizer", "Maximizer"]
    assert main(["cross_evaluate", "--config", str(config), *small, "--maximizer.steps", "2", "--n_views", "2"]) == 0
    assert "natural images" in Path("cross_evaluation/cross_evaluation.md").read_text()
