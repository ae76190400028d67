"""What a layer makes of an image as pictures: its maps, the curve of its filters, and its strongest filters."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PILImage
from torch import Tensor
from torch.nn import functional as F

from fvlightning.output.pixels import Pixels, to_pixels, value_limit
from fvlightning.output.sheets import contact_sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_MAPS = 144  # on one sheet
_MOST_LISTED = 12  # filters beside a curve
_APART = 0.03  # of the curve's width
_MOST_OPAQUE = 0.75  # the strongest activation, so that the image shows through
_PALENESS = 0.3  # of the image behind a map, so that the map's colours stand out


def maps_sheets(maps: Tensor, title: str, *, own_scale: bool = False) -> dict[str, PILImage.Image]:
    """Return the sheets of a layer's maps, of at most 144 each, by the ends of their names: ``_0-143``, or nothing.

    Args:
        maps: ``(C, H, W)``.
        title: Stands above.
        own_scale: Whether the colours of each map cover its own range, rather than that of all maps.
    """
    signed, limits = _scales(maps, own_scale)
    tiles = [to_pixels(one[None], limit, signed=signed) for one, limit in zip(maps, limits, strict=True)]
    labels = [f"{index}{_range(limit, signed, own_scale)}" for index, limit in enumerate(limits)]
    for index in (~maps.isfinite()).flatten(1).any(1).nonzero().flatten().tolist():
        labels[index] = f"{index} (not finite)"
    sheets = {}
    for first in range(0, len(tiles), _MOST_MAPS):
        part = slice(first, first + _MOST_MAPS)
        end = f"_{first}-{first + len(tiles[part]) - 1}" if len(tiles) > _MOST_MAPS else ""
        legend = None if own_scale else limits[0]
        sheets[end] = contact_sheet(tiles[part], labels[part], title, limit=legend, signed=signed)
    return sheets


def strongest_sheet(
    image: Pixels,
    names: Mapping[int, str],
    means: Tensor,
    maps: Tensor | None,
    pictures: Sequence[Pixels],
    *,
    title: str,
    own_scale: bool = False,
) -> PILImage.Image:
    """Return a sheet of an image, the pictures of the filters that it excites most, and their maps laid over it.

    Args:
        image: ``(H, W, 3)``.
        names: The filters by index, with what stands under their pictures.
        means: The mean activations of the layer's filters, ``(C,)``.
        maps: Their maps, ``(C, h, w)``, if there are any.
        pictures: The filters' own pictures, as large as the image, or none.
        title: Stands above.
        own_scale: See `maps_sheets`; for the maps that are shown.
    """
    figures = [f"mean {float(means[index]):.3g}" for index in names]
    both = [f"{name}, {figure}" for name, figure in zip(names.values(), figures, strict=True)]
    if maps is None:
        return contact_sheet([image, *pictures], ["image", *both], title, columns=len(names) + 1)
    maps = maps[list(names)]
    signed, limits = _scales(maps, own_scale)
    tiles = [laid_over(image, one, limit, signed=signed) for one, limit in zip(maps, limits, strict=True)]
    labels = figures if pictures else both
    labels = [f"{label}{_range(limit, signed, own_scale)}" for label, limit in zip(labels, limits, strict=True)]
    if pictures:
        # White paper below the image.
        tiles = [*pictures, np.full_like(image, 255), *tiles]
        labels = [*names.values(), "", *labels]
    legend = None if own_scale else limits[0]
    tiles, labels = [image, *tiles], ["image", *labels]
    return contact_sheet(tiles, labels, title, columns=len(names) + 1, limit=legend, signed=signed)


def laid_over(image: Pixels, one: Tensor, limit: float, *, signed: bool) -> Pixels:
    """Lay a map ``(h, w)`` over an image ``(H, W, 3)`` in grey: the stronger the activation, the more opaque."""
    values = F.interpolate(one.nan_to_num()[None, None], image.shape[:2], mode="bilinear", align_corners=False)[0]
    grey = np.asarray(PILImage.fromarray(image).convert("L"), np.float32)[..., None]
    pale = 255 * _PALENESS + grey * (1 - _PALENESS)
    opacity = _MOST_OPAQUE * (values.abs() / limit).clamp(max=1).movedim(0, -1).numpy()
    blended = to_pixels(values, limit, signed=signed) * opacity + pale * (1 - opacity)
    return blended.round().astype(np.uint8)


def means_figure(means: Tensor, marked: Sequence[int], title: str) -> "Figure":
    """Draw the mean activations of filters, ``(C,)``, as a curve on which some are marked, the largest first.

    Pyplot does not know the figure, so it needs no closing.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(means.numpy(), color="0.35", linewidth=1, marker="." if len(means) < 100 else None)
    axes.plot(marked, means[list(marked)].numpy(), "o", color="tab:red")
    numbered: list[int] = []
    for index in marked:
        # Numbers of neighbours would cover each other.
        if all(abs(index - other) > _APART * len(means) for other in numbered):
            place = index, float(means[index])
            axes.annotate(str(index), place, (0, 7), textcoords="offset points", ha="center", fontsize=13)
            numbered.append(index)
    ranking = [f"{index}: {float(means[index]):.3g}" for index in marked[:_MOST_LISTED]]
    axes.text(1.01, 1, "\n".join(ranking), transform=axes.transAxes, va="top", fontsize=13)
    axes.margins(x=0.02, y=0.15)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", alpha=0.3)
    axes.set_xlabel("filter", fontsize=14)
    axes.set_ylabel("mean activation", fontsize=14)
    axes.set_title(title, fontsize=min(14, 1100 / len(title)))
    return figure


def _scales(maps: Tensor, own_scale: bool) -> tuple[bool, list[float]]:
    """Return whether a value of maps ``(C, H, W)`` is negative, and the limit of each map's colours."""
    limits = [value_limit([one]) for one in maps] if own_scale else [value_limit([maps])] * len(maps)
    return bool((maps < 0).any()), limits


def _range(limit: float, signed: bool, own_scale: bool) -> str:
    """Return the end of a map's label: its range, if there is no common legend."""
    return "" if not own_scale else f" (±{limit:.2g})" if signed else f" (0 to {limit:.2g})"
