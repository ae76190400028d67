"""What is known of the units of a network, from which `microscope` makes its page."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fvlightning.analysis import Connections, FirstLayer
from fvlightning.features import Objective, Unit
from fvlightning.features.capture import LayerSurvey
from fvlightning.output import Example, Record, UnitExamples, group_name, read_manifest
from fvlightning.runs._microscope_map import Ties
from fvlightning.runs._pictures import score_of

PICTURES = "pictures"


@dataclass(frozen=True)
class Epoch:
    """What a training has left of an epoch.

    Attributes:
        number: Number of epochs that the model was trained for.
        folder: The folder of the pictures.
        records: The records of the best picture of each unit.
        examples: The figures of images by unit, as `write_examples` writes them; empty without an `ExamplesCallback`.
    """

    number: int
    folder: Path
    records: Mapping[str, Record]
    examples: Mapping[str, Mapping[str, Any]]


@dataclass
class Images:
    """The images that are examples of some unit.

    Attributes:
        indices: The number of each image on the page, by its place in the data.
        names: Class, or nothing, and file or place, of each image.
        sprites: See `WebPage.save_sprites`.
        excited: By layer, for each image the units that it excites most, with their scores.
    """

    indices: Mapping[int, int]
    names: list[tuple[str, str]]
    sprites: dict[str, Any]
    excited: dict[str, list[list[tuple[int, float]]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """All that is known of the units of a network; whatever is empty is not shown.

    Attributes:
        model: Name of the model.
        image_shape: ``(C, H, W)`` of the pictures.
        surveys: The layers of the network.
        connections: What feeds what.
        epochs: Those of the training.
        units: The units, layer by layer in the order of the network.
        facts: Lines about model, pictures and images, by their headings.
        records: The records of the pictures in ``pictures``, the negative ones included, by unit, the best first.
        examples: Those of each unit.
        images: The images of the examples.
        weights: The layers that see the pixels.
        ties: The units that each is most tied to.
    """

    model: str
    image_shape: tuple[int, ...]
    surveys: Sequence[LayerSurvey]
    connections: Connections
    epochs: Sequence[Epoch]
    units: Mapping[str, Sequence[Unit | Objective]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    records: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    examples: Mapping[str, UnitExamples] = field(default_factory=dict)
    images: Images | None = None
    weights: Mapping[str, FirstLayer] = field(default_factory=dict)
    ties: Ties = field(default_factory=Ties)


def by_layer(units: Sequence[Unit | Objective], surveys: Sequence[LayerSurvey]) -> dict[str, list[Unit | Objective]]:
    """Return units by the names of their layers, in the order of the network, and sums at the end."""
    groups: dict[str, list[Unit | Objective]] = {str(survey.layer): [] for survey in surveys}
    for unit in units:
        groups.setdefault(group_name(unit), []).append(unit)
    return {name: group for name, group in groups.items() if group}


def best_first(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records of each unit, the highest score first."""
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=score_of, reverse=True):
        groups.setdefault(record.unit, []).append(record)
    return groups


def read_epochs(run: Path) -> list[Epoch]:
    """Return what the callbacks of a training have left in its folder, epoch by epoch."""
    epochs = []
    for manifest in sorted(run.glob("features/epoch_*/features.json")):
        name = manifest.parent.name
        if not (number := name.removeprefix("epoch_")).isdigit():
            continue
        records = {unit: found[0] for unit, found in best_first(read_manifest(manifest)).items()}
        examples: Mapping[str, Any] = {}
        with suppress(OSError, ValueError):  # an ExamplesCallback is another one, which may be missing
            figures = json.loads((run / "examples" / name / "examples.json").read_text(encoding="utf-8"))
            examples = {unit["unit"]: unit for unit in figures["units"]}
        epochs.append(Epoch(int(number), manifest.parent, records, examples))
    return epochs


def class_of(example: Example) -> str:
    """Return the class of an example's image, empty if it has none."""
    return example.class_name or ("" if example.label is None else str(example.label))
