"""Two small networks for MNIST."""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F


class MnistCNN(nn.Module):
    """A small convolutional network for 28x28 grey images, 165,570 weights.

    conv1 (1 to 10 channels, 7x7), conv2 (10 to 10, 5x5), fc1 (3,240 to 50), fc2 (50 to 10), with ReLUs in between. The
    ReLUs are functions, so every named layer gives its pre-activations: (10, 22, 22), (10, 18, 18), (50,), (10,).

    Args:
        num_classes: Number of logits.

    Attributes:
        input_shape: `(C, H, W)` of the images that it takes.
    """

    input_shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=7)
        self.conv2 = nn.Conv2d(10, 10, kernel_size=5)
        self.fc1 = nn.Linear(10 * 18 * 18, 50)
        self.fc2 = nn.Linear(50, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 1, 28, 28)` to logits `(B, num_classes)`."""
        features = F.relu(self.conv2(F.relu(self.conv1(images))))
        logits: Tensor = self.fc2(F.relu(self.fc1(features.flatten(1))))
        return logits


class MnistMLP(nn.Module):
    """A network with one hidden layer of 128 units for 28x28 grey images, 101,770 weights.

    fc1 (784 to 128), ReLU, fc2 (128 to 10). The rows of `fc1.weight`, as 28x28 images, are what the hidden units look
    for.

    Args:
        num_classes: Number of logits.

    Attributes:
        input_shape: `(C, H, W)` of the images that it takes.
    """

    input_shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 128)
        self.fc2 = nn.Linear(128, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images `(B, 1, 28, 28)` to logits `(B, num_classes)`."""
        logits: Tensor = self.fc2(F.relu(self.fc1(images.flatten(1))))
        return logits
