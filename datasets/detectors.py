"""The two demo detectors: 96x96 colour pictures in, raw heads out, as YOLO and SSD have them."""

from __future__ import annotations

import torch
from networks import CLASSES, conv
from torch import nn

SIDE = 96
STRIDES, WIDTHS = (8, 16), (48, 64)
# Sides in pixels and ratios of height to width of an SSD's priors, for each stride (Liu et al. 2016, section 2.2).
PRIOR_SIDES = ((18.0, 27.0), (38.0, 52.0))
PRIOR_RATIOS = (1.0, 0.5, 2.2)
VARIANCES = (0.1, 0.1, 0.2, 0.2)


class Split(nn.Module):
    """Two 3x3 convolutions on half of the channels, joined with the rest (Wang et al. 2019, CSPNet)."""

    def __init__(self, channels: int, activation: type[nn.Module]):
        super().__init__()
        half = channels // 2
        self.enter, self.leave = conv(channels, channels, 1), conv(channels, channels, 1)
        self.first, self.second = conv(half, half, 3), conv(half, half, 3)
        self.act = activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the block's output, of the shape of ``x``."""
        kept, y = self.act(self.enter(x)).chunk(2, 1)
        y = y + self.act(self.second(self.act(self.first(y))))
        return self.act(self.leave(torch.cat([kept, y], 1)))


class Backbone(nn.Module):
    """Features at strides 8 and 16, the coarser ones brought into the finer (Lin et al. 2016, figure 2d)."""

    def __init__(self, activation: type[nn.Module]):
        super().__init__()
        act = activation
        self.stem = nn.Sequential(conv(3, 16, 3, 2), act(), conv(16, 24, 3, 2), act(), Split(24, act))
        self.fine = nn.Sequential(conv(24, 48, 3, 2), act(), Split(48, act))
        self.coarse = nn.Sequential(conv(48, 64, 3, 2), act(), Split(64, act))
        self.lateral = nn.Sequential(conv(64, 48, 1), act())
        self.joined = nn.Sequential(conv(96, 48, 1), act(), Split(48, act))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (n, 48, 12, 12) and (n, 64, 6, 6) for pictures (n, 3, 96, 96) in 0..255."""
        fine = self.fine(self.stem(x / 255))
        coarse = self.coarse(fine)
        above = nn.functional.interpolate(self.lateral(coarse), scale_factor=2.0, mode="nearest")
        return self.joined(torch.cat([fine, above], 1)), coarse


def cells() -> torch.Tensor:
    """Return x, y and stride of every cell's centre in pixels, (180, 3), in the order of the heads' outputs."""
    rows = [
        [(x + 0.5) * stride, (y + 0.5) * stride, float(stride)]
        for stride in STRIDES
        for y in range(SIDE // stride)
        for x in range(SIDE // stride)
    ]
    return torch.tensor(rows)


def priors() -> torch.Tensor:
    """Return SSD's priors as x1, y1, x2, y2 in pixels, (1080, 4): at each cell each side with each ratio."""
    rows = list[list[float]]()
    for x, y, stride in cells().tolist():
        for side in PRIOR_SIDES[STRIDES.index(int(stride))]:
            for ratio in PRIOR_RATIOS:
                width, height = side / ratio**0.5, side * ratio**0.5
                rows.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return torch.tensor(rows)


class Branch(nn.Sequential):
    """A 3x3 convolution and the 1x1 convolution that predicts."""

    def __init__(self, inputs: int, hidden: int, outputs: int, activation: type[nn.Module]):
        super().__init__(conv(inputs, hidden, 3), activation(), nn.Conv2d(hidden, outputs, 1))


class Yolo(nn.Module):
    """An anchor-free detector with separate branches for boxes and classes, like YOLOv8 without its DFL."""

    def __init__(self):
        super().__init__()
        self.backbone = Backbone(nn.SiLU)
        self.box = nn.ModuleList(Branch(channels, 32, 4, nn.SiLU) for channels in WIDTHS)
        self.scores = nn.ModuleList(Branch(channels, 32, CLASSES, nn.SiLU) for channels in WIDTHS)
        for branch in (*self.box, *self.scores):
            nn.init.constant_(branch[-1].bias, 1.5 if branch in self.box else -4.0)
        self.register_buffer("cells", cells())

    def raw(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return boxes x1, y1, x2, y2 in pixels (n, 180, 4) and class logits (n, 180, CLASSES)."""
        features = self.backbone(x)
        sides = torch.cat([head(f).flatten(2) for head, f in zip(self.box, features, strict=True)], 2).transpose(1, 2)
        logits = torch.cat([head(f).flatten(2) for head, f in zip(self.scores, features, strict=True)], 2)
        centres, strides = self.cells[:, :2], self.cells[:, 2:]
        boxes = torch.cat([centres - sides[..., :2] * strides, centres + sides[..., 2:] * strides], -1)
        return boxes, logits.transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (n, 4 + CLASSES, 180): centre x, y, width, height in pixels, then class scores in 0..1."""
        boxes, logits = self.raw(x)
        first, second = boxes.chunk(2, -1)
        return torch.cat([(first + second) / 2, second - first, logits.sigmoid()], -1).transpose(1, 2)


class Ssd(nn.Module):
    """A single-shot detector over priors, with ReLU (Liu et al. 2016)."""

    def __init__(self):
        super().__init__()
        self.backbone = Backbone(nn.ReLU)
        places = len(PRIOR_SIDES[0]) * len(PRIOR_RATIOS)
        self.box = nn.ModuleList(Branch(channels, 32, places * 4, nn.ReLU) for channels in WIDTHS)
        self.scores = nn.ModuleList(Branch(channels, 32, places * (CLASSES + 1), nn.ReLU) for channels in WIDTHS)
        variances = torch.tensor(VARIANCES).expand(len(priors()), 4)
        self.register_buffer("priors", torch.stack([(priors() / SIDE).flatten(), variances.flatten()])[None])

    def raw(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return box deltas (n, 1080, 4) and logits of background and classes (n, 1080, 1 + CLASSES)."""
        features = self.backbone(x)

        def joined(heads: nn.ModuleList, width: int) -> torch.Tensor:
            maps = [head(f).permute(0, 2, 3, 1) for head, f in zip(heads, features, strict=True)]
            return torch.cat([found.reshape(len(x), -1, width) for found in maps], 1)

        return joined(self.box, 4), joined(self.scores, CLASSES + 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return deltas (n, 1080, 4), scores with the background first (n, 1080, 1 + CLASSES), priors (1, 2, 4320).

        The priors' first row holds their corners as shares of the picture, the second the variances of the deltas, as
        the operation DetectionOutput takes them.
        """
        deltas, logits = self.raw(x)
        return deltas, logits.softmax(-1), self.priors


DETECTORS: dict[str, type[nn.Module]] = {"yolo": Yolo, "ssd": Ssd}
