"""Pascal VOC's mean average precision by hand and against a slow implementation of its definition."""

from __future__ import annotations

import numpy as np
import pytest

from calib.errors import MetricError, UsageError
from calib.metrics.voc import VocMap

TRUTH = {"boxes": [[0, 0, 10, 10], [20, 20, 40, 40]], "labels": [1, 1]}


def outputs(*rows) -> list[np.ndarray]:
    """Return outputs of rows of x1, y1, x2, y2, score, label."""
    table = np.array(rows, np.float64).reshape(-1, 6)
    return [table[:, :4], table[:, 4], table[:, 5].astype(np.int64)]


def value(*pairs, **options) -> float:
    metric = VocMap(**options)
    return metric.aggregate([metric.measure(outputs(*rows), target) for rows, target in pairs])


GOOD, OTHER, WRONG = [0, 0, 10, 10, 0.9, 1], [20, 20, 40, 40, 0.5, 1], [60, 60, 70, 70, 0.7, 1]


def test_a_miss_between_two_hits_by_hand():
    # Recall .5 at precision 1, recall 1 at precision 2/3.
    assert value(([GOOD, OTHER, WRONG], TRUTH)) == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert value(([GOOD, OTHER, WRONG], TRUTH), integral="11") == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_precision_is_made_monotonous():
    # WRONG comes first: precision 0, 1/2, 2/3, and the envelope is 2/3 everywhere.
    assert value(([[*WRONG[:4], 0.95, 1], GOOD, OTHER], TRUTH)) == pytest.approx(2 / 3)


def test_a_second_detection_of_an_object_is_a_miss():
    assert value(([GOOD, [0, 0, 10, 10, 0.8, 1], OTHER], TRUTH)) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_difficult_objects_are_not_asked_for_and_what_finds_them_does_not_count():
    target = {**TRUTH, "difficult": [0, 1]}
    assert value(([GOOD], target)) == 1
    assert value(([[*OTHER[:4], 0.95, 1], GOOD], target)) == 1
    assert value(([GOOD], target), ignore_difficult="false") == 0.5
    twice = [[*OTHER[:4], 0.95, 1], [*OTHER[:4], 0.94, 1], GOOD]  # the second one of a difficult object is a miss
    assert value((twice, target)) == pytest.approx(0.5)


def test_the_overlap_counts_the_border_pixels_as_voc_does():
    half = [0, 0, 10, 4.5, 0.9, 1]  # 45 of 100, or 11·5.5 of 121
    one = {"boxes": [[0, 0, 10, 10]], "labels": [1]}
    assert value(([half], one)) == 1 and value(([half], one), boundaries="false") == 0
    assert value(([half], one), overlap="0.45", boundaries="false") == 1


def test_classes_without_an_object_do_not_count_and_without_detections_are_zero():
    assert value(([GOOD, OTHER, [0, 0, 10, 10, 0.9, 7]], TRUTH)) == 1
    assert value(([GOOD, OTHER], {"boxes": [*TRUTH["boxes"], [0, 0, 1, 1]], "labels": [1, 1, 2]})) == 0.5
    assert value(([GOOD], {"boxes": [], "labels": []})) == 0


def test_equal_scores_enter_together_whatever_the_order():
    # Both have score .5: precision 1/2 at recall 1, in either order.
    one = {"boxes": [[0, 0, 10, 10]], "labels": [1]}
    rows = [[0, 0, 10, 10, 0.5, 1], [60, 60, 70, 70, 0.5, 1]]
    assert value((rows, one)) == value((rows[::-1], one)) == 0.5


def slow(pairs, integral: str, overlap: float = 0.5) -> float:
    """Return VOC's definition, written out box by box: all detections of a class in one list, best score first."""
    labels = sorted({label for _, truth in pairs for label in truth["labels"]})
    found = []
    for label in labels:
        rows = [(row, image) for image, (rows, _) in enumerate(pairs) for row in rows if row[5] == label]
        taken, curve, objects = set(), [], sum(truth["labels"].count(label) for _, truth in pairs)
        for row, image in sorted(rows, key=lambda one: -one[0][4]):
            best, place = -1.0, None
            for i, (box, own) in enumerate(zip(pairs[image][1]["boxes"], pairs[image][1]["labels"], strict=True)):
                w = min(row[2], box[2]) - max(row[0], box[0]) + 1
                h = min(row[3], box[3]) - max(row[1], box[1]) + 1
                if own != label or w <= 0 or h <= 0:
                    continue
                areas = sum((b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (row, box)) - w * h
                if w * h / areas > best:
                    best, place = w * h / areas, (image, i)
            curve.append(best >= overlap and place not in taken)
            taken |= {place} if best >= overlap else set()
        recall = [sum(curve[: k + 1]) / objects for k in range(len(curve))]
        precision = [sum(curve[: k + 1]) / (k + 1) for k in range(len(curve))]
        if integral == "11":
            tops = [max([p for p, r in zip(precision, recall, strict=True) if r >= t / 10 - 1e-12], default=0)
                    for t in range(11)]  # fmt: skip
            found.append(sum(tops) / 11)
        else:
            ends = [0.0, *recall]
            found.append(sum((ends[k + 1] - ends[k]) * max(precision[k:]) for k in range(len(recall))))
    return sum(found) / len(found)


@pytest.mark.parametrize("integral", ["all", "11"])
@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_definition_written_out(integral, seed):
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(5):
        corner = random.integers(0, 40, (4, 2))
        boxes = np.concatenate([corner, corner + random.integers(5, 25, (4, 2))], axis=1)
        rows = np.concatenate([boxes, boxes, boxes + 3]) + random.normal(0, 2, (12, 4))
        labels = random.integers(0, 3, 4)
        table = np.column_stack([rows, random.random(12), np.tile(labels, 3)])
        pairs.append((table.tolist(), {"boxes": boxes.tolist(), "labels": labels.tolist()}))
    assert value(*pairs, integral=integral) == pytest.approx(slow(pairs, integral), abs=1e-12)


def test_objects_of_any_number_of_images_add_up():
    assert value(([GOOD], TRUTH), ([OTHER, WRONG], TRUTH)) == pytest.approx(0.25 + 0.25 * 2 / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": "0"}, "above 0 and at most 1"),
        ({"overlap": "x"}, "got 'x'"),
        ({"integral": "12"}, "one of all, 11"),
        ({"boundaries": "maybe"}, "boundaries is true or false"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        VocMap(**options)


def test_a_target_of_other_lengths_is_refused():
    with pytest.raises(MetricError, match="2 boxes, 2 labels and 1 difficult"):
        VocMap().measure(outputs(GOOD), {**TRUTH, "difficult": [0]})


@pytest.mark.parametrize("integral", ["all", "11"])
def test_a_resample_has_the_value_of_its_parts(integral):
    metric, random = VocMap(integral=integral), np.random.default_rng(0)
    parts = []
    for _ in range(10):
        boxes = np.tile(random.integers(0, 30, (3, 2)), 2) + np.array([0, 0, 10, 10])
        rows = np.column_stack(
            [boxes + random.normal(0, 1.5, (3, 4)), random.random(3).round(1), random.integers(0, 2, 3)]
        )
        parts.append(metric.measure([rows[None]], {"boxes": boxes, "labels": random.integers(0, 2, 3)}))
    chosen = random.integers(0, 10, 10)
    assert metric.resampled(parts)(chosen) == pytest.approx(metric.aggregate([parts[i] for i in chosen]), abs=1e-12)
    assert 0 < metric.aggregate(parts) < 1
