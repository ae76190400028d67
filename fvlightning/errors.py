"""What a user is told when something that they gave cannot be used."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something that the user gave cannot be used: a unit, a path, a setting, a checkpoint.

    The message is one line that names the thing, what is valid, and the fix. The command line prints it without a
    traceback and ends with a non-zero status.
    """


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest of `choices`, or ``""`` if none is close."""
    close = difflib.get_close_matches(name, list(choices), n=2, cutoff=0.65)
    if not close:
        return ""
    return f" Did you mean {' or '.join(repr(match) for match in close)}?"
