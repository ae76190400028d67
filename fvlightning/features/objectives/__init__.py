"""Objectives: activations -> scores of shape ``(B,)``, one per picture, to be maximised.

Objectives compose by ``+``, ``-``, and ``*`` and ``/`` with a number. An operation makes a new objective and leaves its
operands as they are, and the weights of a sum are those written: ``1 * a + 3 * b - 5 * c`` has the weights 1, 3 and -5.
"""

from fvlightning.features.objectives.activations import Direction, LayerEnergy, UnitActivation
from fvlightning.features.objectives.base import Objective, Pooling, WeightedSum, stack_objectives
from fvlightning.features.objectives.joint import Alignment, Diversity, JointObjective, joint_key
from fvlightning.features.objectives.log_odds import RivalClasses
from fvlightning.features.objectives.matching import DistributionMatch
from fvlightning.features.objectives.responses import check_responses
from fvlightning.features.objectives.text import Target, interpolate, layers_of, objective_of, resolve_objectives

__all__ = [
    "Alignment",
    "Direction",
    "DistributionMatch",
    "Diversity",
    "JointObjective",
    "LayerEnergy",
    "Objective",
    "Pooling",
    "RivalClasses",
    "Target",
    "UnitActivation",
    "WeightedSum",
    "check_responses",
    "interpolate",
    "joint_key",
    "layers_of",
    "objective_of",
    "resolve_objectives",
    "stack_objectives",
]
