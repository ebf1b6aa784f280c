"""What the accuracy benchmark compares, in groups: estimators, corrections alone and in other orders, efforts, NNCF."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ablations import Ablation
from peers import CalibPeer, NncfPeer, Peer

from calib.ranges import ESTIMATORS

Make = Callable[[], Peer]


def _fast(estimator: str) -> Make:
    return lambda: CalibPeer(estimator, {"effort": "fast", "estimator": estimator})


def _ablation(*corrections: str, guarded: bool = False) -> tuple[str, Make]:
    steps = " + ".join(("minmax", *corrections)) if len(corrections) < 3 else "minmax, " + ", ".join(corrections)
    name = f"{steps}, guarded" if guarded else steps
    return name, lambda: Ablation(name, corrections=corrections, guarded=guarded)


GROUPS: Mapping[str, Mapping[str, Make]] = {
    "estimators": {name: _fast(name) for name in sorted(ESTIMATORS, key=lambda name: name != "minmax")},
    "corrections": dict(_ablation(name) for name in ("equalization", "bias", "rounding")),
    "orders": dict(
        (
            _ablation("equalization", "bias"),
            _ablation("equalization", "rounding"),
            _ablation("rounding", "bias"),
            _ablation("bias", "rounding"),
            _ablation("equalization", "rounding", "bias"),
            _ablation("equalization", "bias", "rounding"),
            _ablation("equalization", "rounding", "bias", guarded=True),
        )
    ),
    "efforts": {
        "fast": lambda: CalibPeer("fast", {"effort": "fast"}),
        "balanced": lambda: CalibPeer("balanced"),
        "thorough": lambda: CalibPeer("thorough", {"effort": "thorough"}),
    },
    "peers": {
        "nncf": NncfPeer,
        "nncf mixed": lambda: NncfPeer("nncf mixed", preset="MIXED"),
        "nncf transformer": lambda: NncfPeer("nncf transformer", model_type="TRANSFORMER"),
        "nncf transformer without SmoothQuant": lambda: NncfPeer(
            "nncf transformer without SmoothQuant", model_type="TRANSFORMER", smooth_quant=False
        ),
        "nncf full bias": lambda: NncfPeer("nncf full bias", fast_bias_correction=False),
    },
}
"""Group → name → what quantizes."""

VARIANTS: Mapping[str, Make] = {name: make for group in GROUPS.values() for name, make in group.items()}

ATTENTION = frozenset(
    {"vit", "ppocr recognition", "fmnist_vit", "ppocr_rec", "ddddocr_common"}
)  # where NNCF's transformer mode has something to do


def named(text: str) -> list[str]:
    """Return the variants of a list of names and groups.

    Raises:
        KeyError: one of them is neither.
    """
    found = [name for part in text.split(",") for name in GROUPS.get(part, [part])]
    unknown = [name for name in found if name not in VARIANTS]
    if unknown:
        raise KeyError(unknown[0])
    return list(dict.fromkeys(found))
