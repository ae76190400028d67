"""From one unit to another."""

from collections.abc import Sequence

from fvlightning.errors import InputError
from fvlightning.features.objectives.activations import Pooling, objective_of
from fvlightning.features.objectives.base import Objective
from fvlightning.features.objectives.text import parse_objective
from fvlightning.features.units import Unit


def interpolate(
    first: Objective | Unit | str, second: Objective | Unit | str, n_pictures: int = 5, pooling: Pooling = "mean"
) -> Sequence[Objective]:
    """Return objectives that lead from one unit to another: ``(1 - t) · first + t · second`` for t from 0 to 1.

    Each is an objective of its own, to be given to the maximizer among others (Olah et al. 2017,
    https://distill.pub/2017/feature-visualization/#interaction).

    Args:
        first: An objective, a unit, or the text form of a unit or of a weighted sum.
        second: The same.
        n_pictures: How many objectives, the two ends included.
        pooling: As in `UnitActivation`, for units.

    Raises:
        InputError: `n_pictures` is less than 2, or a text is malformed or names several units.
    """
    if n_pictures < 2:
        raise InputError(f"interpolate(n_pictures={n_pictures}): at least 2, the two ends")
    start, end = (_objective(given, pooling) for given in (first, second))
    shares = [place / (n_pictures - 1) for place in range(n_pictures)]
    return [(1 - share) * start + share * end for share in shares]


def _objective(given: Objective | Unit | str, pooling: Pooling) -> Objective:
    if isinstance(given, Objective):
        return given
    return parse_objective(given, pooling) if isinstance(given, str) else objective_of(given, pooling)
