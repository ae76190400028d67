"""Units, and their text form."""

import re
from dataclasses import dataclass, replace
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
_SUM = re.compile(r"\s[+-]\s|^\s*-?\s*[\d.][\d.eE+-]*\*")


@dataclass(frozen=True)
class LayerCall:
    """One call of a module in a network's forward pass, and which of its outputs.

    Args:
        layer: Path of the module in the network, as in `torch.nn.Module.named_modules`.
        call: Which call of the module in one forward pass, counted from 0.
        output: Position or name of the part of a tuple, list, mapping or dataclass. Default: the first tensor in it.
    """

    layer: str
    call: int = 0
    output: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form, ``LAYER``, ``LAYER#CALL`` or ``LAYER[OUTPUT]``.

        Raises:
            InputError: The text is malformed, or names units of the layer.
        """
        unit = UnitRange.parse(text).first
        if unit.index is not None or unit.minimize:
            alone = str(unit.layer_call)
            raise InputError(f"{text!r} names units where a layer is expected; give the layer alone, {alone!r}")
        return cls(unit.layer, unit.call, unit.output)

    def is_output_of(self, call: "LayerCall") -> bool:
        """Return whether this is an output of a call, whichever."""
        return (self.layer, self.call) == (call.layer, call.call)

    def __str__(self) -> str:
        call = f"#{self.call}" if self.call else ""
        return f"{self.layer}{call}" + (f"[{self.output}]" if self.output is not None else "")


@dataclass(frozen=True)
class Unit:
    """One unit of a network: a channel, a neuron, a logit, a position of a map, or a whole layer.

    Args:
        layer: Path of the module in the network.
        index: Channel of a convolution, neuron or logit of a linear layer, feature of a token. None is the whole layer.
        position: ``(row, column)`` of a feature map or ``(token,)`` of a sequence. Empty is the mean over all positions
            (in a vision transformer: over the patch tokens).
        call: See `LayerCall`.
        minimize: Whether to minimise the activation instead of maximising it.
        output: See `LayerCall`.

    Raises:
        InputError: A number is negative, a whole layer has a position, or `output` is empty or has spaces or brackets.

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
        name = f"unit of layer {self.layer!r}"
        numbers = (self.call, *self.position) if self.index is None else (self.index, self.call, *self.position)
        if any(number < 0 for number in numbers):
            raise InputError(f"{name}: index, position and call are counted from 0, not {numbers}")
        if self.index is None and self.position:
            raise InputError(f"{name}: a position needs an index")
        if self.output is not None and not re.fullmatch(_OUTPUT, self.output):
            valid = "a position, or a name without spaces and brackets"
            raise InputError(f"{name}: output {self.output!r} must be {valid}")

    @property
    def layer_call(self) -> LayerCall:
        """The call of the module that the unit belongs to."""
        return LayerCall(self.layer, self.call, self.output)

    @staticmethod
    def parse(text: str) -> "Unit":
        """Read ``LAYER:INDEX``, ``LAYER:INDEX@ROW,COLUMN``, ``LAYER:INDEX@TOKEN`` or ``LAYER``, and ``-`` to minimise.

        ``LAYER#CALL`` is for a later call of a module, and ``LAYER[OUTPUT]`` for another output.

        Raises:
            InputError: The text is malformed, or names several units (a range or ``*``).
        """
        units = UnitRange.parse(text)
        if units.last is not None:
            raise InputError(f"unit {text!r} names several units where one is expected; give one index")
        return units.first

    def __str__(self) -> str:
        text = f"{'-' if self.minimize else ''}{self.layer_call}"
        if self.index is not None:
            text += f":{self.index}"
        if self.position:
            text += "@" + ",".join(map(str, self.position))
        return text


@dataclass(frozen=True)
class UnitRange:
    """Units of one layer, as a text names them before the size of the layer is known.

    Args:
        first: The first unit.
        last: Index of the last unit, included; -1 is the last of the layer. None: the first unit alone.
    """

    first: Unit
    last: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form of a unit, of a range ``LAYER:0-15`` or of all units ``LAYER:*``.

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
        position = tuple(map(int, match["position"].split(","))) if match["position"] else ()
        unit = Unit(match["layer"], first, position, int(match["call"] or 0), bool(match["minus"]), match["output"])
        return cls(unit, None if last == first else last)

    def expand(self, n_units: int) -> list[Unit]:
        """Return the units, for a layer with `n_units` of them.

        Raises:
            InputError: An index lies outside the layer.
        """
        first, last = self.first.index, self.last
        if first is None:
            return [self.first]
        last = first if last is None else n_units - 1 if last == -1 else last
        if last >= n_units:
            raise InputError(
                f"no unit {last} in layer {str(self.first.layer_call)!r}, which has {n_units} units: 0 to {n_units - 1}"
            )
        return [replace(self.first, index=index) for index in range(first, last + 1)]


def is_weighted_sum(text: str) -> bool:
    """Return whether a text is meant as a weighted sum, ``A - 0.5*B``: names of layers have no such sign or star."""
    return _SUM.search(text) is not None
