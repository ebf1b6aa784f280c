"""The settings of how images become the input of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from calib.config.types import Channels, Checked, Side, Size, lower_case

if TYPE_CHECKING:
    from calib.samples.preprocess import Preprocess

# How images become inputs, in a file of settings; each line is explained by the key's description below.
EXAMPLE = """\
preprocessing:
  resize: [224, 224]            # height, width
  color: bgr                    # rgb unless given
  mean: [123.7, 116.3, 103.5]   # in the order of color, on the scale 0 to 255
  scale: [58.4, 57.1, 57.4]     # input = (pixel − mean) / scale
  layout: NCHW                  # read from the input's shape unless given
"""


class Preprocessing(Checked):
    """How an image becomes the model's input.

    The steps in their order: colour, resize_short or resize_long, resize or letterbox, crop, pad, (x − mean) / scale,
    layout.
    """

    layout: Literal["NCHW", "NHWC"] | None = Field(
        default=None, description="Layout of the model's input; read from its shape unless given"
    )
    color: Annotated[Literal["rgb", "bgr", "gray"], BeforeValidator(lower_case)] | None = Field(
        default=None,
        description="Order of the colour channels in the model's input; rgb unless given, or gray for one channel",
    )
    resize_short: Side | None = Field(
        default=None,
        description="Length of the shorter side after a resize that keeps the aspect ratio; done before resize",
    )
    resize: Size | None = Field(
        default=None, description="Size to resize to, as [height, width] or one number for both"
    )
    resize_long: Side | None = Field(
        default=None,
        description="Length of the longer side after a resize that keeps the aspect ratio; padded to the input's size",
    )
    letterbox: Size | None = Field(
        default=None,
        description="Size to fill, as [height, width] or one number: the image is resized to fit inside, keeping its "
        "aspect ratio, and the rest is padded",
    )
    crop: Size | None = Field(
        default=None,
        description="Size of the centre crop taken after resizing, as [height, width] or one number for both",
    )
    pad: Size | None = Field(
        default=None, description="Size to pad to after the other steps, as [height, width] or one number for both"
    )
    pad_value: Channels = Field(
        default=(114,), description="Value of padded pixels, 0 to 255, one number or one per channel as in color"
    )
    pad_position: Annotated[Literal["center", "corner"], BeforeValidator(lower_case)] = Field(
        default="center", description="Place of the image in the padding; corner is the top left one"
    )
    filter: Annotated[Literal["nearest", "bilinear", "bicubic", "lanczos"], BeforeValidator(lower_case)] = Field(
        default="bilinear", description="Resampling filter, as in Pillow, with antialiasing"
    )
    mean: Channels | None = Field(
        default=None,
        description="Mean to subtract from pixel values of 0 to 255, one number per channel in the order of color",
    )
    scale: Channels | None = Field(
        default=None, description="Divisor applied after mean, one number per channel; torchvision's std times 255"
    )
    embed: bool = Field(default=False, description="Whether mean and scale become part of the written model")

    @field_validator("scale")
    @classmethod
    def _scale_is_not_zero(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value and 0 in value:
            raise ValueError("must not be 0: values are divided by it")
        return value

    def given(self) -> dict[str, Any]:
        """Return the fields that were given, in declared order, without those left at their default."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def on_host(self) -> Preprocess:
        """Return the preprocessing that samples need to turn an image into a feed; ``embed`` is not part of it."""
        from calib.samples.preprocess import Preprocess  # here: it loads numpy

        return Preprocess(**self.model_dump(exclude={"embed"}))
