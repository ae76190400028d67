"""`cross_evaluate` by the command line, in this process or in two."""

import csv
import json
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from digits import Classifier
from PIL import Image as PILImage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor, nn
from visualizing import start

from fvlightning.analysis import random_views
from fvlightning.cli import main
from fvlightning.errors import InputError
from fvlightning.features import picture_generator
from fvlightning.runs.cross_evaluate import check_names

CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
MAXIMIZER = ["--maximizer", "Maximizer", "--maximizer.steps", "4", "--maximizer.repeats", "2"]
SHORT = [*CPU, *MAXIMIZER, "--n_views", "3"]
OUT = Path("cross_evaluation")
# The models keep their initial weights on purpose.
pytestmark = [
    pytest.mark.usefixtures("in_folder"),
    pytest.mark.filterwarnings("ignore:.*without --ckpt_path"),
    pytest.mark.filterwarnings("ignore:.*Consider setting `trainer.devices`"),
]


class Coloured(pl.LightningModule):
    """Six classes of pictures in colour, of another size, some of them named like those of `Named`."""

    input_shape = (3, 12, 12)
    class_names = ("one", "two", "three", "four", "five", "seven")

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 6))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.net(pictures)


class ImageNet(pl.LightningModule):
    """ImageNet's classes, and pictures of which the middle half is read."""

    input_shape = (3, 4, 4)
    crop_pct = 0.5

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(48, 1000))
        self.class_names = [text.split(",")[0] for text in ImageNetInfo().label_descriptions()]

    def forward(self, pictures: Tensor) -> Tensor:
        return self.net(pictures)


class Named(Classifier):
    class_names = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


MODELS = {"grey": f"{__name__}.Named", "coloured": f"{__name__}.Coloured"}


def command(models: dict[str, str], *arguments: str) -> list[str]:
    config = {"models": {name: {"class_path": path} for name, path in models.items()}}
    Path("models.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return ["cross_evaluate", "--config", "models.yaml", *SHORT, *arguments]


def content(folder: Path = OUT) -> dict[str, Any]:
    return json.loads((folder / "cross_evaluation.json").read_text())


def verdicts(folder: Path = OUT) -> list[tuple[str, str, dict[str, dict[str, float]]]]:
    return [(row["source"], row["mode"], row["verdicts"]) for row in content(folder)["pictures"]]


def test_models_judge_views_of_the_saved_pictures_of_each_other(capsys: pytest.CaptureFixture[str]):
    assert main(command(MODELS, "--classes", '["seven", 1]', "--seed", "3")) == 0
    pl.seed_everything(0)
    networks = {"grey": Named().eval(), "coloured": Coloured().eval()}
    units = {"grey": ("fc:7", "fc:1"), "coloured": ("3:5", "3:0")}  # seven and one
    expected = []
    for source, judged in units.items():
        for mode in ("transforms", "none"):
            for place, unit in enumerate(judged):
                for repeat in range(2):
                    file = OUT / source / mode / f"{unit.replace(':', '/')}{'_1' if repeat else ''}.png"
                    channels = networks[source].input_shape[0]
                    pixels = np.array(PILImage.open(file).convert("RGB")) / np.float32(255)
                    picture = torch.from_numpy(pixels).permute(2, 0, 1)[:channels]
                    for judge, network in networks.items():
                        random = picture_generator(3, f"{source}/{mode}/{unit}/{repeat}", 0)
                        views = random_views(picture, network.input_shape, random, 3, flip=channels == 3)
                        with torch.no_grad():
                            probabilities = network(views).softmax(1)
                        index = int(units[judge][place].split(":")[1])
                        accuracy = (probabilities.argmax(1) == index).float().mean().item()
                        expected.append((source, mode, judge, accuracy, probabilities[:, index].mean().item()))
    found = [
        (source, mode, judge, *verdict.values())
        for source, mode, by_judge in verdicts()
        for judge, verdict in by_judge.items()
    ]
    for one, two in zip(found, expected, strict=True):
        assert one[:3] == two[:3]
        assert one[3:] == pytest.approx(two[3:], abs=1e-5)
    with Path(OUT, "cross_evaluation.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert [tuple(cell.values())[:4] for cell in cells] == [
        (source, mode, judge, "4")
        for source in MODELS
        for mode in ("transforms", "none")
        for judge in (*MODELS, "others")
    ]
    for cell in cells[:2]:
        values = [row[4] for row in expected if row[:3] == ("grey", "transforms", cell["judge"])]
        assert float(cell["probability"]) == pytest.approx(np.mean(values), abs=1e-5)
        assert float(cell["probability_error"]) == pytest.approx(np.std(values, ddof=1) / 2, abs=1e-5)
    table = Path(OUT, "cross_evaluation.md").read_text()
    assert table in capsys.readouterr().out
    assert table.startswith("| accuracy: pictures of | made with | pictures | grey | coloured | others |\n")
    with PILImage.open(OUT / "cross_evaluation.png") as image:
        assert image.width > image.height > 200


def test_folders_of_visualize_are_judged_like_pictures_that_are_made():
    digits = {"one": "digits.Classifier", "two": "digits.Classifier"}
    assert main(command(digits, "--classes", "[0, 1]")) == 0
    units = ["--units", '["fc:0-1", "-fc:1", "conv:1", "fc:1 - fc:2"]']
    for folder, options in (("with", []), ("without", ["--maximizer.transforms", "[]"])):
        visualize = ["visualize", "--model", "digits.Classifier", *CPU, *MAXIMIZER, *options, *units]
        assert main([*visualize, "--output_dir", folder]) == 0
    # By default all classes in the folders, and no other unit.
    assert main(command(digits, "--pictures", '["with", "without"]', "--output_dir", "again")) == 0
    made = [row for row in verdicts() if row[0] == "one"]
    for again, expected in zip(verdicts(Path("again")), made, strict=True):
        assert again[:2] == expected[:2]
        for judge in digits:
            assert again[2][judge] == pytest.approx(expected[2][judge], abs=1e-3)
    assert main(command(digits, "--pictures", "with", "--classes", "[1]", "--output_dir", "some")) == 0
    assert [row["label"] for row in content(Path("some"))["pictures"]] == ["1", "1"]


def test_natural_images_of_the_classes_are_a_row_to_compare_with(caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    levels = {"photos/one": (40, 60, 80), "photos/7": (120,), "photos/zero": (0,)}
    for folder, greys in levels.items():
        Path(folder).mkdir(parents=True)
        for grey in greys:
            PILImage.new("L", (20, 16), grey).save(Path(folder, f"{grey}.png"))
    images = ["--images", "photos", "--n_images", "2"]
    arguments = command({"grey": MODELS["grey"]}, *images, "--classes", '["one", "seven", "two"]')
    assert main(arguments) == 0
    assert "No natural images of 1 class: two" in caplog.text
    rows = [row for row in content()["pictures"] if row["source"] == "natural images"]
    shown = [("photos/one/40.png", "one"), ("photos/one/60.png", "one"), ("photos/7/120.png", "seven")]
    assert [(row["file"], row["label"]) for row in rows] == shown
    pl.seed_everything(0)
    network = Named().eval()
    for row, (grey, index) in zip(rows, ((40, 1), (60, 1), (120, 7)), strict=True):
        with torch.no_grad():
            probability = network(torch.full((1, 1, 8, 8), grey / 255)).softmax(1)[0, index].item()
        assert row["verdicts"]["grey"]["probability"] == pytest.approx(probability, abs=1e-5)
    assert [cell["judge"] for cell in content()["cells"][-2:]] == ["grey", "others"]
    # A second run makes the pictures that are missing, and says the same.
    first, removed = content(), OUT / "grey/none/fc/1.png"
    times = {path: path.stat().st_mtime_ns for path in OUT.glob("*/*/fc/*.png")}
    assert len(times) == 12
    removed.unlink()
    assert main(arguments) == 0
    assert content() == first
    changed = {path for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert changed == {removed, removed.with_name("1_1.png")}


def test_folders_named_by_wordnet_are_classes_of_imagenet_and_read_as_the_model_wants_them():
    levels = {"n01440764": 40, "5": 60, "jay": 80, "n01443537": 100}
    for folder, grey in levels.items():
        pixels = np.full((16, 24, 3), 255, np.uint8)
        pixels[3:13, 7:17] = grey  # the middle half, with a margin for the resizing
        Path("photos", folder).mkdir(parents=True)
        PILImage.fromarray(pixels).save(Path("photos", folder, "image.png"))
    arguments = command({"judge": f"{__name__}.ImageNet"}, "--images", "photos", "--classes", "[0, 5, jay]")
    assert main(arguments) == 0
    rows = [row for row in content()["pictures"] if row["source"] == "natural images"]
    assert [row["label"] for row in rows] == ["tench", "electric ray", "jay"]
    pl.seed_everything(0)
    network = ImageNet().eval()
    for row, (folder, index) in zip(rows, (("n01440764", 0), ("5", 5), ("jay", 17)), strict=True):
        assert row["file"] == f"photos/{folder}/image.png"
        with torch.no_grad():
            probability = network(torch.full((1, 3, 4, 4), levels[folder] / 255)).softmax(1)[0, index].item()
        assert row["verdicts"]["judge"]["probability"] == pytest.approx(probability, abs=1e-7)


def test_data_give_names_and_natural_images_and_tensorboard_gets_the_results():
    sizes = {"train_size": 40, "test_size": 40, "val_size": 10}
    shapes = [
        "--data",
        "ShapesDataModule",
        *(word for name, size in sizes.items() for word in (f"--data.{name}", str(size))),
    ]
    networks = {"a": {"class_path": "ClassifierModule", "init_args": {"network": {"class_path": "CifarCNN"}}}}
    Path("models.yaml").write_text(yaml.safe_dump({"models": networks}))
    logger = ["--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", "logs"]
    arguments = ["--config", "models.yaml", *SHORT, *shapes, *logger, "--n_images", "2", "--classes", '["rising", 0]']
    assert main(["cross_evaluate", *arguments]) == 0
    rows = [row for row in content()["pictures"] if row["source"] == "natural images"]
    assert sorted(row["label"] for row in rows) == ["horizontal"] * 2 + ["rising"] * 2
    events = EventAccumulator("logs/lightning_logs/version_0").Reload()
    assert "cross_evaluation/heat_map" in events.Tags()["images"]
    cells = {cell["source"]: cell for cell in content()["cells"] if cell["judge"] == "a" and cell["mode"] != "none"}
    (scalar,) = events.Scalars("cross_evaluation/probability/a/transforms/a")
    assert scalar.value == pytest.approx(cells["a"]["probability"])


def test_weights_come_from_checkpoints(refused):
    pl.seed_everything(7)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    for name, module in (("coloured", Coloured()), ("grey", Named())):
        trainer.strategy.connect(module)
        trainer.save_checkpoint(f"{name}.ckpt")
    base = command({"grey": MODELS["grey"]}, "--classes", "[1]")
    assert main([*base, "--ckpt_paths.grey", "grey.ckpt"]) == 0
    record = json.loads((OUT / "grey/none/features.json").read_text())[0]
    picture = torch.tensor(np.asarray(PILImage.open(OUT / "grey/none/fc/1.png").convert("L"))) / 255
    assert module.eval()(picture[None, None])[0, 1].item() == pytest.approx(record["score"], abs=1e-5)
    for name, path, message in (
        ("grey", "coloured.ckpt", "'coloured.ckpt' does not fit model 'grey': Error(s) in loading state_dict"),
        ("gray", "grey.ckpt", "ckpt_paths: no model 'gray'; models: grey. Did you mean 'grey'?"),
        ("grey", "none.ckpt", "no checkpoint 'none.ckpt'; checkpoints: "),
    ):
        assert message in refused([*base, f"--ckpt_paths.{name}", path], 1)


def test_bad_input_ends_in_one_line_before_the_first_picture(refused):
    Path("empty/seven").mkdir(parents=True)
    Path("empty/features.json").write_text("[]")
    classes, one = ["--classes", "[1]"], {"grey": MODELS["grey"]}
    for models, arguments, message in (
        (one, [], "no classes are given; give some"),
        (MODELS, ["--classes", '["zero"]'], "model 'coloured' has no class 'zero'; leave out that class, or model"),
        (
            {"coloured": MODELS["coloured"], "nameless": "digits.Classifier"},
            classes,
            "class two is one of 6 classes, model 'nameless' has 10, and model 'nameless' has no name to match",
        ),
        (one, [*classes, "--n_views", "0"], "cross_evaluate(n_views=0): must be at least 1"),
        (one, [*classes, "--maximizer.transforms", "[]"], "the maximizer has no transforms"),
        (one, [*classes, "--images", "empty"], "'empty' has no folder of a class: one; name folders of classes as in"),
        (
            {"judge": f"{__name__}.ImageNet"},
            ["--classes", "[0, 1]", "--images", "empty"],
            "no folder of a class: tench, goldfish; name folders of classes as in 'tench' or '0' or 'n01440764'",
        ),
        (
            {"judge": f"{__name__}.ImageNet"},
            ["--classes", str(list(range(10))), "--images", "empty"],
            "stingray, cock and 2 more; name folders",
        ),
        (one, [*classes, "--images", "none"], "no folder 'none'; give one with a subfolder of images for each class"),
        (one, ["--classes", "[7]", "--images", "empty"], "no image files in 'empty/seven'"),
        (
            one,
            [*classes, "--images", "empty", "--data", "digits.Digits"],
            "from --images or from --data, not from both",
        ),
        (one, ["--pictures", "empty"], "no pictures of the classes in 'empty'"),
        (one, ["--pictures", "absent"], "no file 'absent'; give the features.json that visualize writes"),
    ):
        assert message in refused(command(models, *arguments), 1)
    assert "cross_evaluate needs --models" in refused(["cross_evaluate", *classes], 2)
    assert not list(Path().rglob("*.png"))


@pytest.mark.parametrize("name", ["a/b", "others", "natural images", ".", ""])
def test_names_that_folders_and_tables_cannot_have_are_refused(name: str):
    with pytest.raises(InputError, match=f"'{name}' cannot be the name of a model"):
        check_names({name: None})
    with pytest.raises(InputError, match="no models to compare; give some under models in a config"):
        check_names({})


def test_two_processes_give_the_files_of_one():
    arguments = command({"one": "digits.Classifier", "two": "digits.Classifier"}, "--classes", "[0, 1, 2]")
    with start(*arguments, "--trainer.devices=2", "--output_dir=both", common=()) as process:
        # At the same time: a process takes most of its time to start.
        assert main([*arguments, "--output_dir", "alone"]) == 0
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    alone, both = (sorted(path.relative_to(name) for path in Path(name).rglob("*.*")) for name in ("alone", "both"))
    assert alone == both
    for one, two in zip(verdicts(Path("alone")), verdicts(Path("both")), strict=True):
        assert one[:2] == two[:2]
        for judge, verdict in one[2].items():
            assert two[2][judge] == pytest.approx(verdict, abs=1e-3)
