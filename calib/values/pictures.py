"""Pictures of samples that two models see differently."""

from __future__ import annotations

from pydantic import Field

from calib.values.frozen import Frozen

FOLDER = "pictures"  # beside the report


class PictureFacts(Frozen):
    """One sample, with what both models found in it."""

    file: str = Field(description="Path of the picture relative to the report, with /")
    sample: str = Field(description="Name of the sample")
    change: str = Field(description="How much changed from the first model to the second, in words")
    target: str = Field(default="", description="Target of the sample; empty without one")
    before: list[str] = Field(default=[], description="What the first model found, one line each")
    after: list[str] = Field(default=[], description="What the second model found, one line each")
