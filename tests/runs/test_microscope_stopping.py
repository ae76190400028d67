"""`microscope` goes on: after a kill in the pass over the images, and after an interruption before the page."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from digits import Digits
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from visualizing import start

from fvlightning.cli import main

ARGS = ["microscope", "--model", "digits.Fixed", "--trainer.accelerator", "cpu", "--trainer.logger", "false"]
ARGS += ["--trainer.enable_progress_bar", "false"]
ARGS += ["--maximizer", "Maximizer", "--maximizer.steps", "4", "--data", f"{__name__}.Deadly"]
PROGRAM = """
import sys
from fvlightning.cli import main
from fvlightning.runs import _example_pass
_example_pass._SECONDS_BETWEEN_FILES = 0.0  # instead of half a minute
sys.exit(main(sys.argv[1:]))
"""
pytestmark = [pytest.mark.usefixtures("in_folder"), pytest.mark.filterwarnings("ignore:microscope without --ckpt_path")]


class DeadlyImages(Dataset[tuple[Tensor, Tensor]]):
    """Its last images end the process at once, as the system does when memory runs out."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index == 40 and "DEADLY" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.images[index] / 255, self.labels[index]


class Deadly(Digits):
    class_names = tuple("abcdefghij")

    def train_dataloader(self) -> Any:
        return DataLoader(DeadlyImages(self.images.images, self.images.labels), batch_size=8)


def times() -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in Path("microscope/pictures").glob("*/*.png")}


def page() -> dict[str, bytes]:
    """Return the files that the page shows, without the examples' own."""
    paths = [path for part in ("data", "tiles", "pictures") for path in Path("microscope", part).rglob("*.*")]
    return {str(path): path.read_bytes() for path in paths}


@pytest.mark.usefixtures("one_thread")  # as in the process that is killed: with two, convolutions round differently
def test_a_run_that_was_killed_among_the_images_goes_on(caplog: pytest.LogCaptureFixture):
    args = [*ARGS, "--units", '["conv:0-2", "fc:*"]']
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEADLY", "1")
        with start(program=["-c", PROGRAM], common=args) as process:
            output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, output
    done = times()
    assert len(done) == 26
    assert not Path("microscope/index.html").exists()
    assert main(args) == 0
    assert "26 of 26 units are in microscope/pictures already, and kept" in caplog.text
    assert "going on after image 39, with the results in microscope/examples" in caplog.text
    assert times() == done
    gone_on = page()
    shutil.rmtree("microscope")
    assert main(args) == 0
    assert page() == gone_on


def test_what_is_there_is_kept_and_what_is_no_longer_shown_goes(monkeypatch: pytest.MonkeyPatch):
    from fvlightning.runs import microscope as command

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    args = [*ARGS, "--units", '["conv:0", "fc:0"]']
    with monkeypatch.context() as patch:
        patch.setattr(command, "write_page", stopped)
        assert main(args) == 130
    done = times()
    assert len(done) == 4
    assert main(args) == 0
    assert times() == done
    assert Path("microscope/data/layer_1.js").exists()
    assert main([*args[:-1], "fc:0"]) == 0
    assert not Path("microscope/data/layer_1.js").exists()
