"""Save and load summaries as .npz without pickles, so that another estimator or a replay needs no inference."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import OutputError, StatisticsError
from calib.runtime.temporary import temporary_path
from calib.values.plan import TensorId
from calib.values.summary import Collected, Histogram, Summaries, TensorSummary

VERSION = 5

_SCALARS = ("samples", "low", "high", "mean_low", "mean_high", "next_low", "next_high", "histogram_samples")
_SCALARS += ("trimmed_low", "trimmed_high", "uncounted_samples")
_NAMES = ("low_sample", "high_sample")
_FARTHEST = ("farthest_low", "farthest_high")
_KEPT = "kept_"
_HISTOGRAMS = {
    "codes": "histogram",
    "counts": "histogram",
    "uncounted_codes": "uncounted",
    "uncounted_counts": "uncounted",
}
_VECTORS = ("channel_low", "channel_high", *_HISTOGRAMS)


def save_summaries(path: str | Path, summaries: Collected, fingerprint: str) -> None:
    """Write summaries atomically; the bytes depend on the summaries and the fingerprint only.

    The arrays of the summaries without held-out samples have the prefix ``kept_``; they are there only if samples are
    held out.

    Args:
        path: Path of the file; no suffix is added.
        summaries: Summaries over all samples, and over those that are not held out.
        fingerprint: Hash of everything that they depend on: the bytes of the model file and the settings.

    Raises:
        OutputError: The file can't be written.
    """
    target = Path(path)
    arrays: dict[str, NDArray[Any]] = {"version": np.array(VERSION), "fingerprint": np.array(fingerprint)}
    arrays |= {"outliers": np.array(summaries.outliers, np.str_), **_arrays(summaries.whole)}
    if summaries.kept is not summaries.whole:
        arrays |= {_KEPT + name: array for name, array in _arrays(summaries.kept).items()}
    partial = temporary_path(target.parent, ".npz")
    try:
        with open(partial, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        os.replace(partial, target)
    except OSError as error:
        raise OutputError(f"statistics can't be written to {target}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def load_summaries(path: str | Path, fingerprint: str) -> Collected:
    """Return the summaries in a file, if they are valid for ``fingerprint``.

    Raises:
        StatisticsError: The file can't be read, or belongs to another model or other settings.
    """
    try:
        arrays = _read(path)
        version, owner = int(arrays["version"]), str(arrays["fingerprint"])
        found = _collected(arrays) if version == VERSION else Collected({}, {})
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        reason = f"it holds no {error}" if isinstance(error, KeyError) else str(error)
        raise StatisticsError(
            f"{path} is not a readable statistics file ({reason}). If it was one, delete it to collect them again; "
            "if not, give another path"
        ) from error
    if version != VERSION:
        raise StatisticsError(f"{path} has format {version}, this calib reads {VERSION}: delete it to collect again")
    if owner != fingerprint:
        raise StatisticsError(
            f"{path} holds the statistics of another model or other settings: its fingerprint is {owner}, the one "
            f"needed is {fingerprint}. Give another file, or delete it to collect the statistics again"
        )
    return found


def _read(path: str | Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a file.

    Raises:
        ValueError: It is damaged, or no such file.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:  # np.load leaks it on a bad zip
            return {name: file[name] for name in file.files}
    except Exception as error:  # zipfile, zlib and numpy raise a dozen kinds on damaged bytes
        raise ValueError(str(error) or type(error).__name__) from error


def _arrays(summaries: Summaries) -> dict[str, NDArray[Any]]:
    """Return the arrays of one set of summaries."""
    ordered = [summaries[tensor] for tensor in sorted(summaries)]
    arrays: dict[str, NDArray[Any]] = {"tensors": np.array([str(summary.tensor) for summary in ordered], dtype=np.str_)}
    for name in _SCALARS:
        kind = np.int64 if "samples" in name else np.float64
        arrays[name] = np.array([getattr(summary, name) for summary in ordered], kind)
    for name in _NAMES:
        arrays[name] = np.array([getattr(summary, name) for summary in ordered], np.str_)
    for name in _FARTHEST:
        lists = [getattr(summary, name) for summary in ordered]
        arrays[f"{name}_sizes"] = np.array([len(one) for one in lists], np.int64)
        arrays[f"{name}_ids"] = np.array([sample for one in lists for sample, _ in one], np.str_)
        arrays[name] = np.array([extreme for one in lists for _, extreme in one], np.float64)
    for name in _VECTORS:
        found = [_vector(summary, name) for summary in ordered]
        arrays[f"{name}_sizes"] = np.array([-1 if part is None else len(part) for part in found], np.int64)
        arrays[name] = np.concatenate([part for part in found if part is not None] or [np.zeros(0)])
    return arrays


def _collected(arrays: Mapping[str, NDArray[Any]]) -> Collected:
    whole = {summary.tensor: summary for summary in _summaries(arrays)}
    apart = {name.removeprefix(_KEPT): array for name, array in arrays.items() if name.startswith(_KEPT)}
    kept = {summary.tensor: summary for summary in _summaries(apart)} if apart else whole
    return Collected(kept, whole, tuple(str(name) for name in arrays["outliers"]))


def _vector(summary: TensorSummary, name: str) -> NDArray[Any] | None:
    if name in _HISTOGRAMS:
        histogram = getattr(summary, _HISTOGRAMS[name])
        return None if histogram is None else getattr(histogram, name.removeprefix("uncounted_"))
    return getattr(summary, name)


def _histogram(codes: NDArray[Any] | None, counts: NDArray[Any] | None) -> Histogram | None:
    if codes is None or counts is None:
        return None
    return Histogram(codes.astype(np.uint16), counts.astype(np.int64))


def _summaries(arrays: Mapping[str, NDArray[Any]]) -> Iterator[TensorSummary]:
    ends = {name: np.cumsum(np.maximum(arrays[f"{name}_sizes"], 0)) for name in (*_VECTORS, *_FARTHEST)}
    for index, text in enumerate(arrays["tensors"]):
        vectors: dict[str, Any] = {}
        for name in _VECTORS:
            size, end = int(arrays[f"{name}_sizes"][index]), int(ends[name][index])
            if end > len(arrays[name]):
                raise ValueError(f"{name} is too short")
            vectors[name] = None if size < 0 else arrays[name][end - size : end]
        histogram = _histogram(vectors.pop("codes"), vectors.pop("counts"))
        uncounted = _histogram(vectors.pop("uncounted_codes"), vectors.pop("uncounted_counts"))
        scalars = {name: arrays[name][index].item() for name in _SCALARS}
        names = {name: str(arrays[name][index]) for name in _NAMES}
        farthest: dict[str, Any] = {}
        for name in _FARTHEST:
            some = slice(int(ends[name][index] - arrays[f"{name}_sizes"][index]), int(ends[name][index]))
            pairs = zip(arrays[f"{name}_ids"][some].tolist(), arrays[name][some].tolist(), strict=True)
            farthest[name] = tuple(pairs)
        tensor = TensorId.parse(str(text))
        known = {"tensor": tensor, "histogram": histogram, "uncounted": uncounted}
        yield TensorSummary(**known, **scalars, **names, **farthest, **vectors)
