"""The three demo networks: 28x28 grey images in, ten logits out, small enough to ship and to train on one core."""

from __future__ import annotations

import torch
from torch import nn

CLASSES = 10


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Return a convolution with batch normalization, which the conversion to IR folds into the weights."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5 left)."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.first = conv(inputs, outputs, 3, stride)
        self.second = conv(outputs, outputs, 3)
        self.shortcut = nn.Identity() if inputs == outputs and stride == 1 else conv(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return relu(shortcut(x) + branch(x)), (n, outputs, h / stride, w / stride)."""
        return torch.relu(self.shortcut(x) + self.second(torch.relu(self.first(x))))


class ResNet(nn.Module):
    """A ResNet of seven blocks: 18 convolutions and one fully connected layer."""

    def __init__(self):
        super().__init__()
        self.stem = conv(1, 16, 3)
        shapes = [(16, 24, 2), (24, 24, 1), (24, 48, 2), (48, 48, 1), (48, 48, 1), (48, 64, 2), (64, 64, 1)]
        self.block = nn.Sequential(*(Residual(*shape) for shape in shapes))
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n, 10) for images (n, 1, 28, 28) in [0, 1]."""
        return self.head(self.block(torch.relu(self.stem(x))).mean((2, 3)))


class InvertedResidual(nn.Module):
    """Expand, depthwise, project, with a shortcut where shapes allow (Sandler et al. 2018, figure 3b).

    ReLU where the paper has ReLU6: ReLU(s x) = s ReLU(x) for s > 0 is what lets `spread_channels` in train.py keep
    the function.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, factor: int = 4):
        super().__init__()
        hidden = inputs * factor
        self.expand = conv(inputs, hidden, 1)
        self.depthwise = conv(hidden, hidden, 3, stride, groups=hidden)
        self.project = conv(hidden, outputs, 1)
        self.shortcut = inputs == outputs and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output, (n, outputs, h / stride, w / stride), with no activation behind it."""
        y = self.project(torch.relu(self.depthwise(torch.relu(self.expand(x)))))
        return x + y if self.shortcut else y


class MobileNet(nn.Module):
    """A MobileNetV2 of eight inverted residuals: 26 convolutions and one fully connected layer."""

    def __init__(self):
        super().__init__()
        self.stem = conv(1, 16, 3, 2)
        shapes = [
            (16, 16, 1),
            (16, 16, 1),
            (16, 24, 2),
            (24, 24, 1),
            (24, 24, 1),
            (24, 32, 2),
            (32, 32, 1),
            (32, 32, 1),
        ]
        self.block = nn.Sequential(*(InvertedResidual(*shape) for shape in shapes))
        self.last = conv(32, 128, 1)
        self.head = nn.Linear(128, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n, 10) for images (n, 1, 28, 28) in [0, 1]."""
        return self.head(torch.relu(self.last(self.block(torch.relu(self.stem(x))))).mean((2, 3)))


class Attention(nn.Module):
    """Softmax attention (Vaswani et al. 2017, equation 1), which the conversion fuses to ScaledDotProductAttention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return attention over tokens (n, tokens, width)."""
        n, tokens, width = x.shape

        def split(y: torch.Tensor) -> torch.Tensor:
            return y.reshape(n, tokens, self.heads, width // self.heads).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        weights = torch.softmax(torch.matmul(query, key.transpose(2, 3)) * self.scale, dim=-1)
        return self.out(torch.matmul(weights, value).transpose(1, 2).reshape(n, tokens, width))


class Block(nn.Module):
    """A transformer block with the normalization first (Dosovitskiy et al. 2020, equations 2 and 3)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.grow, self.shrink = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens (n, tokens, width)."""
        x = x + self.attention(self.norm1(x))
        return x + self.shrink(nn.functional.gelu(self.grow(self.norm2(x))))


class ViT(nn.Module):
    """A ViT of four blocks over 7x7 tokens, with the convolutional stem that makes small ones train fast.

    The stem follows Xiao et al. 2021, "Early Convolutions Help Transformers See Better"; tokens are averaged, not read
    from a class token.
    """

    def __init__(self, width: int = 64, heads: int = 4, depth: int = 4):
        super().__init__()
        self.stem = nn.Sequential(conv(1, 32, 3, 2), nn.ReLU(), conv(32, width, 3, 2), nn.ReLU())
        self.position = nn.Parameter(0.02 * torch.randn(1, 49, width))
        self.block = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (n, 10) for images (n, 1, 28, 28) in [0, 1]."""
        tokens = self.stem(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.block(tokens)).mean(1))


NETWORKS: dict[str, type[nn.Module]] = {"resnet": ResNet, "mobilenet": MobileNet, "vit": ViT}
