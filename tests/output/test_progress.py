import logging

import pytest

from fvlightning.output import progress


def test_the_last_line_of_a_log_names_no_time_left(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1.0)
    with progress._in_lines("Pictures", 2) as show:
        show(1, 0.5)
        show(2, 1.0)
    assert caplog.messages == ["Pictures: 1/2 done, about 0 min left", "Pictures: 2/2 done"]


def test_steps_and_pictures_are_counted():
    shown: list[tuple[int, float]] = []
    counter = progress.PictureProgress(8, lambda done, fraction: shown.append((done, fraction)))
    counter.step(2)
    counter.step(2)
    counter.done()
    counter.step(6)  # more than announced
    assert shown == [(0, 0.25), (0, 0.5), (1, 0.5), (1, 1.0)]
