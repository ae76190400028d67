"""What is maximised, and its text form."""

import re
from dataclasses import dataclass
from typing import Self

from fvlightning.errors import InputError

_GRAMMAR = (
    "[-]LAYER[#CALL][:INDEX[@POSITION]], with INDEX a number, a range '0-15' or '*', POSITION 'ROW,COLUMN' or 'TOKEN', "
    "and 'LAYER[1]' or 'LAYER[name]' for another of several outputs"
)
_OUTPUT = r"[^\s\[\]]+"
_TEXT = re.compile(
    r"(?P<minus>-?)(?P<layer>[^\s:#@*\[\],-][^\s:#@*\[\]]*)"
    r"(?:#(?P<call>\d{1,18}))?"
    rf"(?:\[(?P<output>{_OUTPUT})\])?"
    r"(?::(?P<index>\*|\d{1,18}(?:-\d{1,18})?)(?:@(?P<position>\d{1,18}(?:,\d{1,18})?))?)?"
)
# What starts with a number and a star, or has a sign between spaces, is no single unit: names of layers have neither.
_SUM = re.compile(r"\s[+-]\s|^\s*-?\s*[\d.][\d.eE+-]*\*")


@dataclass(frozen=True)
class LayerCall:
    """One call of a module in a network's forward pass, and which of its outputs.

    Args:
        layer: Path of the module in the network, as in `torch.nn.Module.named_modules`.
        call: Which call of the module in one forward pass, counted from 0.
        output: Of a module that gives a tuple, a list, a mapping or a dataclass: the position or the name of what is
            taken. None is the first tensor in it.
    """

    layer: str
    call: int = 0
    output: str | None = None

    def __str__(self) -> str:
        """Return ``LAYER``, ``LAYER#CALL`` for a later call, and ``LAYER[OUTPUT]`` for another output."""
        call = f"#{self.call}" if self.call else ""
        return f"{self.layer}{call}" + (f"[{self.output}]" if self.output is not None else "")


@dataclass(frozen=True)
class Unit:
    """One unit of a network: a channel, a neuron, a logit, a position of a map, or a whole layer.

    Args:
        layer: Path of the module in the network.
        index: Channel of a convolution, neuron or logit of a linear layer, feature of a token. None is the whole layer.
        position: ``(row, column)`` of a feature map or ``(token,)`` of a sequence. Empty is the mean over all positions
            (of a vision transformer: over the patch tokens).
        call: Which call of a module that is called more than once in a forward pass, counted from 0.
        minimize: Whether the activation is made small instead of large.
        output: As in `LayerCall`.

    Example:
        >>> Unit.parse("conv2:3@14,7")
        Unit(layer='conv2', index=3, position=(14, 7), call=0, minimize=False, output=None)
        >>> str(Unit("blocks.2", 5, minimize=True))
        '-blocks.2:5'
    """

    layer: str
    index: int | None = None
    position: tuple[int, ...] = ()
    call: int = 0
    minimize: bool = False
    output: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no text form could name.

        Raises:
            InputError: An index, position or call is negative, a whole layer has a position, or the output's name is
                empty or has spaces or brackets.
        """
        numbers = (self.call, *self.position) if self.index is None else (self.index, self.call, *self.position)
        if any(number < 0 for number in numbers):
            raise InputError(
                f"unit of layer {self.layer!r}: index, position and call are counted from 0, not {numbers}"
            )
        if self.index is None and self.position:
            raise InputError(f"unit of layer {self.layer!r}: a position needs an index")
        if self.output is not None and not re.fullmatch(_OUTPUT, self.output):
            raise InputError(
                f"unit of layer {self.layer!r}: output {self.output!r} must be a position, or a name without spaces "
                "and brackets"
            )

    @property
    def layer_call(self) -> LayerCall:
        """The call of the module that the unit belongs to."""
        return LayerCall(self.layer, self.call, self.output)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form of a single unit.

        Args:
            text: ``LAYER:INDEX``, ``LAYER:INDEX@ROW,COLUMN``, ``LAYER:INDEX@TOKEN`` or ``LAYER``; with a leading ``-``
                to minimise, ``LAYER#CALL`` for a later call of a module, and ``LAYER[OUTPUT]`` for another output.

        Raises:
            InputError: The text is malformed, or names several units (a range or ``*``).
        """
        units = UnitRange.parse(text)
        if units.last != units.first:
            raise InputError(f"unit {text!r} names several units where one is expected; give one index")
        return cls(units.layer, units.first, units.position, units.call, units.minimize, units.output)

    def __str__(self) -> str:
        """Return the text form, which `parse` reads."""
        text = f"{'-' if self.minimize else ''}{self.layer_call}"
        if self.index is not None:
            text += f":{self.index}"
        if self.position:
            text += "@" + ",".join(map(str, self.position))
        return text


@dataclass(frozen=True)
class UnitRange:
    """Several units of one layer, as a text names them before the size of the layer is known.

    Args:
        layer: Path of the module in the network.
        first: First index, or None for the whole layer as one.
        last: Last index, included. -1 is the last of the layer.
        position: As in `Unit`, the same for all of the units.
        call: As in `Unit`.
        minimize: As in `Unit`.
        output: As in `Unit`.
    """

    layer: str
    first: int | None = None
    last: int | None = None
    position: tuple[int, ...] = ()
    call: int = 0
    minimize: bool = False
    output: str | None = None

    @property
    def layer_call(self) -> LayerCall:
        """The call of the module that the units belong to."""
        return LayerCall(self.layer, self.call, self.output)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a unit's text form, with a range ``LAYER:0-15`` or all units ``LAYER:*`` in the place of the index.

        Raises:
            InputError: The text is empty or malformed, or a weighted sum, or the range runs backwards.
        """
        if isinstance(text, str) and is_weighted_sum(text):
            raise InputError(f"{text!r} is a weighted sum, where a unit or a range of units is expected")
        match = _TEXT.fullmatch(text.strip()) if isinstance(text, str) else None
        if match is None:
            raise InputError(f"malformed unit {text!r}; a unit is {_GRAMMAR}, for example 'conv2:3', 'conv2:*'")
        first, last = None, None
        if (index := match["index"]) == "*":
            first, last = 0, -1
        elif index is not None:
            start, _, end = index.partition("-")
            first, last = int(start), int(end or start)
            if last < first:
                raise InputError(f"malformed unit {text!r}: the range runs from {first} back to {last}; swap them")
        position = tuple(int(part) for part in match["position"].split(",")) if match["position"] else ()
        call, minimize = int(match["call"] or 0), match["minus"] == "-"
        return cls(match["layer"], first, last, position, call, minimize, match["output"])

    @classmethod
    def of(cls, unit: Unit) -> Self:
        """Return the range that holds this one unit."""
        return cls(unit.layer, unit.index, unit.index, unit.position, unit.call, unit.minimize, unit.output)

    def expand(self, n_units: int) -> list[Unit]:
        """Return the units, for a layer with `n_units` of them.

        Raises:
            InputError: An index lies outside of the layer.
        """
        if self.first is None or self.last is None:
            return [Unit(self.layer, None, self.position, self.call, self.minimize, self.output)]
        last = n_units - 1 if self.last == -1 else self.last
        if last >= n_units:
            raise InputError(
                f"no unit {last} in layer {str(self.layer_call)!r}, which has {n_units} units: 0 to {n_units - 1}"
            )
        indices = range(self.first, last + 1)
        return [Unit(self.layer, index, self.position, self.call, self.minimize, self.output) for index in indices]


def is_weighted_sum(text: str) -> bool:
    """Tell whether a text is meant as a weighted sum of units, ``A - 0.5*B``, rather than as a unit or a range."""
    return _SUM.search(text) is not None
