"""The commands beyond Lightning's four: each is a function in a file of its own, and a method of the `Trainer`.

The signature of a command is its options, its docstring the help. The first parameter is the trainer; `model` and
`datamodule` are demanded if they have no default.
"""

from fvlightning.runs.compare import compare
from fvlightning.runs.magnitude import magnitude
from fvlightning.runs.visualize import visualize

__all__ = ["compare", "magnitude", "visualize"]
