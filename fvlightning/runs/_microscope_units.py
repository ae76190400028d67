"""What the page of `microscope` says of a unit, as plain values."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fvlightning.features import Objective, Unit
from fvlightning.io import UnreadableImageError
from fvlightning.output import (
    Example,
    Record,
    UnitExamples,
    from_pixels,
    on_grey,
    read_pixels,
    rounded,
    rounded_all,
    unit_file,
)
from fvlightning.runs._microscope_content import PICTURES, Content, class_of
from fvlightning.runs._pictures import negative_of
from fvlightning.runs._weight_files import layer_of_weights, match_of

_MOST_STEPS = 128  # of a curve
# The numbers of units by their keys: name, and meaning.
NUMBERS = {
    "score": ("score", "the unit's activation on its picture, as saved"),
    "ratio": ("score ÷ largest", "1: the picture excites the unit as much as the image that excites it most"),
    "largest": ("largest of images", "the unit's highest activation on an image"),
    "active": ("images active", "share of the images on which the unit is above 0 at some position at least"),
    "cosine": ("cosine of weights", "of the unit's weights and the patch of its picture that excites it most"),
    "birth": ("birth", "first epoch whose picture has half the score of the last epoch's"),
    "step": ("best step", "the step of the optimisation that gave the picture"),
}
# What the scores mean. None of it says that a picture looks like the images.
VERDICTS = {
    "above": ("above", "its picture excites it at least as much as any of the images"),
    "below": ("below", "some image excites it more than its picture does: trust the images more"),
    "silent": ("silent", "no image excites it, so what its picture shows may never occur"),
    "dead": ("dead", "no step of the optimisation moved it, so its picture shows nothing"),
    "failed": ("no picture", "there is no picture, or its values are not finite"),
    "unchecked": ("unchecked", "its picture was not compared with images"),
}


def unit_values(content: Content, unit: Unit | Objective, folder: Path) -> dict[str, Any]:
    """Return what the page says of a unit; the files of its pictures are in a folder."""
    name = str(unit)
    records, found = content.records.get(name, ()), content.examples.get(name)
    record = records[0] if records else None
    score = None if record is None else record.score
    largest = None if found is None else found.maximum
    numbers: dict[str, float | None] = {"largest": largest, "active": None if found is None else found.active}
    if record is not None:
        numbers |= {"score": score, "step": record.best_step, "cosine": _cosine(content, unit, record, folder)}
    if score is not None and largest is not None and score > 0 and largest > 0:
        numbers["ratio"] = score / largest
    numbers["birth"] = _birth(content, name)
    names = [found and found.class_name, record and record.class_name]
    return {
        "id": unit_file(unit).stem if isinstance(unit, Unit) else name,
        "name": name,
        "class": next(filter(None, names), None),
        "label": _common_label(found),
        "verdict": _verdict(record, found),
        "numbers": rounded_all(numbers),
        "pictures": [_picture_facts(record) for record in records],
        "negatives": [_picture_facts(one) for one in content.records.get(str(negative_of(unit)), ())],
        "curve": _curve(record),
        "images": None if found is None else _examples(content, found),
        "before": content.ties.before.get(name, ()),
        "after": content.ties.after.get(name, ()),
    }


def histogram(n_images: int, minimum: float | None, maximum: float | None, counts: Sequence[int]) -> dict[str, Any]:
    """Return the histogram of a unit's activations on images."""
    return {"count": n_images, "minimum": rounded(minimum), "maximum": rounded(maximum), "histogram": counts}


def _verdict(record: Record | None, found: UnitExamples | None) -> str:
    if record is None or record.score is None:
        return "failed"
    if record.status == "dead":
        return "dead"
    if found is None or found.maximum is None:
        return "unchecked"
    if found.dead:
        return "silent"
    return "above" if record.score >= found.maximum else "below"


def _birth(content: Content, unit: str) -> float | None:
    scores = [(epoch.number, epoch.records[unit].score) for epoch in content.epochs if unit in epoch.records]
    if len(scores) < 2 or (last := scores[-1][1]) is None or last <= 0:
        return None
    return next(number for number, score in scores if score is not None and score >= last / 2)


def _cosine(content: Content, unit: Unit | Objective, record: Record, folder: Path) -> float | None:
    layer = layer_of_weights(content.weights, unit, record)
    if layer is None or record.status != "ok":
        return None
    try:
        pixels = on_grey(read_pixels(folder / record.file))
    except UnreadableImageError:
        return None
    return match_of(layer, unit, record, from_pixels(pixels, record.image_shape[0])).cosine


def _examples(content: Content, found: UnitExamples) -> dict[str, Any]:
    assert content.images is not None
    indices = content.images.indices
    sides = content.image_shape[1:] * 2

    def plain(examples: Sequence[Example]) -> list[Any]:
        # A box as shares of the image's height and width.
        boxes = [
            one.box and [round(part / side, 4) for part, side in zip(one.box, sides, strict=True)] for one in examples
        ]
        return [[indices[one.place], rounded(one.score), box] for one, box in zip(examples, boxes, strict=True)]

    return {
        **histogram(found.n_images, found.minimum, found.maximum, found.histogram),
        "not_finite": found.n_non_finite,
        "strongest": plain(found.strongest),
        "weakest": plain(found.weakest),
    }


def _picture_facts(record: Record) -> dict[str, Any]:
    facts = {"file": f"{PICTURES}/{record.file}", "score": rounded(record.score), "status": record.status}
    return {**facts, "steps": record.steps, "limit": rounded(record.limit)}


def _curve(record: Record | None) -> dict[str, Any] | None:
    """Return the scores of the optimisation, every n-th of a long one."""
    if record is None:
        return None
    every = -(-len(record.history) // _MOST_STEPS) or 1
    return {"every": every, "scores": [rounded(score) for score in record.history[::every]]}


def _common_label(found: UnitExamples | None) -> str | None:
    """Return the most frequent class of the images that excite a unit most, None if they have no classes."""
    names = [name for one in (found.strongest if found else ()) if (name := class_of(one))]
    return Counter(names).most_common(1)[0][0] if names else None
