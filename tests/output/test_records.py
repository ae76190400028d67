import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PILImage
from PIL.PngImagePlugin import PngInfo

from fvlightning.errors import InputError
from fvlightning.features import DistributionMatch, Feature, Objective, Unit, UnitActivation
from fvlightning.output import Record, read_manifest, read_record, save_png
from fvlightning.output.records import save_with_record, write_manifest

COMMON = {"model": "Net", "weights": "0" * 16, "image_shape": (1, 8, 8), "versions": {"torch": "2"}}


def make_feature(score: float = 1.5, **options: object) -> Feature:
    values = {
        "unit": Unit("fc", 3),
        "repeat": 1,
        "image": torch.zeros(1, 8, 8),
        "score": score,
        "history": torch.tensor([0.1, 1 / 3, 1234567.0]),
        "best_step": 2,
        "seed": 7,
        "status": "ok",
        "parameters": torch.zeros(64),
        "settings": {"steps": 3, "image": {"class": "PixelImage", "sizes": (1, 2)}},
    }
    return Feature(**{**values, **options})


def save(record: Record, path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    save_with_record(noise, path, record)
    return path


def test_a_record_has_the_values_of_its_feature() -> None:
    record = Record.of(make_feature(), class_name="dog", **COMMON)
    assert (record.unit, record.repeat, record.file) == ("fc:3", 1, "fc/3_1.png")
    assert (record.score, record.steps, record.best_step, record.seed, record.status) == (1.5, 3, 2, 7, "ok")
    assert record.history == (0.1, 0.333333, 1234570.0)
    assert record.class_name == "dog"
    assert (record.snapshots, record.snapshots_file, record.epoch, record.limit) == ((), None, None, None)


@pytest.mark.parametrize(
    ("unit", "options", "label"),
    [
        ("fc:207", {"class_name": "golden retriever"}, "207 golden retriever"),
        ("-fc:2@1,3", {"repeat": 1, "status": "dead"}, "-2@1,3 #1 (dead)"),
        ("fc:2", {"repeat": 3, "class_name": "dog", "status": "non-finite"}, "2 dog #3 (non-finite)"),
        ("fc", {"repeat": 1}, "layer #1"),
        (UnitActivation("fc:7") - 0.5 * UnitActivation("fc:3"), {}, "fc:7 - 0.5*fc:3"),
        (UnitActivation("a:1") + UnitActivation("b:1"), {"repeat": 1, "status": "dead"}, "a:1 + b:1 #1 (dead)"),
        (DistributionMatch(["a", "b"], torch.ones(2, 1, 4, 4), [1, 3]), {}, "DistributionMatch 2 pictures"),
        (
            DistributionMatch(["a"], torch.ones(2, 1, 4, 4), relevant_to="b:1") + 0.2 * UnitActivation("b:1"),
            {},
            "(DistributionMatch 2 pictures) + 0.2*b:1",
        ),
    ],
)
def test_a_label_names_unit_class_repeat_and_status(unit: str | Objective, options: dict[str, Any], label: str) -> None:
    class_name = options.pop("class_name", None)
    feature = make_feature(unit=Unit.parse(unit) if isinstance(unit, str) else unit, **{"repeat": 0, **options})
    assert Record.of(feature, class_name=class_name, **COMMON).label == label


def test_snapshots_name_their_file() -> None:
    record = Record.of(make_feature(snapshots={4: torch.zeros(1), 1: torch.zeros(1)}), **COMMON)
    assert record.snapshots == (1, 4)
    assert record.snapshots_file == "fc/3_1_steps.png"


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_none_and_the_json_is_valid(score: float, tmp_path: Path) -> None:
    record = Record.of(make_feature(score, history=torch.tensor([1.0, score])), **COMMON)
    assert record.score is None
    assert record.history == (1.0, None)
    write_manifest([record], tmp_path / "features.json")
    (values,) = json.loads((tmp_path / "features.json").read_text(), parse_constant=pytest.fail)
    assert values["history"] == [1.0, None]


def test_keys_in_files_are_the_names_of_the_fields(tmp_path: Path) -> None:
    plain = Record.of(make_feature(), **COMMON)
    full = replace(plain, class_name="dog", epoch=0, limit=0.5, snapshots=(1,), snapshots_file="fc/3_1_steps.png")
    assert set(full.to_dict()) == {field.name for field in fields(Record)}
    # Those that do not apply are left out.
    assert set(full.to_dict()) - set(plain.to_dict()) == {
        "class_name",
        "epoch",
        "limit",
        "snapshots",
        "snapshots_file",
    }
    write_manifest([plain, full], tmp_path / "features.json")
    assert read_manifest(tmp_path / "features.json") == [plain, full]
    assert read_manifest(tmp_path) == [plain, full]
    assert read_record(save(full, tmp_path / "3_1.png")) == full


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
    record = Record.of(make_feature(), **COMMON)
    (tmp_path / "features.json").write_text(json.dumps([record.to_dict() | {"new": 1}]))
    assert read_manifest(tmp_path / "features.json") == [record]


@pytest.mark.parametrize("key", ["unit", "score", "history", "weights"])
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    record = Record.of(make_feature(), **COMMON)
    (tmp_path / "features.json").write_text(json.dumps([{k: v for k, v in asdict(record).items() if k != key}]))
    with pytest.raises(InputError, match=rf"^'.*features.json' has a record without the key '{key}'; make .* again$"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^no file '.*features.json'; give the features.json that visualize writes$"),
        (b"", r"^cannot read '.*features.json': .*; make the file again$"),
        (b'[{"unit": ', r"^cannot read '.*features.json': .*; make the file again$"),
        (b"\xff\xfe", r"^cannot read '.*features.json': .*; make the file again$"),
        (b'{"unit": 1}', r"^'.*features.json' holds no list of records; give a features.json that"),
        (b"[3]", r"^'.*features.json' holds no record; make the file again$"),
    ],
)
def test_manifests_that_cannot_be_read_are_refused(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "features.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_manifest(path)
    assert "\n" not in str(error.value)


def forged(path: Path, texts: dict[str, str]) -> Path:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    save_png(np.zeros((64, 64, 3), np.uint8), path, info)
    return path


def test_files_without_a_good_record_have_none(tmp_path: Path) -> None:
    good = save(Record.of(make_feature(), **COMMON), tmp_path / "good.png")
    content = good.read_bytes()
    bad = tmp_path / "bad.png"
    assert read_record(bad) is None
    for length in (0, 4, 40, len(content) // 2, len(content) - 20, len(content) - 1):
        bad.write_bytes(content[:length])
        assert read_record(bad) is None, f"cut after {length} of {len(content)} bytes"
    for place in (*range(40), *range(40, len(content), 97), *range(len(content) - 20, len(content))):
        bad.write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
        assert read_record(bad) is None, f"byte {place} is wrong"
    bad.write_text("no picture")
    assert read_record(bad) is None
    save_png(np.zeros((4, 4, 3), np.uint8), bad)
    assert read_record(bad) is None, "a picture without a record"
    PILImage.new("RGB", (4, 4)).save(tmp_path / "bad.jpg")
    assert read_record(tmp_path / "bad.jpg") is None
    with PILImage.open(good) as picture:
        texts = dict(picture.info)
    record = json.loads(texts["fvlightning"])
    others = [{}, [], 3, record | {"score": 2.0}, record | {"history": "none"}, record | {"file": [3]}]
    for text in ("", "{", *map(json.dumps, others)):
        assert read_record(forged(bad, texts | {"fvlightning": text})) is None, f"a record that reads {text!r}"
    assert read_record(forged(bad, texts)) is None, "other pixels"
    assert read_record(tmp_path) is None
    assert read_record(good) is not None
