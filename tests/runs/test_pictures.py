import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from fvlightning.errors import InputError
from fvlightning.runs._pictures import report_pictures


def report(*statuses: str, steps: int = 8) -> None:
    common = {"steps": steps, "settings": {"steps": 8}}
    records = [SimpleNamespace(unit=f"fc:{index}", status=status, **common) for index, status in enumerate(statuses)]
    report_pictures(records, Path("out"))


@pytest.mark.parametrize(("count", "words"), [(1, "1 picture is in out"), (2, "2 pictures are in out")])
def test_pictures_are_counted_in_english(count, words, caplog):
    caplog.set_level(logging.INFO)
    report(*["ok"] * count)
    assert caplog.messages == [words]


def test_pictures_that_stopped_early_are_counted(caplog):
    caplog.set_level(logging.INFO)
    report("ok", "ok", steps=5)
    assert caplog.messages == ["2 pictures are in out, 2 stopped early"]


def test_units_that_do_not_answer_are_counted_in_english(caplog):
    caplog.set_level(logging.INFO)
    report("dead")
    assert caplog.messages == ["1 unit does not respond to any step: fc:0", "1 picture is in out"]


@pytest.mark.parametrize(
    ("statuses", "count", "message"),
    [
        (
            ["non-finite", "ok", "non-finite"],
            ["1 picture is in out"],
            "2 of 3 pictures gave values that are not finite: fc:0, fc:2; the others are there",
        ),
        (["non-finite"], [], "1 of 1 pictures gave values that are not finite: fc:0"),
    ],
    ids=["some", "all"],
)
def test_units_that_are_not_finite_are_named_and_not_counted(statuses, count, message, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(InputError, match=f"^{message}$"):
        report(*statuses)
    assert caplog.messages == count
