"""Collect statistics of activations over the calibration samples, and keep them in files.

What belongs here adds up what an instrumented model gives out, in any order of the samples to the same bits. How a
model is instrumented belongs in ``graph`` (taps), and what range follows from the statistics in ``ranges``.
"""
