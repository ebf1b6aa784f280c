"""Collect statistics of activations over the calibration samples, and keep them in files."""
