"""The error for input that cannot be used, and help with its messages."""

import difflib
from collections.abc import Iterable, Sequence

_MOST_NAMED = 8


class InputError(ValueError):
    """Input that cannot be used: a unit, a path, a setting, a checkpoint.

    The message is one line that names the input, what is valid, and the fix. The command line prints it without a
    traceback and exits with a non-zero status.
    """


class Checked:
    """A class that checks the settings that it is made with."""

    def _require(self, is_valid: bool, requirement: str, **setting: object) -> None:
        """Raise `InputError` with the requirement if a setting is not valid."""
        if not is_valid:
            ((name, value),) = setting.items()
            raise InputError(f"{type(self).__name__}({name}={value!r}): {requirement}")


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return ``". Did you mean 'x'?"``, with the closest of `choices`, to end a message, or ``""`` if none is close."""
    close = difflib.get_close_matches(name, list(choices), n=2, cutoff=0.65)
    return f". Did you mean {' or '.join(map(repr, close))}?" if close else ""


def some_of(names: Sequence[object]) -> str:
    """Return the first eight names as a text, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(str, names[:_MOST_NAMED])) + more


def one_line(error: Exception) -> str:
    """Return the message of another library's error in one line, without a full stop; its type if it has none."""
    message = str(error).partition("Exception raised from")[0]  # by torch, before places in its C++ code
    return " ".join(message.split()).rstrip(".") or type(error).__name__
