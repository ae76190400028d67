import logging

import pytest

from fvlightning.output import progress
from fvlightning.runs.pictures import report_pictures


@pytest.mark.parametrize(("count", "words"), [(1, "1 picture is in out"), (2, "2 pictures are in out")])
def test_pictures_are_counted_in_english(count, words, caplog):
    caplog.set_level(logging.INFO)
    report_pictures([{"unit": "fc:0", "status": "ok"}] * count, "out")
    assert caplog.messages == [words]


def test_units_that_do_not_answer_are_counted_in_english(caplog):
    caplog.set_level(logging.INFO)
    report_pictures([{"unit": "fc:0", "status": "dead"}], "out")
    assert caplog.messages == ["1 unit does not answer to any step: fc:0", "1 picture is in out"]


def test_nothing_is_left_at_the_end(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1.0)
    with progress._in_lines("Pictures", 2) as show:
        show(1, 0.5)
        show(2, 1.0)
    assert caplog.messages == ["Pictures: 1/2 done, about 0 min left", "Pictures: 2/2 done"]
