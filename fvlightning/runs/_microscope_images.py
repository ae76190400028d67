"""The images on the page of `microscope`: their tiles, and the units that each excites."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import nn

from fvlightning.analysis import UnitScorer
from fvlightning.data import PictureSelection
from fvlightning.features import Objective, Unit
from fvlightning.features.objectives import Pooling
from fvlightning.output import Pixels, UnitExamples, WebPage, rounded, shrunk, to_pixels
from fvlightning.runs._microscope_content import Images, class_of

LARGEST_IMAGE = 256  # of tiles, in pixels
LARGEST_EXACT_IMAGE = 64  # the side of images that keep their pixels
_N_EXCITED = 8


def save_images(
    page: WebPage,
    model: nn.Module,
    groups: Mapping[str, Sequence[Unit | Objective]],
    examples: Sequence[UnitExamples],
    selection: PictureSelection,
    pooling: Pooling,
) -> Images | None:
    """Write the tiles of all images that are examples, and find the units that each excites most."""
    shown = {one.place: one for found in examples for one in (*found.strongest, *found.weakest)}
    if not shown:
        return None
    units = [unit for group in groups.values() for unit in group]
    largest = {found.unit: found.maximum for found in examples}
    maxima = torch.tensor([largest[str(unit)] or 0.0 for unit in units])
    scorer = UnitScorer(model, units, pooling)
    excited: dict[str, list[list[tuple[int, float]]]] = {name: [] for name in groups}
    places: list[int] = []

    def tiles() -> Iterator[Pixels]:
        for batch in selection.at(torch.tensor(sorted(shown))):
            scores = scorer(batch.pictures)[0].cpu()
            shares = torch.where(maxima > 0, scores / maxima, -torch.inf).nan_to_num(-torch.inf)
            first = 0
            for name, group in groups.items():
                columns = slice(first, first + len(group))
                order = shares[:, columns].argsort(dim=1, descending=True, stable=True)[:, :_N_EXCITED]
                for row, indices in enumerate(order.tolist()):
                    pairs = [(index, first + index) for index in indices if shares[row, first + index] > 0]
                    excited[name].append([(index, rounded(float(scores[row, column])) or 0) for index, column in pairs])
                first += len(group)
            places.extend(batch.indices.tolist())
            yield from (shrunk(to_pixels(picture), LARGEST_IMAGE) for picture in batch.pictures.cpu())

    exact = max(selection.image_shape) <= LARGEST_EXACT_IMAGE
    sprites = page.save_sprites(tiles(), len(shown), "images", exact=exact)
    names = [(class_of(shown[place]), shown[place].file or f"#{place}") for place in places]
    return Images({place: index for index, place in enumerate(places)}, names, sprites, excited)
