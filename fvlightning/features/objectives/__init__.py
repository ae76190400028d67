"""Objectives: activations -> scores of shape ``(B,)``, one a picture, to be made large.

Objectives compose by ``+``, ``-`` and multiplication by a number. An operation makes a new objective and leaves its
operands as they are, and the weights of a sum are what they say: ``1 * a + 3 * b - 5 * c`` has the weights 1, 3 and -5.
"""

from fvlightning.features.objectives.activations import LayerEnergy, Pooling, Target, UnitActivation, objective_of
from fvlightning.features.objectives.base import Objective, Scorer, WeightedSum, stack_objectives
from fvlightning.features.objectives.direction import Direction
from fvlightning.features.objectives.interpolation import interpolate
from fvlightning.features.objectives.text import parse_objective

__all__ = [
    "Direction",
    "LayerEnergy",
    "Objective",
    "Pooling",
    "Scorer",
    "Target",
    "UnitActivation",
    "WeightedSum",
    "interpolate",
    "objective_of",
    "parse_objective",
    "stack_objectives",
]
