"""What the demo detectors learn from: which predictions belong to which object, and how far they are from it."""

from __future__ import annotations

import torch
from detectors import VARIANCES, Ssd, Yolo, cells, priors
from torch.nn import functional

# Constants of the task-aligned assignment (Feng et al. 2021, TOOD, section 3.2; the exponents are those of YOLOv8).
CANDIDATES, SCORE_POWER, OVERLAP_POWER = 10, 0.5, 6.0
# Liu et al. 2016, section 2.2: a prior matches from this IoU, and three negatives are kept for one positive.
MATCH, NEGATIVES = 0.5, 3

Targets = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # boxes (n, m, 4), labels (n, m), whether there is one (n, m)


def iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the intersection over union of boxes (…, 4), broadcast."""
    first, last = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    shared = (last - first).clamp(min=0).prod(-1)
    areas = sum((box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (one, other))
    return shared / (areas - shared).clamp(min=1e-6)


def giou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the generalized IoU (Rezatofighi et al. 2019, algorithm 1) of boxes (n, 4)."""
    first, last = torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])
    shared = (last - first).clamp(min=0).prod(-1)
    areas = sum((box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (one, other))
    union = (areas - shared).clamp(min=1e-6)
    first, last = torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:])
    around = (last - first).clamp(min=0).prod(-1).clamp(min=1e-6)
    return shared / union - (around - union) / around


@torch.no_grad()
def aligned(boxes: torch.Tensor, scores: torch.Tensor, targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the object of each cell (n, cells), -1 for none, and the score it should have (n, cells).

    An object takes the CANDIDATES cells inside its box whose score^SCORE_POWER IoU^OVERLAP_POWER is largest; a cell
    that several objects take belongs to the one it overlaps most.
    """
    truth, labels, there = targets
    overlaps = iou(truth[:, :, None], boxes[:, None])
    picked = scores.transpose(1, 2).gather(1, labels[:, :, None].expand(-1, -1, boxes.shape[1]))
    centres = cells()[None, None, :, :2]
    inside = ((centres > truth[:, :, None, :2]) & (centres < truth[:, :, None, 2:])).all(-1) & there[:, :, None]
    alignment = picked**SCORE_POWER * overlaps**OVERLAP_POWER * inside
    least = alignment.topk(CANDIDATES, -1).values[..., -1:]
    taken = inside & (alignment >= least) & (alignment > 0)
    best = (overlaps * taken).argmax(1)
    alignment, overlaps = alignment * taken, overlaps * taken
    wanted = alignment / alignment.amax(-1, keepdim=True).clamp(min=1e-9) * overlaps.amax(-1, keepdim=True)
    wanted = wanted.gather(1, best[:, None])[:, 0]
    return torch.where(taken.any(1), best, -1), wanted


def yolo_loss(network: Yolo, images: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Return the loss of scores (cross-entropy against the aligned IoU) and of boxes (generalized IoU)."""
    boxes, logits = network.raw(images)
    owner, wanted = aligned(boxes.detach(), logits.detach().sigmoid(), targets)
    picture, cell = torch.nonzero(owner >= 0, as_tuple=True)
    objects = owner[picture, cell]
    goal = torch.zeros_like(logits)
    goal[picture, cell, targets[1][picture, objects]] = wanted[picture, cell]
    total = goal.sum().clamp(min=1.0)
    weight = wanted[picture, cell]
    apart = 1 - giou(boxes[picture, cell], targets[0][picture, objects])
    return (
        functional.binary_cross_entropy_with_logits(logits, goal, reduction="sum") / total
        + 4 * (apart * weight).sum() / total
    )


def ssd_loss(network: Ssd, images: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Return the loss of classes (cross-entropy with hard negatives) and of deltas (smooth L1)."""
    deltas, logits = network.raw(images)
    truth, labels, there = targets
    anchors = priors()
    overlaps = iou(truth[:, :, None], anchors) * there[:, :, None]
    best, owner = overlaps.max(1)
    picture, thing = torch.nonzero(there, as_tuple=True)
    favourite = overlaps.argmax(2)[picture, thing]
    owner[picture, favourite], best[picture, favourite] = thing, 1.0
    goal = torch.where(best >= MATCH, labels.gather(1, owner) + 1, 0)
    loss = functional.cross_entropy(logits.transpose(1, 2), goal, reduction="none")
    positive = goal > 0
    negative = torch.where(positive, -1.0, loss.detach())
    rank = negative.argsort(1, descending=True).argsort(1)
    kept = positive | (rank < NEGATIVES * positive.sum(1, keepdim=True))
    picture, place = torch.nonzero(positive, as_tuple=True)
    wanted = encoded(truth[picture, owner[picture, place]], anchors[place])
    apart = functional.smooth_l1_loss(deltas[picture, place], wanted, reduction="sum")
    return ((loss * kept).sum() + apart) / positive.sum().clamp(min=1)


def encoded(boxes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Return the deltas (n, 4) that turn ``anchors`` into ``boxes`` (Liu et al. 2016, equation 2), over VARIANCES."""
    size, wanted = anchors[:, 2:] - anchors[:, :2], boxes[:, 2:] - boxes[:, :2]
    moved = ((boxes[:, 2:] + boxes[:, :2]) - (anchors[:, 2:] + anchors[:, :2])) / 2 / size
    return torch.cat([moved, torch.log(wanted / size)], 1) / torch.tensor(VARIANCES)


LOSSES = {"yolo": yolo_loss, "ssd": ssd_loss}
