"""The text form of units and of weighted sums of them."""

import math
import re

from fvlightning.errors import InputError
from fvlightning.features.objectives.activations import Pooling, objective_of
from fvlightning.features.objectives.base import Objective, WeightedSum
from fvlightning.features.units import Unit, is_weighted_sum

_GRAMMAR = "a sum is terms 'UNIT' or 'NUMBER*UNIT' with ' + ' or ' - ' between them"
_SIGNS = re.compile(r"\s+([+-])\s+")
_WEIGHT = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\*")


def parse_objective(text: str, pooling: Pooling = "mean") -> Objective:
    """Read the text form of a single unit or of a weighted sum of units.

    Args:
        text: A unit's text form (`Unit.parse`), or several with a ``+`` or a ``-`` between spaces and, if wanted, a
            number and ``*`` before each: ``"classifier:207 - 0.5*classifier:208 + 2*blocks.3:5@1,2"``. A ``-`` at the
            start belongs to the first term. The weights are taken as they are written. The ``str`` of what is returned
            is the same text, without needless digits and spaces.
        pooling: As in `UnitActivation`. It is no part of the text.

    Raises:
        InputError: The text is malformed, or a term names several units.
    """
    if not isinstance(text, str) or not is_weighted_sum(text):
        return objective_of(Unit.parse(text), pooling)
    first, *others = _SIGNS.split(text.strip())
    minus = first.startswith("-")
    signed = [("-" if minus else "+", first.removeprefix("-"))]
    signed += zip(others[::2], others[1::2], strict=True)
    return WeightedSum(tuple(_term(sign, term, text, pooling) for sign, term in signed))


def _term(sign: str, text: str, whole: str, pooling: Pooling) -> tuple[float, Objective]:
    match = _WEIGHT.match(text)
    number, unit_text = (match[1], text[match.end() :]) if match else ("1", text)
    try:
        unit = Unit.parse(unit_text)
    except InputError as error:
        raise InputError(f"malformed sum {whole!r}: {error}") from error
    if unit.minimize:
        raise InputError(f"malformed sum {whole!r}: {unit_text!r} has a sign of its own; {_GRAMMAR}")
    if not math.isfinite(weight := float(sign + number)):
        raise InputError(f"malformed sum {whole!r}: {number} is too large a number")
    return weight, objective_of(unit, pooling)
