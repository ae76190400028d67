"""The images a second of a loader and of a training step."""

import re
from pathlib import Path

import pytest
import torch

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import benchmark_loader

    return benchmark_loader


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowLoader:
    """Ten batches of eight images; each takes two seconds."""

    num_workers, prefetch_factor = 1, 2

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def __iter__(self):
        for _ in range(10):
            self.clock.now += 2
            yield [torch.zeros(8, 1), torch.zeros(8)]


def test_loader_and_step_are_measured_alone_and_together(benchmark):
    clock = Clock()
    turns = benchmark.Turns(SlowLoader(clock), seconds=60, repeats=3, early_epochs=2, clock=clock)
    assert [len(list(turns)) for _ in range(2)] == [1, 1]
    for _ in turns:
        clock.now += 3  # a step
    speeds = {name: line.values for name, line in turns.lines.items()}
    assert speeds == {
        "loader alone": pytest.approx([8 / 2] * 3),
        "step alone": pytest.approx([8 / 3] * 3),
        "both": pytest.approx([8 / 5] * 3),
    }
    report = benchmark.Report("", "images / s", "step alone", list(turns.lines.values()))
    assert benchmark.verdict(report).startswith("The step is the limit: the loader alone is 1.50 times as fast; both ")
    assert "reach 60% of the step alone" in benchmark.verdict(report)
    turns.lines["loader alone"].values = [4 / 3] * 3
    assert benchmark.verdict(report).startswith("The loader is the limit: alone it is 0.50 times as fast as the step;")


@pytest.mark.usefixtures("in_folder")
def test_a_training_is_measured_with_the_options_of_fit(benchmark, capsys):
    model = ["--model", "BackboneModule", "--model.model_name", "test_resnet", "--model.weights", "null"]
    model += ["--model.frozen_stages", "-1", "--model.thaw_epoch", "1", "--model.scheduler_interval", "step"]
    model += ["--model.scheduler", "fvlightning.features.CosineWithWarmup", "--model.input_shape", "[3, 32, 32]"]
    data = ["--data", "ImageFolderDataModule", "--data.image_size", "32", "--data.crop_area", "[0.5, 1.0]"]
    data += ["--data.batch_size", "4", "--trainer.accelerator", "cpu", "--data.num_workers"]
    args = ["--seconds", "0.1", "--repeats", "2", "--images", "100", "--clock", "process", *model, *data]
    assert benchmark.main([*args, "1"]) == 1
    assert "error: --clock process is for one process: give --data.num_workers 0" in capsys.readouterr().err
    assert benchmark.main([*args, "0"]) == 0
    printed = capsys.readouterr().out
    assert "test_resnet, images of shape (3, 32, 32), 4 a batch, 0 workers, cpu" in printed
    speeds = dict(re.findall(r"\| (loader alone|step alone|both) \| ([\d,.]+) \|", printed))
    assert set(speeds) == {"loader alone", "step alone", "both"}
    assert re.search(r"The (step|loader) is the limit: ", printed)
    assert list(Path().iterdir()) == []  # all files were temporary


@pytest.mark.usefixtures("in_folder")
def test_what_cannot_be_measured_is_one_line(benchmark, capsys):
    tiny = ["--model", "tiny.TinyModel", "--trainer.accelerator", "cpu"]
    assert benchmark.main([*tiny, "--data", "tiny.TinyData", "--trainer.devices", "2"]) == 1
    assert "error: one process is measured: give --trainer.devices 1" in capsys.readouterr().err
