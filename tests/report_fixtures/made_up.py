"""Reports with the shape of real ones, made up deterministically: for tests of pages and for their benchmark."""

from __future__ import annotations

from typing import Any

import numpy as np

from calib.values.accuracy_facts import AccuracyFacts, FinalistFacts, RankFacts, SearchStepFacts
from calib.values.facts import (
    CandidateFacts,
    CorrectionFacts,
    LayerFacts,
    ModelFacts,
    OutputSqnrFacts,
    PartSqnrFacts,
    QuantizerFacts,
    Report,
    SettingFacts,
    SpeedFacts,
    StageFacts,
    TensorFacts,
)

ESTIMATORS = ("min-max", "percentile", "kl", "mse")


def made_up_report(layers: int = 40, **changes: Any) -> Report:
    """Return a report of a network with this many layers; ``changes`` replace fields of it."""
    rng = np.random.default_rng(7)
    facts = [_layer(i, rng) for i in range(layers)]
    names = [layer.name for layer in facts]
    reverted = [layer.name for layer in facts if layer.reverted]
    fields: dict[str, Any] = {
        "calib_version": "0.1.0",
        "status": "within_budget",
        "status_reason": "The drop of 0.41 points is within the budget, on samples that the search never saw.",
        "model": _model(layers),
        "environment": {
            "cpu": "Intel(R) Xeon(R) Platinum 8481C",
            "cpu features": "avx512_vnni amx_int8 amx_bf16",
            "openvino": "2026.2.0",
            "default precision": "bf16",
            "threads": "2",
            "python": "3.12.4",
        },
        "settings": [
            SettingFacts(key="range.estimator", value="auto", origin="default"),
            SettingFacts(key="accuracy.max_drop", value=0.01, origin="flag --max-drop"),
            SettingFacts(key="corrections", value=["bias", "equalization"], origin="--config zoo.yaml"),
        ],
        "calibration": "images from datasets/flowers/calibration, sha256 5f1c…",
        "calibration_samples": 300,
        "validation": "images with labels from datasets/flowers/validation",
        "layers": facts,
        "quantizers": [_quantizer(layer, i, rng) for i, layer in enumerate(facts) if layer.planned == "int8"],
        "corrections": [_correction(name, i, rng) for i, name in enumerate(names[::3])],
        "candidates": [
            CandidateFacts(name="bias", sqnr_db=24.8, chosen=False, detail="one range estimator per tensor"),
            CandidateFacts(name="equalization + bias", sqnr_db=27.3, chosen=True, detail="14 pairs equalized"),
            CandidateFacts(name="plain", sqnr_db=19.1, chosen=False),
        ],
        "ranking": [
            RankFacts(layers=[name], sensitivity=float(d))
            for name, d in zip(rng.permutation(names), np.sort(10 ** rng.uniform(-5, -1, layers))[::-1], strict=True)
        ],
        "search": _search(reverted),
        "finalists": [
            FinalistFacts(reverted=reverted[:1], drop=0.0092, latency_ms=4.11, chosen=False),
            FinalistFacts(reverted=reverted[:2], drop=0.0041, latency_ms=4.24, chosen=True),
            FinalistFacts(reverted=reverted, drop=0.0035, latency_ms=4.90, chosen=False),
        ],
        "accuracy": _accuracy(),
        "output_sqnr_db": {"logits": 27.3},
        "output_sqnr": OutputSqnrFacts(
            samples=[f"{number:032x}" for number in range(24)],
            held_out=True,
            default_precision="bf16",
            parts={
                "logits": PartSqnrFacts(
                    held_out_db=27.3,
                    interval=(26.1, 28.4),
                    written_db=27.5,
                    default_db=26.9,
                    fp32_default_db=44.6,
                )
            },
        ),
        "speed": SpeedFacts(
            latency_f32_ms=12.1,
            latency_default_ms=6.62,
            latency_int8_ms=4.24,
            default_precision="bf16",
            speedup_f32=2.85,
            speedup_default=1.56,
            note="",
        ),
        "stages": _stages(),
        "warnings": ["The calibration data hold 300 samples; 512 are advised for models with attention."],
    }
    return Report(**{**fields, **changes})


def _accuracy() -> AccuracyFacts:
    return AccuracyFacts(
        metric="top1",
        higher_is_better=True,
        unit="fraction",
        baseline=0.7612,
        quantized=0.7571,
        drop=0.0041,
        interval=(0.0008, 0.0079),
        interval_method="paired bootstrap, 2000 resamples",
        budget=0.01,
        samples=5000,
        confirmed_samples=2500,
        precision="bf16",
        other_precision="f32",
        other_drop=0.0044,
        fp32_drop=0.0012,
        bound_evaluations=9,
        images_evaluated=21400,
        compilations=6,
        note="",
    )


def _stages() -> list[StageFacts]:
    return [
        StageFacts(name=name, wall=wall, cpu=cpu)
        for name, wall, cpu in (
            ("load", 0.4, 0.4),
            ("collect", 14.2, 27.5),
            ("ranges", 2.1, 2.0),
            ("corrections", 9.7, 17.1),
            ("search", 48.0, 93.0),
            ("report", 0.2, 0.2),
        )
    ]


def _model(layers: int) -> ModelFacts:
    return ModelFacts(
        name="mobilenet_v2_flowers",
        source="models/mobilenet_v2_flowers.xml",
        fingerprint="9f2d" * 16,
        inputs=[TensorFacts(name="image", shape="[?,3,224,224]", type="f32")],
        outputs=[TensorFacts(name="logits", shape="[?,102]", type="f32")],
        operations=4 * layers,
        bytes_before=14_012_880,
        bytes_after=3_611_204,
        normalization=["3 BatchNorm operations were fused into the convolutions before them."],
        preprocessing=["The IR holds mean and scale for 'image' (its rt_info says so)."],
    )


def _layer(index: int, rng: np.random.Generator) -> LayerFacts:
    type_ = ("Convolution", "GroupConvolution", "Convolution", "MatMul", "Add")[index % 5]
    reverted, skipped = index % 13 == 5, index % 17 == 16
    planned = "float" if reverted or skipped else "int8"
    reason = "reverted: costs 0.6 points of top1, more than any other layer" if reverted else ""
    reason = "a constant input would overflow FP16 scales; it stays in floating point" if skipped else reason
    executed = "bf16" if planned == "float" else "f32" if index == 9 else "i8"
    if index == 9:
        reason = "planned in INT8, but OpenVINO ran it in f32: its output feeds a Softmax"
    fp32 = float(rng.uniform(0.05, 1.2))
    return LayerFacts(
        name=f"features/block{index // 3}/conv{index % 3}/{type_}_{index}/WithoutBiases",
        type=type_,
        output_shape=f"[1,{8 * (1 + index % 12)},{224 >> (index % 5)},{224 >> (index % 5)}]",
        weight_shape=f"[{8 * (1 + index % 12)},{4 * (1 + index % 9)},3,3]",
        macs=int(rng.integers(1_000_000, 90_000_000)),
        planned=planned,
        executed=executed,
        primitive=f"brgconv_avx512_core_{executed}",
        reason=reason,
        reverted=reverted,
        sqnr_db=None if planned == "float" else float(np.round(42 - 22 * index / (index + 20) + rng.normal(0, 3), 3)),
        weight_sqnr_db=float(rng.uniform(30, 44)),
        time_fp32_ms=fp32,
        time_default_ms=fp32 * float(rng.uniform(0.5, 0.9)),
        time_int8_ms=fp32 * float(rng.uniform(0.25, 0.7)) if index % 11 != 3 else fp32 * 1.4,
    )


def _quantizer(layer: LayerFacts, index: int, rng: np.random.Generator) -> QuantizerFacts:
    signed = index % 3 == 1
    values = rng.normal(0, 1.3, 4000) if signed else np.abs(rng.standard_t(5, 4000))
    counts, edges = np.histogram(values * 10 ** rng.uniform(-1, 1), bins=64)
    low, high = float(min(edges[0], 0.0)), float(edges[-1])
    chosen = ESTIMATORS[index % 4]
    candidates = {name: (low * keep, high * keep) for name, keep in zip(ESTIMATORS, (1, 0.9, 0.62, 0.74), strict=True)}
    return QuantizerFacts(
        tensor=f"{layer.name.removesuffix('/WithoutBiases')}/input:0",
        layers=[layer.name],
        scheme="asymmetric" if signed else "unsigned",
        levels=256,
        low=candidates[chosen][0],
        high=candidates[chosen][1],
        data_low=low,
        data_high=high,
        estimator=chosen,
        reason=f"{chosen} gives the least squared error on this tensor",
        clipped=0.0 if chosen == "min-max" else float(rng.uniform(1e-5, 2e-3)),
        candidates=candidates,
        histogram_edges=[float(e) for e in edges],
        histogram_counts=[int(c) for c in counts],
    )


def _correction(layer: str, index: int, rng: np.random.Generator) -> CorrectionFacts:
    before, gain = float(rng.uniform(18, 30)), float(rng.normal(1.2, 1))
    return CorrectionFacts(
        correction=("equalization", "bias")[index % 2],
        layer=layer,
        kept=gain > 0,
        sqnr_before_db=before,
        sqnr_after_db=before + gain,
        detail="" if gain > 0 else "dropped: it made the layer worse",
    )


def _search(reverted: list[str]) -> list[SearchStepFacts]:
    drops = [0.031, 0.0152, 0.0068, 0.0107, 0.0079, 0.0041]
    kinds = ["int8", "prefix", "prefix", "bisect", "backfill", "confirm"]
    counts = [0, 1, len(reverted), 1, 2, 2]
    return [
        SearchStepFacts(
            step=i,
            kind=kind,  # pyright: ignore[reportArgumentType]
            reverted=reverted[:count],
            samples=2500 if kind == "confirm" else 600,
            value=0.7612 - drop,
            drop=drop,
            within=drop <= 0.01,
            reason="" if drop <= 0.01 else "over the budget beyond doubt after 600 samples",
        )
        for i, (drop, kind, count) in enumerate(zip(drops, kinds, counts, strict=True))
    ]
