"""What ``calib doctor`` found: the content of its JSON."""

from __future__ import annotations

from pydantic import Field

from calib.values.frozen import SCHEMA_VERSION, Frozen


class Doctor(Frozen):
    """What this machine can run, and what that means for models calibrated on it."""

    schema_version: int = Field(default=SCHEMA_VERSION, description="Version of this schema")
    calib_version: str = Field(description="Version of calib that made this")
    versions: dict[str, str] = Field(description="Mapping from package to its version")
    cpu: str = Field(description="Name of the CPU")
    features: dict[str, bool] = Field(description="Mapping from CPU feature to whether this machine has it")
    capabilities: list[str] = Field(default=[], description="Capabilities of the CPU device as OpenVINO lists them")
    limit: str = Field(default="", description="Value of ONEDNN_MAX_CPU_ISA in this process")
    cores: int = Field(description="Number of cores that this process may use")
    threads: int = Field(description="Number of threads that OpenVINO uses for one inference by default")
    memory: int = Field(description="Memory of this machine in bytes")
    default_precision: str = Field(description="Precision that OpenVINO chooses by itself on this machine")
    exact_int8: bool = Field(description="Whether sums of INT8 products are exact with full 8-bit weights")
    extras: dict[str, dict[str, str]] = Field(
        description="Mapping from extra to package to version; the version is empty if it is not installed"
    )
    missing: dict[str, list[str]] = Field(
        default={}, description="Mapping from an incomplete extra to what pip has to install for it, such as jiwer>=3.0"
    )
    advice: list[str] = Field(
        default=[], description="Whether results of this machine hold on others, one sentence each"
    )
