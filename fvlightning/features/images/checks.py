"""Checks of settings that several parametrisations have."""

from fvlightning.errors import InputError


def check_std(name: str, std: float) -> float:
    """Return the standard deviation of the starting noise, if it is one.

    Args:
        name: The class that has the setting, for the message.
        std: What was given.

    Raises:
        InputError: It is negative or not a number.
    """
    if not std >= 0:
        raise InputError(f"{name}(std={std}): the standard deviation of the start must be at least 0")
    return std


def check_max_rms(name: str, max_rms: float | None) -> float | None:
    """Return the bound on the root mean square of a picture, if it is one.

    Args:
        name: The class that has the setting, for the message.
        max_rms: What was given; None is no bound.

    Raises:
        InputError: It is not in (0, 1].
    """
    if max_rms is not None and not 0 < max_rms <= 1:
        raise InputError(f"{name}(max_rms={max_rms}): must be greater than 0 and at most 1, or None for no bound")
    return max_rms
