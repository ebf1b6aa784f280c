"""Decoders of networks' outputs, one file per family, and what is done with boxes, masks and texts afterwards.

``calib.outputs.resolve.resolve_decoder`` finds or makes the decoder for a model. A decoder turns raw outputs (heads of
detectors, class maps, steps of CTC) into what metrics read: boxes with scores and labels in pixels of the original
image, class maps of its size, scores or texts. It sees arrays and facts on the model, never the model itself; how good
the result is belongs in ``metrics``. This module holds only the table and does not import numpy.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DecoderRow:
    """One family of outputs.

    Attributes:
        maker: Class of the decoder, as "module:name".
        gives: What it makes of the outputs: "boxes", "scores", "class map" or "text"; a metric says what it takes.
        model_types: Values of ``model_type`` in a model's ``model_info`` that mean this family, in lower case.
    """

    maker: str
    gives: str
    model_types: tuple[str, ...] = ()


DECODERS: dict[str, DecoderRow] = {
    "classification": DecoderRow("calib.outputs.classification:Classification", "scores", ("classification",)),
    "boxes": DecoderRow("calib.outputs.boxes:Boxes", "boxes"),
    "boxes-scores": DecoderRow("calib.outputs.boxes_scores:BoxesScores", "boxes"),
    "ssd": DecoderRow("calib.outputs.ssd:DetectionRows", "boxes", ("ssd",)),
    "ssd-raw": DecoderRow("calib.outputs.ssd_raw:RawSsd", "boxes", ("ssd",)),
    "yolo-v2": DecoderRow("calib.outputs.yolo_v2:YoloV2", "boxes", ("yolo",)),
    "yolo-v3": DecoderRow("calib.outputs.yolo_v3:YoloV3", "boxes", ("yolo", "yolov3", "yolov3-onnx", "yolov4")),
    "yolo-v5": DecoderRow("calib.outputs.yolo_v5:YoloV5", "boxes", ("yolo", "yolov5", "yolov7")),
    "yolo-v8": DecoderRow("calib.outputs.yolo_v8:YoloV8", "boxes", ("yolo", "yolov8", "yolov9", "yolov11", "yolo11")),
    "yolo-end-to-end": DecoderRow("calib.outputs.yolo_end:YoloEndToEnd", "boxes", ("yolo", "yolov10", "yolo26")),
    "yolox": DecoderRow("calib.outputs.yolox:YoloX", "boxes", ("yolox",)),
    "segmentation": DecoderRow("calib.outputs.segmentation:Segmentation", "class map", ("segmentation",)),
    "ctc": DecoderRow("calib.outputs.ctc:Ctc", "text"),
}
