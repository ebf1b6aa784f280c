"""Metrics, one file per family.

``calib.metrics.resolve.resolve_metric`` turns a name, a function or an object into a metric. A metric sees outputs and
targets and never the model; which samples it is given belongs in ``engine`` (evaluation). This module holds only the
table and does not import numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class MetricRow:
    """One built-in metric.

    Attributes:
        maker: Class or function that makes the metric, as "module:name".
        arguments: Arguments of the maker.
        options: Keys that may follow a ``?`` after the name.
        takes: What outputs are decoded to for it, see ``calib.metrics.metric.Takes``; "" if it reads them as they are.
    """

    maker: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    takes: str = ""


METRICS: dict[str, MetricRow] = {
    "top-1": MetricRow("calib.metrics.classification:TopK", {"k": 1}, takes="scores"),
    "top-5": MetricRow("calib.metrics.classification:TopK", {"k": 5}, takes="scores"),
    "class-accuracy": MetricRow("calib.metrics.per_class:ClassAccuracy", takes="scores"),
    "f1": MetricRow("calib.metrics.classification:F1", takes="scores"),
    "mean-iou": MetricRow("calib.metrics.segmentation:MeanIoU", takes="class map"),
    "mae": MetricRow("calib.metrics.regression:mae"),
    "mse": MetricRow("calib.metrics.regression:mse"),
    "psnr": MetricRow("calib.metrics.regression:psnr"),
    "ssim": MetricRow("calib.metrics.image:Ssim", {}, ("window",)),
    "cosine": MetricRow("calib.metrics.regression:cosine"),
    "spearman": MetricRow("calib.metrics.ranking:Spearman"),
    "auc": MetricRow("calib.metrics.ranking:AreaUnderCurve"),
    "cer": MetricRow("calib.metrics.text:ErrorRate", {"name": "cer"}, ("vocabulary", "blank")),
    "wer": MetricRow("calib.metrics.text:ErrorRate", {"name": "wer"}, ("vocabulary", "blank")),
    "character-accuracy": MetricRow(
        "calib.metrics.text:ErrorRate", {"name": "character-accuracy", "accuracy": True}, ("vocabulary", "blank")
    ),
    "word-accuracy": MetricRow("calib.metrics.text:TextAccuracy", {}, ("vocabulary", "blank", "case", "spaces")),
    "coco-map": MetricRow("calib.metrics.detection:CocoMap", takes="boxes"),
    "voc-map": MetricRow(
        "calib.metrics.voc:VocMap", {}, ("overlap", "integral", "ignore_difficult", "boundaries"), "boxes"
    ),
    "accuracy-check": MetricRow(
        "calib.accuracy_check.judged:AccuracyCheck", {}, ("file", "definitions", "dataset", "metric")
    ),
    "agreement": MetricRow("calib.metrics.label_free:Agreement"),
    "relative-l2": MetricRow("calib.metrics.label_free:RelativeL2"),
    "noise": MetricRow("calib.metrics.label_free:Noise"),
}

# What other tools call some of the metrics.
METRICS_ELSEWHERE: dict[str, str] = {
    **dict.fromkeys(("accuracy", "acc", "accuracy@top1", "top1", "classification-accuracy", "error-rate"), "top-1"),
    **dict.fromkeys(("accuracy@top5", "top5"), "top-5"),
    **dict.fromkeys(("map", "coco-precision", "mean-average-precision", "bbox", "ap"), "coco-map"),
    **dict.fromkeys(("voc", "ap50", "map@0.5", "map50", "detection-accuracy"), "voc-map"),
    **dict.fromkeys(("iou", "miou", "jaccard", "segmentation-accuracy", "dice"), "mean-iou"),
    **dict.fromkeys(("l1", "mean-absolute-error"), "mae"),
    **dict.fromkeys(("l2", "rmse", "mean-squared-error"), "mse"),
    **dict.fromkeys(("f-score", "f-measure", "f1-score", "precision", "recall"), "f1"),
    **dict.fromkeys(("roc-auc", "auroc"), "auc"),
    **dict.fromkeys(("correlation", "pearson", "spearman-correlation"), "spearman"),
}
