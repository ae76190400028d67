"""Which modules take what others give."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from torch import Tensor, nn
from torch.autograd.graph import Node

First = TypeVar("First", bound=nn.Module)
Second = TypeVar("Second", bound=nn.Module)


class Succession(Generic[First, Second]):
    """Pairs of modules, of which the second takes what the first gives, found while a network runs.

    A pair has one call each, the first one's output reaches the second as it is, and nobody is to see it in between.
    Whether another part of the network takes it as well is what `sole_pairs` tells.

    Args:
        firsts: Modules that may come first.
        seconds: Modules that may come second.
        wanted: Modules that have to give what they give now: none of them ends between the two of a pair.
        hooked: Modules that are looked at by others: none of them begins or ends there.
    """

    def __init__(
        self,
        firsts: Iterable[First],
        seconds: Iterable[Second],
        wanted: Iterable[nn.Module] = (),
        hooked: Iterable[nn.Module] = (),
    ) -> None:
        self._firsts, self._seconds = list(firsts), list(seconds)
        self._wanted, self._hooked = list(wanted), list(hooked)
        self._calls: Counter[nn.Module] = Counter()
        # What computed the outputs.
        self._nodes: dict[nn.Module, Node | None] = {}
        self._found: list[tuple[First, Second]] = []
        self._last: tuple[First, Tensor, int] | None = None

    @property
    def pairs(self) -> dict[First, Second]:
        """The second module of each first one that has one."""
        return {first: second for first, second in self._found if self._calls[first] == self._calls[second] == 1}

    @property
    def called(self) -> list[First]:
        """All that may come first and were called."""
        return [module for module in self._firsts if self._calls[module]]

    def sole_pairs(self, results: Iterable[Tensor]) -> dict[First, Second]:
        """Return the pairs whose first one's output has no part in the results but by way of the second.

        Args:
            results: What the network gave when it was watched, with its graph. What was computed without gradients is
                not in there: such a pair is left out, and of such a use nothing is known.
        """
        users = _users(results)
        return {
            first: second
            for first, second in self.pairs.items()
            if (node := self._nodes[first]) in users and users[node] <= _between(self._nodes[second], node)
        }

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look for pairs in a forward pass that runs inside."""
        handles = [module.register_forward_hook(self._note_first) for module in self._firsts]
        # Of one module the hooks run in this order.
        handles += [module.register_forward_hook(self._forget) for module in (*self._wanted, *self._hooked)]
        handles += [module.register_forward_pre_hook(self._forget) for module in self._hooked]
        handles += [module.register_forward_pre_hook(self._note_second) for module in self._seconds]
        handles += [module.register_forward_hook(self._note_node) for module in self._seconds]
        try:
            yield
        finally:
            self._last = None
            for handle in handles:
                handle.remove()

    def _note_first(self, module: First, _inputs: Any, output: Any) -> None:
        self._calls[module] += 1
        self._last = None
        self._note_node(module, _inputs, output)
        # Tensors of the inference mode have no version.
        if isinstance(output, Tensor) and not output.is_inference():
            self._last = module, output, output._version

    def _note_second(self, module: Second, inputs: tuple[Any, ...]) -> None:
        self._calls[module] += 1
        if self._last is not None:
            first, output, version = self._last
            # The version tells whether anything has been written into the output since.
            if inputs and inputs[0] is output and output._version == version:
                self._found.append((first, module))
        self._last = None

    def _note_node(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        self._nodes[module] = output.grad_fn if isinstance(output, Tensor) else None

    def _forget(self, *_: Any) -> None:
        self._last = None


def _users(results: Iterable[Tensor]) -> dict[Node | None, set[Node | None]]:
    """Return by operation which ones take what it gives, on the way to the results; None stands for a result itself."""
    found = [result.grad_fn for result in results if result.grad_fn is not None]
    users: dict[Node | None, set[Node | None]] = {node: {None} for node in found}
    seen: set[Node] = set()
    while found:
        node = found.pop()
        if node not in seen:
            seen.add(node)
            for earlier, _ in node.next_functions:
                if earlier is not None:
                    users.setdefault(earlier, set()).add(node)
                    found.append(earlier)
    return users


def _between(last: Node | None, first: Node | None) -> set[Node | None]:
    """Return the operations on the way from one to another, that included and this one not."""
    left, passed = [last], set[Node | None]()
    while left:
        node = left.pop()
        if node is not None and node is not first and node not in passed:
            passed.add(node)
            left += [earlier for earlier, _ in node.next_functions]
    return passed
