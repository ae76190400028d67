"""Networks whose scores and memory are known, for tests of the engine."""

from collections.abc import Callable
from types import SimpleNamespace

import torch
from torch import Tensor, nn


class BrightnessUnits(nn.Module):
    """Units that are functions of a picture's mean brightness: pictures (B, C, H, W) -> (B, n).

    Args:
        functions: The n units, each (B,) -> (B,).
    """

    def __init__(self, *functions: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, pictures: Tensor) -> Tensor:
        brightness = pictures.flatten(1).mean(1)
        return torch.stack([function(brightness) for function in self.functions], dim=1)


class Cramped(nn.Module):
    """Passes pictures on to `network`, notes how many come at once in `sizes`, and runs out of memory as the CPU does.

    Args:
        network: The network that takes the pictures.
        room: How many pictures it has room for.
        after: After how many forward passes the memory begins to matter.
    """

    def __init__(self, network: nn.Module, room: int = 10**9, after: int = 0) -> None:
        super().__init__()
        self.network, self.room, self.after = network, room, after
        # Not a list of the network's own, which would be as before after each picture.
        self.notes = SimpleNamespace(sizes=[])

    @property
    def sizes(self) -> list[int]:
        return self.notes.sizes

    def forward(self, pictures: Tensor) -> Tensor:
        self.sizes.append(len(pictures))
        if len(pictures) > self.room and len(self.sizes) > self.after:
            torch.empty(2**50)
        return self.network(pictures)
