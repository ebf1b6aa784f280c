"""Pictures of samples that two models see differently."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from calib.values.frozen import Frozen

FOLDER = "pictures"  # beside the report
SHOWN = 6  # in a report


class PictureFacts(Frozen):
    """One sample, with what both models found in it."""

    file: str = Field(description="Path of the picture relative to the report, with /")
    sample: str = Field(description="Name of the sample: where it is from")
    id: str = Field(default="", description="Id of the sample, as in ``changed``")
    change: str = Field(description="How much changed from the first model to the second, in words")
    target: str = Field(default="", description="Target of the sample; empty without one")
    before: list[str] = Field(default=[], description="What the first model found, one line each")
    after: list[str] = Field(default=[], description="What the second model found, one line each")


class ChangedFacts(Frozen):
    """How the samples changed from FP32 to INT8 by the metric, one by one."""

    metric: str = Field(description="Name of the metric, the first of several")
    samples: int = Field(description="Number of samples that both models were measured on")
    right_or_wrong: bool = Field(description="Whether a sample is either right or wrong by this metric")
    worse: int = Field(
        description="Samples that FP32 got right and INT8 wrong; of other metrics, those with a worse score"
    )
    better: int = Field(description="Samples that changed the other way")
    names: list[str] = Field(default=[], description="Ids of the samples that got worse, the most first, at most 200")

    @property
    def sentence(self) -> str:
        """What changed in a sentence."""
        if self.right_or_wrong:
            return (
                f"Of {self.samples:,} samples INT8 gets {self.worse:,} wrong that FP32 got right, "
                f"and {self.better:,} right that FP32 got wrong."
            )
        worse, better = f"{self.worse:,} have a worse {self.metric} in INT8", f"{self.better:,} a better one"
        return f"Of {self.samples:,} samples {worse}, {better}."


@dataclass(frozen=True)
class Drawn:
    """What is said of single samples.

    Attributes:
        pictures: Pictures of those that changed most.
        note: Why there is none.
        changed: How many changed, and which got worse; None if that is not known.
    """

    pictures: tuple[PictureFacts, ...] = ()
    note: str = ""
    changed: ChangedFacts | None = None
