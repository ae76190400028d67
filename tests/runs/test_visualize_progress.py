"""The progress of `visualize`, in a pseudo-terminal and without one."""

import os
import pty
import re
import sys
import termios
import threading

import pytest
from visualizing import COMMON

from fvlightning.cli import main

# Each batch takes longer than the time between two refreshes of a bar.
UNITS = ["--units", '["fc:*"]', "--batch_size=4"]
pytestmark = [
    pytest.mark.usefixtures("in_folder"),
    pytest.mark.filterwarnings("ignore:visualize without --ckpt_path"),
    pytest.mark.filterwarnings("ignore:.*Consider setting `trainer.devices`"),
]


@pytest.mark.parametrize("bar", ["RichProgressBar", "TQDMProgressBar"])
def test_in_a_terminal_pictures_are_counted(bar, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 100))
    shown: list[bytes] = []

    def read() -> None:
        while True:
            try:
                shown.append(os.read(ours, 1 << 16))
            except OSError:  # the end of a pseudo-terminal
                return

    reader = threading.Thread(target=read)
    reader.start()
    with monkeypatch.context() as patch, os.fdopen(theirs, "w") as terminal:
        patch.setattr(sys, "stderr", terminal)
        status = main(
            [*COMMON, *UNITS, "--maximizer.steps=500", f"--trainer.callbacks=lightning.pytorch.callbacks.{bar}"]
        )
    reader.join()
    os.close(ours)
    assert status == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(shown).decode())
    counts = [int(count) for count in re.findall(r"(\d+)/10 done", text)]
    assert {0, 4, 7} <= set(counts)
    assert counts == sorted(counts)
    assert "Pictures" in text
    assert "left" in text
    assert "Predicting" not in text


def test_without_a_terminal_there_is_no_bar(capfd):
    assert main([*COMMON, *UNITS]) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "Pictures" not in captured.err
    assert "\r" not in captured.err
