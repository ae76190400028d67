"""What a model makes of images, as files: sheets and curves of each image, and all figures for programs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from PIL import Image as PILImage
from torch import Tensor

from fvlightning.analysis import LayerResponse
from fvlightning.features import LayerCall, Unit
from fvlightning.io import write_atomically
from fvlightning.output import Pixels, layer_name, log_image, on_grey, read_pixels, save_png, to_pixels
from fvlightning.runs._inspection_sheets import maps_sheets, means_figure, strongest_sheet

PICTURES = "pictures"
_DPI = 120


@dataclass(frozen=True)
class InspectedImage:
    """What a model makes of an image.

    Attributes:
        file: The file of the image.
        size: Its height and width in pixels.
        picture: The image as the model sees it, ``(C, H, W)`` in [0, 1].
        predictions: The probabilities of the most probable classes by name; empty for a model without classes.
        responses: The responses of some layers.
    """

    file: Path
    size: tuple[int, int]
    picture: Tensor
    predictions: Mapping[str, float]
    responses: Mapping[LayerCall, LayerResponse]

    def strongest(self, count: int) -> dict[LayerCall, list[Unit]]:
        """Return the units with the largest means of each layer, the largest first."""
        return {layer: _units(layer, response.strongest(count)) for layer, response in self.responses.items()}

    @property
    def not_finite(self) -> list[str]:
        """The units whose mean activations are not finite."""
        return [str(unit) for layer, response in self.responses.items() for unit in _units(layer, response.not_finite)]

    @property
    def predicted(self) -> str:
        """The predictions in one line."""
        return ", ".join(f"{name} {probability:.1%}" for name, probability in self.predictions.items())


class InspectionFiles:
    """Writes the files of each image into a folder of its own, ``IMAGE/LAYER_maps.png``, and passes them to loggers.

    Args:
        folder: The folder of the results.
        files: The files of all images. Where names are the same, a number is added.
        model: The name of the model.
        loggers: Get the sheets as ``IMAGE/LAYER_maps``.
        own_scale: Whether each map has its own scale, see `maps_sheets`.
        curve: Format of the curves, besides PNG.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[Path],
        model: str,
        loggers: Sequence[Logger],
        *,
        own_scale: bool,
        curve: str,
    ) -> None:
        self._folder, self._model, self._loggers = folder, model, loggers
        self._own_scale, self._curve = own_scale, curve
        self._names: dict[Path, str] = {}
        taken = {PICTURES}
        for file in files:
            name, number = layer_name(file.stem), 1
            while name.lower() in taken:  # some file systems do not tell capitals from small letters
                number += 1
                name = f"{layer_name(file.stem)}_{number}"
            taken.add(name.lower())
            self._names[file] = name

    def write_responses(self, image: InspectedImage, strongest: Mapping[LayerCall, Sequence[Unit]]) -> None:
        """Write the maps and the curve of each layer; the strongest units are marked."""
        for layer, response in image.responses.items():
            title, start = self._title(image, layer), self._start(image, layer)
            if response.maps is not None:
                for end, sheet in maps_sheets(response.maps, title, own_scale=self._own_scale).items():
                    self._publish(sheet, f"{start}_maps{end}")
            figure = means_figure(response.means, [unit.index or 0 for unit in strongest[layer]], title)
            for kind in {"png", self._curve}:
                path = self._folder / f"{start}_curve.{kind}"
                write_atomically(path, partial(figure.savefig, format=kind, dpi=_DPI))
            curve = PILImage.fromarray(on_grey(read_pixels(self._folder / f"{start}_curve.png")))
            log_image(self._loggers, f"{start}_curve", curve, 0)

    def write_strongest(
        self,
        image: InspectedImage,
        strongest: Mapping[LayerCall, Sequence[Unit]],
        labels: Mapping[Unit, str],
        pictures: Mapping[Unit, Pixels],
    ) -> None:
        """Write the sheet of the strongest units of each layer, with their pictures if there are any."""
        for layer, units in strongest.items():
            response = image.responses[layer]
            if units and (pictures or response.maps is not None):
                sheet = strongest_sheet(
                    to_pixels(image.picture),
                    response,
                    {unit.index or 0: labels[unit] for unit in units},
                    [pictures[unit] for unit in units if pictures],
                    self._title(image, layer),
                    own_scale=self._own_scale,
                )
                self._publish(sheet, f"{self._start(image, layer)}_top")

    def entry(self, image: InspectedImage, strongest: Mapping[LayerCall, Sequence[Unit]]) -> dict[str, Any]:
        """Return the figures of an image as plain values; means that are not finite are None."""
        layers = {
            str(layer): {
                "top": [unit.index for unit in strongest[layer]],
                "means": [mean if math.isfinite(mean) else None for mean in response.means.tolist()],
            }
            for layer, response in image.responses.items()
        }
        facts = {"image": str(image.file), "size": image.size, "folder": self._names[image.file]}
        return {**facts, "predictions": image.predictions, "layers": layers}

    def _title(self, image: InspectedImage, layer: LayerCall) -> str:
        first = image.predicted.partition(", ")[0]
        return f"{self._model}, {layer}: {image.file.stem}" + (f", predicted {first}" if first else "")

    def _start(self, image: InspectedImage, layer: LayerCall) -> str:
        return f"{self._names[image.file]}/{layer_name(str(layer))}"

    def _publish(self, picture: PILImage.Image, name: str) -> None:
        save_png(picture, self._folder / f"{name}.png")
        log_image(self._loggers, name, picture, 0)


def _units(layer: LayerCall, indices: Sequence[int]) -> list[Unit]:
    return [Unit(layer.layer, index, call=layer.call, output=layer.output) for index in indices]
