"""`visualize` by the command line, in this process or in several."""

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from digits import Classifier
from PIL import Image as PILImage
from visualizing import COMMON, STEPS, files, records, start

from fvlightning.cli import main

# The models keep their initial weights on purpose.
pytestmark = [
    pytest.mark.usefixtures("in_folder"),
    pytest.mark.filterwarnings("ignore:visualize without --ckpt_path"),
    pytest.mark.filterwarnings("ignore:.*Consider setting `trainer.devices`"),
]


def test_scores_in_the_records_are_those_of_the_saved_pictures():
    assert main([*COMMON, "--units", '["conv:*", "-fc:2"]', "--maximizer.repeats=2"]) == 0
    pictures = [f"conv/{index}{repeat}.png" for index in range(6) for repeat in ("", "_1")]
    pictures += ["fc/-2.png", "fc/-2_1.png"]
    assert files() == {*pictures, "conv.png", "fc.png", "features.json"}
    assert [record["file"] for record in records()] == pictures
    pl.seed_everything(0)
    module = Classifier().eval()
    for record in records()[:-2]:
        picture = torch.tensor(np.asarray(PILImage.open(Path("out", record["file"])).convert("L"))) / 255
        activation = module.net.conv(picture[None, None])[0, int(record["unit"].split(":")[1])].mean()
        assert activation.item() == pytest.approx(record["score"], abs=1e-5)
    assert not Path("runs").exists()


def test_a_second_run_makes_only_what_is_missing(caplog):
    caplog.set_level("INFO")
    assert main([*COMMON, "--units", '["conv:0-2"]']) == 0
    first = {path: path.stat().st_mtime_ns for path in Path("out/conv").iterdir()}
    assert main([*COMMON, "--units", '["conv:0-3"]']) == 0
    assert "3 of 4 units are in out already, and kept" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert [record["unit"] for record in records()] == [f"conv:{index}" for index in range(4)]
    # Other settings or other weights make other pictures.
    for change in (["--maximizer.seed=1"], ["--seed_everything=5"], ["--overwrite=true"]):
        before = Path("out/conv/0.png").stat().st_mtime_ns
        assert main([*COMMON, "--units", '["conv:0"]', *change]) == 0
        assert Path("out/conv/0.png").stat().st_mtime_ns > before


def test_broken_files_are_made_again():
    assert main([*COMMON, "--units", '["conv:0-1"]']) == 0
    expected = records()
    Path("out/conv/0.png").write_bytes(Path("out/conv/0.png").read_bytes()[:40])
    assert main([*COMMON, "--units", '["conv:0-1"]']) == 0
    assert records() == expected


def test_the_weights_are_those_of_the_checkpoint():
    pl.seed_everything(3)
    module = Classifier()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(module)
    trainer.save_checkpoint("trained.ckpt")
    assert main([*COMMON, "--units", '["fc:1"]', "--ckpt_path", "trained.ckpt"]) == 0
    picture = torch.tensor(np.asarray(PILImage.open("out/fc/1.png").convert("L"))) / 255
    score = module.eval()(picture[None, None])[0, 1].item()
    assert records()[0]["score"] == pytest.approx(score, abs=1e-5)


def test_layers_are_listed_with_their_shapes_and_units(capsys):
    assert main([*COMMON, "--list_layers", "true"]) == 0
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["conv", "Conv2d", "6 x 4 x 4", "6"],
        ["norm", "BatchNorm2d", "6 x 4 x 4", "6"],
        ["drop", "Dropout", "6 x 4 x 4", "6"],
        ["fc", "Linear", "10", "10"],
    ]
    assert not Path("out").exists()


class TwoOutputs(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Sequential(NamedOutputs()), LastOutput())


class NamedOutputs(torch.nn.Module):
    def forward(self, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"maps": pictures, "bold": pictures.flatten(1)}


class LastOutput(torch.nn.Module):
    def forward(self, outputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return outputs["bold"]


def test_outputs_are_listed_by_name_and_have_pictures(capsys):
    args = [*COMMON, "--model", f"{__name__}.TwoOutputs"]
    assert main([*args, "--list_layers", "true"]) == 0
    names = [line.split("│")[1].strip() for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert names == ["0.0", "0.0[bold]", "0", "0[bold]", "1"]
    assert main([*args, "--units", '["0[bold]:9", "0:0@1,1"]']) == 0
    assert [record["unit"] for record in records()] == ["0[bold]:9", "0:0@1,1"]
    assert all(Path("out", record["file"]).is_file() for record in records())


class Poisoned(Classifier):
    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.net.fc.bias[1] = torch.nan


def test_units_that_are_not_finite_are_named_and_the_others_have_pictures(capsys, monkeypatch):
    monkeypatch.setattr("digits.Poisoned", Poisoned, raising=False)
    Poisoned.__module__ = "digits"
    command = ["visualize", "--model", "digits.Poisoned", "--trainer.accelerator", "cpu", *STEPS]
    for _ in range(2):
        assert main([*command, "--units", '["fc:0-2"]']) == 1
        error = capsys.readouterr().err
        assert "error: 1 of 3 pictures gave values that are not finite: fc:1; the others are there" in error
    assert [record["status"] for record in records()] == ["ok", "non-finite", "ok"]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ([], "error: no units are given"),
        (
            ["--units", '["conf:0"]'],
            "error: no layer 'conf' in Net; layers: conv, norm, drop, fc. Did you mean 'conv'?",
        ),
        (["--units", '["fc:0-10"]'], "error: no unit 10 in layer 'fc', which has 10 units: 0 to 9"),
        (["--units", '["fc:0"]', "--image_shape", "[1, 9, 9]"], "error: Classifier cannot take a picture of shape"),
        (["--units", '["fc:0"]', "--output_dir", "file/out"], "error: cannot write to the folder file/out"),
        (["--units", '["fc:0"]', "--ckpt_path", "none.ckpt"], "error: no checkpoint 'none.ckpt'"),
        (["--units", '["fc:0"]', "--batch_size", "0"], "error: Maximizer(batch_size=0): must be at least 1"),
    ],
)
def test_bad_input_ends_in_one_line(options, line, capsys):
    Path("file").write_text("")
    assert main([*COMMON, *options]) == 1
    errors = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error:")]
    assert len(errors) == 1
    assert errors[0].startswith(line)


def test_a_network_without_gradients_ends_in_one_line_before_the_first_picture(refused, monkeypatch):
    forward = Classifier.forward
    monkeypatch.setattr(Classifier, "forward", lambda self, pictures: forward(self, pictures.detach()))
    line = refused([*COMMON, "--units", '["fc:0"]'], 1)
    assert line.startswith("error: no gradient leads from layer 'fc' of Classifier to the picture: the network runs it")
    assert not Path("out").exists()


def test_two_processes_make_each_unit_once_with_the_same_score():
    arguments = ["--units", '["conv:*", "fc:0-2"]']
    with start(*arguments, "--trainer.devices=2", "--output_dir=two") as process:
        # At the same time: a process takes most of its time to start.
        assert main([*COMMON, *arguments, "--output_dir", "one"]) == 0
        output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    one, two = records("one"), records("two")
    assert [record["unit"] for record in two] == [record["unit"] for record in one]
    for first, second in zip(one, two, strict=True):
        assert second["score"] == pytest.approx(first["score"], abs=1e-3)
