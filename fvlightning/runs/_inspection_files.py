"""What a model makes of images, as files: sheets and curves of each image."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from lightning.pytorch.loggers import Logger
from PIL import Image as PILImage

from fvlightning.analysis import Inspection
from fvlightning.features import Unit
from fvlightning.io import write_atomically
from fvlightning.output import (
    Pixels,
    file_names,
    layer_name,
    log_image,
    maps_sheets,
    means_figure,
    on_grey,
    read_pixels,
    save_png,
    strongest_sheet,
    to_pixels,
)

PICTURES = "pictures"
_DPI = 120


class InspectionFiles:
    """Writes the files of each image into a folder of its own, ``IMAGE/LAYER_maps.png``, and passes them to loggers.

    Args:
        folder: The folder of the results.
        files: The files of all images. Where names are the same, a number is added.
        model: The name of the model.
        loggers: Get the sheets as ``IMAGE/LAYER_maps``.
        own_scale: Whether each map has its own scale, see `maps_sheets`.
        curve: Format of the curves, besides PNG.

    Attributes:
        names: The name of each image's folder.
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
        self.names = file_names(files, reserved={PICTURES})

    def write_responses(self, file: Path, inspection: Inspection, strongest: Mapping[str, Sequence[Unit]]) -> None:
        """Write the maps and the curve of each layer; the strongest units are marked."""
        for layer, response in inspection.responses.items():
            title, start = self._title(file, inspection, layer), self._start(file, layer)
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
        file: Path,
        inspection: Inspection,
        strongest: Mapping[str, Sequence[Unit]],
        labels: Mapping[Unit, str],
        pictures: Mapping[Unit, Pixels],
    ) -> None:
        """Write the sheet of the strongest units of each layer, with their pictures if there are any."""
        for layer, units in strongest.items():
            response = inspection.responses[layer]
            if units and (pictures or response.maps is not None):
                sheet = strongest_sheet(
                    to_pixels(inspection.picture),
                    {unit.index or 0: labels[unit] for unit in units},
                    response.means,
                    response.maps,
                    [pictures[unit] for unit in units if pictures],
                    title=self._title(file, inspection, layer),
                    own_scale=self._own_scale,
                )
                self._publish(sheet, f"{self._start(file, layer)}_top")

    def _title(self, file: Path, inspection: Inspection, layer: str) -> str:
        predicted = inspection.predicted(1)
        return f"{self._model}, {layer}: {file.stem}" + (f", predicted {predicted}" if predicted else "")

    def _start(self, file: Path, layer: str) -> str:
        return f"{self.names[file]}/{layer_name(layer)}"

    def _publish(self, picture: PILImage.Image, name: str) -> None:
        save_png(picture, self._folder / f"{name}.png")
        log_image(self._loggers, name, picture, 0)
