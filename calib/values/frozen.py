"""Base class of what calib finds and writes as JSON, and the version of these documents."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

SCHEMA_VERSION = 2


class Frozen(BaseModel):
    """Base class of all facts."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
