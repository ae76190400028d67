"""The names of the classes that units stand for."""

from collections.abc import Sequence

import lightning.pytorch as pl

from fvlightning.features import Objective, Unit
from fvlightning.features.capture.survey import class_layers
from fvlightning.protocols import read_class_names


def class_names(
    pl_module: pl.LightningModule,
    datamodule: object,
    units: Sequence[Unit | Objective],
    image_shape: Sequence[int],
) -> dict[str, str]:
    """Return the names of the classes that units stand for, by the text forms of these units.

    Those are the units of the layer that gives the network's output, ``(B, K)``, where K names are known: of the data
    that the module is used with, its ``class_names``, or else of the module, its own ``class_names``, as
    `fvlightning.BackboneModule` has them. Other units, and sums, have none.

    Args:
        pl_module: The module whose units these are.
        datamodule: The data, or None.
        units: What is maximised, checked against the module.
        image_shape: ``(C, H, W)`` of the pictures.
    """
    known = [names for source in (datamodule, pl_module) if (names := read_class_names(source))]
    if not known:
        return {}
    layers = class_layers(pl_module, units, image_shape)
    named: dict[str, str] = {}
    for unit in units:
        if isinstance(unit, Unit) and unit.index is not None:
            fitting = [names for names in known if len(names) == layers.get(unit.layer_call)]
            if fitting:
                named[str(unit)] = fitting[0][unit.index]
    return named
