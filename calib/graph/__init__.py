"""Analyse a floating-point network, plan where it is quantized, and build the networks that run.

This and ``loading`` are the only packages that build or edit nodes of a model. Reading and writing files belongs in
``loading``, choosing numbers (ranges, weights, biases) in ``ranges`` and ``corrections``.
"""
