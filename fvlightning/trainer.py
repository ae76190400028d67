"""Lightning's trainer with the commands of this project."""

from importlib import import_module

import lightning.pytorch as pl

# Each is the function of this name in the file of this name in runs/.
COMMANDS = (
    *("visualize", "examples", "inspect", "weights", "unit_sheet", "microscope"),
    *("compare", "cross_evaluate", "magnitude"),
)


class Trainer(pl.Trainer):
    """Lightning's trainer with the commands of this project as methods. A subclass can add its own."""


for _command in COMMANDS:
    setattr(Trainer, _command, getattr(import_module(f"fvlightning.runs.{_command}"), _command))
