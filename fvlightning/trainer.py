"""Lightning's trainer with the commands of this project: one line a command, each a function of `fvlightning.runs`."""

import lightning.pytorch as pl

from fvlightning import runs


class Trainer(pl.Trainer):
    """Lightning's trainer with the commands of this project as methods. A subclass can add its own."""

    visualize = runs.visualize
    compare = runs.compare
    magnitude = runs.magnitude
