import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from fvlightning.errors import InputError
from fvlightning.runs._pictures import report_pictures


def report(*statuses: str) -> None:
    records = [SimpleNamespace(unit=f"fc:{index}", status=status) for index, status in enumerate(statuses)]
    report_pictures(records, Path("out"))


@pytest.mark.parametrize(("count", "words"), [(1, "1 picture is in out"), (2, "2 pictures are in out")])
def test_pictures_are_counted_in_english(count, words, caplog):
    caplog.set_level(logging.INFO)
    report(*["ok"] * count)
    assert caplog.messages == [words]


def test_units_that_do_not_answer_are_counted_in_english(caplog):
    caplog.set_level(logging.INFO)
    report("dead")
    assert caplog.messages == ["1 unit does not respond to any step: fc:0", "1 picture is in out"]


def test_units_that_are_not_finite_are_named():
    message = "2 of 3 pictures gave values that are not finite: fc:0, fc:2; the others are there"
    with pytest.raises(InputError, match=message):
        report("non-finite", "ok", "non-finite")
