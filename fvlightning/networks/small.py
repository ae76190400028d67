"""Small networks for MNIST and CIFAR-10. In the plain ones ReLUs are functions: named layers give pre-activations."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MnistCNN(nn.Module):
    """A small convolutional network for 28x28 grey images, 165,570 weights.

    conv1 (7x7), conv2 (5x5), fc1 and fc2, with ReLUs in between; their outputs have the shapes ``(10, 22, 22)``,
    ``(10, 18, 18)``, ``(50,)`` and ``(10,)``.

    Args:
        num_classes: Number of logits.
    """

    input_shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=7)
        self.conv2 = nn.Conv2d(10, 10, kernel_size=5)
        self.fc1 = nn.Linear(10 * 18 * 18, 50)
        self.fc2 = nn.Linear(50, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 1, 28, 28)`` to logits ``(B, num_classes)``."""
        features = F.relu(self.conv2(F.relu(self.conv1(images))))
        logits: Tensor = self.fc2(F.relu(self.fc1(features.flatten(1))))
        return logits


class MnistMLP(nn.Module):
    """A network with one hidden layer of 128 units for 28x28 grey images, 101,770 weights: fc1, ReLU, fc2.

    As 28x28 images, the rows of `fc1.weight` show what the hidden units look for.

    Args:
        num_classes: Number of logits.
    """

    input_shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 128)
        self.fc2 = nn.Linear(128, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 1, 28, 28)`` to logits ``(B, num_classes)``."""
        logits: Tensor = self.fc2(F.relu(self.fc1(images.flatten(1))))
        return logits


class CifarCNN(nn.Module):
    """A plain convolutional network for 32x32 colour images, 620,842 weights.

    Three blocks of a 3x3 convolution, batch norm, ReLU, max pooling and dropout; then fc1, batch norm, ReLU, dropout
    and fc2. The outputs have the shapes conv1 ``(32, 32, 32)``, conv2 ``(64, 16, 16)``, conv3 ``(128, 8, 8)``, fc1
    ``(256,)`` and fc2 ``(10,)``; norm1 to norm4 keep the shapes of their inputs.

    Args:
        num_classes: Number of logits.
    """

    input_shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(64)
        self.conv3 = nn.Conv2d(64, 128, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(128)
        self.dropout = nn.Dropout(0.2)
        self.fc1 = nn.Linear(128 * 4 * 4, 256, bias=False)
        self.norm4 = nn.BatchNorm1d(256)
        self.dropout4 = nn.Dropout(0.5)
        self.fc2 = nn.Linear(256, num_classes)
        # Training on a CPU is more than twice as fast with the channels of a pixel side by side.
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, 32, 32)`` to logits ``(B, num_classes)``."""
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.dropout(F.max_pool2d(F.relu(self.norm1(self.conv1(images))), 2))
        features = self.dropout(F.max_pool2d(F.relu(self.norm2(self.conv2(features))), 2))
        features = self.dropout(F.max_pool2d(F.relu(self.norm3(self.conv3(features))), 2))
        features = self.dropout4(F.relu(self.norm4(self.fc1(features.flatten(1)))))
        logits: Tensor = self.fc2(features)
        return logits


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: the basic block of He et al. 2015, https://arxiv.org/abs/1512.03385.

    The last batch norm starts at zero, so that a block starts as its shortcut (Goyal et al. 2017,
    https://arxiv.org/abs/1706.02677). Where channels or size change, the shortcut is a mean pooling, a 1x1 convolution
    and batch norm.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.norm2.weight)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            convolution = nn.Conv2d(inputs, outputs, 1, bias=False)
            self.shortcut = nn.Sequential(nn.AvgPool2d(stride), convolution, nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(B, inputs, H, W)`` to ``(B, outputs, H / stride, W / stride)``, not negative."""
        change: Tensor = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(features)))))
        return F.relu(change + self.shortcut(features))


class CifarResNet(nn.Module):
    """A small residual network for 32x32 colour images, 585,514 weights.

    stem, a 3x3 convolution to ``(32, 32, 32)``; residual blocks, block1 to ``(64, 16, 16)``, block2 and block3 to
    ``(128, 8, 8)``; the mean over all positions, and fc. It is wide rather than deep, which suits a short training: 49
    million multiplications an image.

    Args:
        num_classes: Number of logits.
    """

    input_shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.block1 = ResidualBlock(32, 64, stride=2)
        self.block2 = ResidualBlock(64, 128, stride=2)
        self.block3 = ResidualBlock(128, 128)
        self.fc = nn.Linear(128, num_classes)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(B, 3, 32, 32)`` to logits ``(B, num_classes)``."""
        features = F.relu(self.norm(self.stem(images.contiguous(memory_format=torch.channels_last))))
        features = self.block3(self.block2(self.block1(features)))
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits
