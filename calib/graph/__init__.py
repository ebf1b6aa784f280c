"""Analyses a floating-point network, plans where it is quantized, and builds the networks that run.

Beside ``loading`` the only package that builds nodes or edits those of a model. What reads and writes files belongs in
``loading``, and what chooses numbers (ranges, weights, biases) in ``ranges`` and ``corrections``.
"""
