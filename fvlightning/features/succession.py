"""Which modules take what others give."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class Succession:
    """Pairs of modules, of which the second takes what the first gives, found while a network runs.

    A pair has one call each, and the first one's output reaches the second as it is. That nothing else takes this
    output cannot be seen here: whoever makes one of the two has to compare what the network gives.

    Args:
        firsts: Modules that may come first.
        seconds: Modules that may come second.
        wanted: Modules that have to give what they give now: none ends between the two of a pair.
    """

    def __init__(
        self, firsts: Iterable[nn.Module], seconds: Iterable[nn.Module], wanted: Iterable[nn.Module] = ()
    ) -> None:
        self._firsts, self._seconds = list(firsts), list(seconds)
        self._wanted = [set(module.modules()) for module in wanted]
        self._calls: Counter[nn.Module] = Counter()
        self._found: dict[nn.Module, nn.Module] = {}
        self._last: tuple[nn.Module, Any, int] | None = None

    @property
    def pairs(self) -> dict[nn.Module, nn.Module]:
        """The second module of each first one that has one."""
        return {
            first: second
            for first, second in self._found.items()
            if self._calls[first] == self._calls[second] == 1
            and not any(first in parts and second not in parts for parts in self._wanted)
        }

    @property
    def called(self) -> list[nn.Module]:
        """All that may come first and were called, in the order of their first calls."""
        firsts = set(self._firsts)
        return [module for module in self._calls if module in firsts]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look for pairs in a forward pass that runs inside."""
        handles = [module.register_forward_hook(self._note_first) for module in self._firsts]
        handles += [module.register_forward_pre_hook(self._note_second) for module in self._seconds]
        try:
            yield
        finally:
            self._last = None
            for handle in handles:
                handle.remove()

    def _note_first(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        self._calls[module] += 1
        self._last = (module, output, output._version) if isinstance(output, Tensor) else None

    def _note_second(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._calls[module] += 1
        if self._last is not None:
            first, output, version = self._last
            # The version tells whether anything has been written into the output since.
            if inputs and inputs[0] is output and output._version == version:
                self._found[first] = module
        self._last = None
