"""A linear layer whose results for a picture do not depend on the other pictures in the batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from fvlightning.features.fast._hooks import has_plain_weight


class RowLinear(nn.Linear):
    """A frozen linear layer that is computed picture by picture.

    One product of matrices for the whole batch adds up its terms in an order that depends on the size of the batch.
    Such a difference, a ten millionth, is enough to flip a ReLU here and there, and after a hundred steps two pictures
    show different animals. The convolutions of the library do not have it. This takes 1 % of a step of EfficientNet's.

    Its weights get no gradient.
    """

    @classmethod
    def suits(cls, module: nn.Module) -> bool:
        """Whether a module is a linear layer that can be computed like this."""
        return type(module) is nn.Linear and has_plain_weight(module)

    @override
    def forward(self, input: Tensor) -> Tensor:
        """Return ``(B, D)`` for inputs ``(B, E)``; inputs of another rank go the usual way."""
        if input.ndim != 2:
            return F.linear(input, self.weight, self.bias)
        product = torch.bmm(input[:, None], self.weight.T.expand(len(input), -1, -1))[:, 0]
        return product if self.bias is None else product + self.bias
