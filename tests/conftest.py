"""Fixtures and data that the tests share."""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

if "PYTEST_XDIST_WORKER" in os.environ:
    # One core for each worker and for the processes that its tests start. Before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# The seven strokes of a digital clock, as rows and columns of a 28 x 28 picture, and the strokes of each digit.
_STROKES = {
    "top": (slice(5, 7), slice(9, 19)),
    "middle": (slice(13, 15), slice(9, 19)),
    "bottom": (slice(21, 23), slice(9, 19)),
    "upper left": (slice(5, 15), slice(9, 11)),
    "upper right": (slice(5, 15), slice(17, 19)),
    "lower left": (slice(13, 23), slice(9, 11)),
    "lower right": (slice(13, 23), slice(17, 19)),
}
_DIGITS = [
    ["top", "bottom", "upper left", "upper right", "lower left", "lower right"],
    ["upper right", "lower right"],
    ["top", "middle", "bottom", "upper right", "lower left"],
    ["top", "middle", "bottom", "upper right", "lower right"],
    ["middle", "upper left", "upper right", "lower right"],
    ["top", "middle", "bottom", "upper left", "lower right"],
    ["top", "middle", "bottom", "upper left", "lower left", "lower right"],
    ["top", "upper right", "lower right"],
    list(_STROKES),
    ["top", "middle", "bottom", "upper left", "upper right", "lower right"],
]


def draw_digits(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw digits of a digital clock, shifted and noisy: pictures ``(count, 28, 28)`` and labels ``(count,)``."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.uint8) % 10
    pictures = rng.integers(0, 30, (count, 28, 28), dtype=np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        for stroke in _DIGITS[label]:
            picture[_STROKES[stroke]] = rng.integers(180, 256)
        picture[:] = np.roll(picture, rng.integers(-2, 3, 2), axis=(0, 1))
    order = rng.permutation(count)
    return pictures[order], labels[order]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """A worker that has finished takes tests from the other: the last ones, real processes, take long."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute on one thread, as the processes do that tests start."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, which gets the files of commands."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[[Sequence[str], int], str]:
    """Return a function that runs a command, checks its exit status and returns its error, which must be one line."""
    from fvlightning.cli import main

    def run(args: Sequence[str], status: int) -> str:
        assert main(args) == status, args
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
        return line

    return run


@pytest.fixture(scope="session")
def mnist_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with 640 training and 128 test digits in MNIST's files, laid out as torchvision does."""
    folder = tmp_path_factory.mktemp("mnist")
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count, seed in [("train", 640, 0), ("t10k", 128, 1)]:
        pictures, labels = draw_digits(count, seed)
        # The IDX format: a magic number (type and dimensions), each size, and the bytes.
        header = struct.pack(">IIII", 0x803, *pictures.shape)
        (raw / f"{name}-images-idx3-ubyte").write_bytes(header + pictures.tobytes())
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + labels.tobytes())
    return folder
