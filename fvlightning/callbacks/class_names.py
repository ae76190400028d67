"""The names of the classes that units stand for."""

from collections.abc import Sequence

import lightning.pytorch as pl

from fvlightning.errors import InputError
from fvlightning.features import Objective, Unit
from fvlightning.features.survey import output_layers


def class_names(
    pl_module: pl.LightningModule,
    datamodule: object,
    units: Sequence[Unit | Objective],
    image_shape: Sequence[int],
) -> dict[str, str]:
    """Return the names of the classes that units stand for, by the text forms of these units.

    Those are the units of the layer that gives the network's output, ``(B, K)``, where K names are known: of the data
    that the module is used with, its ``class_names``, or else of the module, its own ``class_names``, as
    `fvlightning.BackboneModule` has them. Of no other units there are names, of sums neither.

    Args:
        pl_module: The module whose units these are.
        datamodule: The data, or None.
        units: What is maximised, checked against the module.
        image_shape: ``(C, H, W)`` of the pictures.
    """
    of_classes = [unit for unit in units if isinstance(unit, Unit) and unit.index is not None]
    known = [getattr(source, "class_names", None) for source in (datamodule, pl_module)]
    if not of_classes or not any(known):
        return {}
    try:
        layers = output_layers(pl_module, {unit.layer_call for unit in of_classes}, image_shape)
    except InputError:  # early layers take pictures of sizes that the last ones do not
        return {}
    names: dict[str, str] = {}
    for unit in of_classes:
        n_classes = layers.get(unit.layer_call)
        fitting = [each for each in known if each and len(each) == n_classes]
        if fitting and unit.index is not None:
            names[str(unit)] = str(fitting[0][unit.index])
    return names
