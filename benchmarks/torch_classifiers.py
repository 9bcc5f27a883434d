"""PyTorch's form of three of our networks, layer for layer, and one training step of them (channels_last)."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a parameter-free shortcut, as `edl_jax.models.resnet.BasicBlock`."""

    def __init__(self, inputs: int, features: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, features, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(features)
        self.conv2 = nn.Conv2d(features, features, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(features)
        self.stride, self.missing = stride, features - inputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images or planes [N, C, H, W]."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.missing:
            before = self.missing // 2
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.missing - before))
        return functional.relu(y + x)


class CifarResNet(nn.Module):
    """As `edl_jax.models.resnet.cifar_resnet`."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        blocks, inputs = [], 16
        for stage, features in enumerate((16, 32, 64)):
            for block in range((depth - 2) // 6):
                blocks.append(BasicBlock(inputs, features, 2 if stage and not block else 1))
                inputs = features
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images or planes [N, C, H, W]."""
        x = functional.relu(self.stem_norm(self.stem(x)))
        return self.head(self.blocks(x).mean((2, 3)))


class LeNet5(nn.Module):
    """As `edl_jax.models.lenet.LeNet5`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.dense1, self.dense2, self.head = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images or planes [N, C, H, W]."""
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return self.head(functional.relu(self.dense2(functional.relu(self.dense1(x.flatten(1))))))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "resnet8": lambda: CifarResNet(8),
    "resnet20": lambda: CifarResNet(20),
    "lenet5": LeNet5,
}


def make_step(arch: str, images: np.ndarray, labels: np.ndarray, lr: float) -> Callable[[], float]:
    """Return a function that takes one training step on a batch and returns the loss.

    SGD with Nesterov momentum 0.9 and weight decay 5e-4; cross-entropy; images normalised inside the step.

    Args:
      arch: one of `MODELS`.
      images: uint8 [N, 32, 32, 3].
      labels: int [N].
      lr: learning rate.
    """
    model = MODELS[arch]()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)  # NHWC in memory: channels_last
    targets = torch.from_numpy(labels).long()

    def step() -> float:
        loss = functional.cross_entropy(model((batch.float() / 255.0 - 0.5) / 0.25), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step
