"""Pairs of modules of which the second takes the output of the first."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import Node


class Succession:
    """Finds pairs of modules, of which the second takes the output of the first, while a network runs.

    Both modules of a pair are called once, the output reaches the second module unchanged, and nothing else sees it
    in between. `sole_pairs` also tells whether another part of the network uses it.

    Args:
        firsts: Modules that may come first.
        seconds: Modules that may come second.
        captured: Modules whose outputs must not change: none of them ends between the two modules of a pair.
        hooked: Modules with hooks of others: none of them begins or ends there.
    """

    def __init__(
        self,
        firsts: Iterable[nn.Conv2d],
        seconds: Iterable[nn.Module],
        captured: Iterable[nn.Module] = (),
        hooked: Iterable[nn.Module] = (),
    ) -> None:
        self._firsts, self._seconds = list(firsts), list(seconds)
        self._captured, self._hooked = list(captured), list(hooked)
        self._calls: Counter[nn.Module] = Counter()
        # The operations that computed the outputs.
        self._nodes: dict[nn.Module, Node | None] = {}
        self._pairs: list[tuple[nn.Conv2d, nn.Module]] = []
        self._last: tuple[nn.Conv2d, Tensor, int] | None = None

    @property
    def pairs(self) -> dict[nn.Conv2d, nn.Module]:
        """The second module of each pair by the first."""
        return {first: second for first, second in self._pairs if self._calls[first] == self._calls[second] == 1}

    @property
    def called(self) -> list[nn.Conv2d]:
        """The modules among the first ones that were called."""
        return [module for module in self._firsts if self._calls[module]]

    def sole_pairs(self, results: Iterable[Tensor]) -> dict[nn.Conv2d, nn.Module]:
        """Return the pairs in which the first module's output has a part in the results only through the second.

        Args:
            results: Outputs of the network when it was watched, with their graph. Parts that were computed without
                gradients are not in the graph: such pairs are left out, and such uses remain unknown.
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
        # The hooks of one module run in this order.
        handles += [module.register_forward_hook(self._forget) for module in (*self._captured, *self._hooked)]
        handles += [module.register_forward_pre_hook(self._forget) for module in self._hooked]
        handles += [module.register_forward_pre_hook(self._note_second) for module in self._seconds]
        handles += [module.register_forward_hook(self._note_node) for module in self._seconds]
        try:
            yield
        finally:
            self._last = None
            for handle in handles:
                handle.remove()

    def _note_first(self, module: nn.Conv2d, _inputs: Any, output: Any) -> None:
        self._calls[module] += 1
        self._last = None
        self._note_node(module, _inputs, output)
        # Tensors of inference mode have no version.
        if isinstance(output, Tensor) and not output.is_inference():
            self._last = module, output, output._version

    def _note_second(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._calls[module] += 1
        if self._last is not None:
            first, output, version = self._last
            # The version tells whether anything has been written into the output since.
            if inputs and inputs[0] is output and output._version == version:
                self._pairs.append((first, module))
        self._last = None

    def _note_node(self, module: nn.Module, _inputs: Any, output: Any) -> None:
        self._nodes[module] = output.grad_fn if isinstance(output, Tensor) else None

    def _forget(self, *_: Any) -> None:
        self._last = None


def _users(results: Iterable[Tensor]) -> dict[Node | None, set[Node | None]]:
    """Return which operations use the output of each operation, up to the results; None stands for a result itself."""
    pending = [result.grad_fn for result in results if result.grad_fn is not None]
    users: dict[Node | None, set[Node | None]] = {node: {None} for node in pending}
    seen: set[Node] = set()
    while pending:
        node = pending.pop()
        if node not in seen:
            seen.add(node)
            for earlier, _ in node.next_functions:
                if earlier is not None:
                    users.setdefault(earlier, set()).add(node)
                    pending.append(earlier)
    return users


def _between(last: Node | None, first: Node | None) -> set[Node | None]:
    """Return the operations between two, including the last and excluding the first."""
    pending, passed = [last], set[Node | None]()
    while pending:
        node = pending.pop()
        if node is not None and node is not first and node not in passed:
            passed.add(node)
            pending += [earlier for earlier, _ in node.next_functions]
    return passed
