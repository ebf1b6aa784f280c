"""calib: INT8 calibration of OpenVINO IR under an accuracy budget."""

__version__ = "0.1.0"
