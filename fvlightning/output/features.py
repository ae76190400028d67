"""Features as pixels: pictures, sheets of a layer, strips of what was on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as PILImage
from torch import Tensor

from fvlightning.features import Feature, Objective, Unit
from fvlightning.output.colors import Pixels, on_grey, to_pixels, to_signed_pixels, with_alpha
from fvlightning.output.names import unit_label
from fvlightning.output.sheets import contact_sheet


@dataclass(frozen=True)
class Tile:
    """What a sheet shows of a feature.

    Args:
        unit: What was maximised.
        repeat: Which picture of the unit it is.
        status: As of `fvlightning.features.Feature`.
        pixels: ``(H, W, 3)``, or ``(H, W, 4)`` with an alpha channel.
        limit: Of signed values, the value of the strongest red; else None.
        class_name: Name of the class that the unit stands for, or None.
    """

    unit: Unit | Objective
    repeat: int
    status: str
    pixels: Pixels
    limit: float | None = None
    class_name: str | None = None


def value_limit(pictures: Sequence[Tensor]) -> float:
    """Return the largest absolute value in pictures of signed values, 1 if they are all 0."""
    return max(float(picture.abs().max()) for picture in pictures) or 1.0


def feature_pixels(feature: Feature, limit: float | None = None) -> Pixels:
    """Return a feature's picture, ``(H, W, 3)``, with its importance as a fourth channel, alpha, where it has one.

    The colours are those of the picture, whatever the alpha.

    Args:
        feature: The feature.
        limit: Of a parametrisation whose values have no bounds, the value of the strongest red; else None.
    """
    pixels = to_pixels(feature.image) if limit is None else to_signed_pixels(feature.image, limit)
    return pixels if feature.importance is None else with_alpha(pixels, feature.importance)


def feature_sheet(tiles: Sequence[Tile], title: str) -> PILImage.Image:
    """Return a contact sheet of features, each with its index and the name of its class, if it has one, under it.

    Args:
        tiles: At least one, all of one size. Signed values of one limit have a legend below, those of several have
            each its own in its label.
        title: Stands above.
    """
    limits = {tile.limit for tile in tiles}
    limit = limits.pop() if len(limits) == 1 else None
    labels = [_label(tile) for tile in tiles]
    if limits:
        labels = [f"{label} (±{tile.limit:.2g})" for label, tile in zip(labels, tiles, strict=True)]
    return contact_sheet([on_grey(tile.pixels) for tile in tiles], labels, title, limit=limit)


def with_class(unit: str, class_name: str | None) -> str:
    """Return a unit's index or text form with the name of its class behind it.

    Args:
        unit: ``207`` or ``classifier:207``; with a leading ``-`` if it is minimised.
        class_name: ``golden retriever``; None, and a number that the unit has, too, as those of digits, are left out.
    """
    index = unit.rpartition(":")[2].removeprefix("-")
    return unit if class_name is None or class_name == index else f"{unit} {class_name}"


def class_entry(names: Mapping[str, str], unit: str) -> dict[str, str]:
    """Return the entry of a unit's record that names its class: ``{"class": NAME}``, empty if it has no name.

    Args:
        names: Names of classes by the text forms of their units.
        unit: Text form of a unit.
    """
    return {"class": names[unit]} if unit in names else {}


def _label(tile: Tile) -> str:
    index = unit_label(tile.unit)
    # Which repeat it is, and what is wrong with it, come last.
    return with_class(index, tile.class_name) + unit_label(tile.unit, tile.repeat, tile.status).removeprefix(index)


def snapshot_strip(feature: Feature, bounded: bool, class_name: str | None = None) -> PILImage.Image:
    """Return a feature's snapshots side by side, each with its step under it, and at the end the picture itself.

    Args:
        feature: A feature with snapshots. Those of another size than the picture are brought to its size.
        bounded: Whether the parametrisation gives pictures in [0, 1]; other values are shown as signed ones.
        class_name: Name of the class that the unit stands for, or None.
    """
    pictures = {f"step {step}": picture for step, picture in sorted(feature.snapshots.items())}
    pictures[f"best: step {feature.best_step}"] = feature.image
    limit = None if bounded else value_limit(list(pictures.values()))
    pixels = [to_pixels(p) if limit is None else to_signed_pixels(p, limit) for p in pictures.values()]
    height, width = pixels[-1].shape[:2]
    scaled = [_resized(each, (width, height)) for each in pixels]
    title = with_class(feature.name, class_name)
    return contact_sheet(scaled, list(pictures), title, columns=len(scaled), limit=limit)


def _resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    if pixels.shape[1::-1] == size:
        return pixels
    resized: Pixels = np.asarray(PILImage.fromarray(pixels).resize(size, PILImage.Resampling.LANCZOS))
    return resized
