"""The version of calib."""

__version__ = "0.1.0"
