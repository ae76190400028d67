"""The names of classes, as data modules and models have them."""

from contextlib import suppress

import numpy as np


def read_class_names(source: object) -> tuple[str, ...]:
    """Return the ``class_names`` of a data module or a LightningModule, empty if it has none that can be read.

    Anybody's class may have an attribute of this name, of any kind: what is no sequence of names is none.

    Args:
        source: The data module or the module, or None.
    """
    # A property may need data that are not there yet; and a name is not worth a run.
    with suppress(Exception):
        names = getattr(source, "class_names", None)
        if isinstance(names, list | tuple | np.ndarray):
            return tuple(map(str, names))
    return ()
