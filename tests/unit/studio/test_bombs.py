from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calib.errors import DataError, UsageError
from calib.samples.open import InputSpec, open_dataset
from calib.studio import bombs
from calib.studio.allowed import Allowed


def test_arrays_in_the_folder_that_would_fill_the_memory_are_refused_and_masks_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bombs, "FREE_GROWTH_THERE", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", samples=np.zeros(2 << 20, np.uint8))
    masks = np.arange(2 << 20, dtype=np.uint32) // 512 % 3
    np.savez_compressed(tmp_path / "masks.npz", samples=masks.astype(np.uint8))
    with zipfile.ZipFile(tmp_path / "masks.npz") as archive:
        assert archive.infolist()[0].file_size > bombs.MOST_GROWTH * archive.infolist()[0].compress_size
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    allowed = Allowed(tmp_path)
    with pytest.raises(UsageError, match=r"bomb\.npz.* would become 2,097,"):
        allowed.data("bomb.npz")
    assert allowed.data("masks.npz") and allowed.data("broken.npz")  # the engine says what is wrong with it


def test_an_image_in_the_folder_with_too_many_pixels_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    Image.new("1", (40, 40)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    dataset = open_dataset(str(tmp_path), inputs=[InputSpec("x", ("x",), (1, 3, 4, 4), np.dtype(np.float32))])
    with pytest.raises(DataError, match="decompression bomb, refused"):
        list(dataset)
