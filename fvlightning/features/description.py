"""Settings as plain values, for records and to tell one picture from another."""

from pathlib import Path
from typing import Any, ClassVar

from fvlightning.errors import InputError

_SCALARS = (bool, int, float, str)


class Described:
    """Base class of objects whose settings determine pictures.

    Attributes:
        derived: Names of attributes that `settings` leaves out: they follow from others, or a digest stands for them.
    """

    derived: ClassVar[frozenset[str]] = frozenset()

    @property
    def settings(self) -> dict[str, Any]:
        """The name of the class under ``"class"``, and all attributes of the object, private ones too.

        Records hold these settings, and a picture is made again when they change. So all must be plain values: None,
        bool, int, float, str, and tuples, lists and dicts of these. A path becomes its text, another object its own
        settings. A class with a tensor names it in `derived` and adds a digest (`fvlightning.io.digest_of_tensors`).

        Raises:
            InputError: An attribute is not a plain value; the message names it.
        """
        name = type(self).__name__
        plain = {key: _plain(value, name, key) for key, value in vars(self).items() if key not in self.derived}
        return {"class": name} | plain


def _plain(value: object, class_name: str, attribute: str) -> object:
    if isinstance(value, Described):
        return value.settings
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        entries = [_plain(entry, class_name, attribute) for entry in value]
        return entries if isinstance(value, list) else tuple(entries)
    if isinstance(value, dict) and all(isinstance(key, _SCALARS) for key in value):
        return {key: _plain(entry, class_name, attribute) for key, entry in value.items()}
    if value is None or isinstance(value, _SCALARS):
        return value
    raise InputError(
        f"{class_name}.settings: '{attribute}' is a {type(value).__name__}, not a plain value; override the property "
        "settings and put a digest in its place (fvlightning.io.digest_of_tensors)"
    )
