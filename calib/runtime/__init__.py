"""Compile, run and time models, and look up what the CPU plug-in executed.

``session`` is the one door to OpenVINO: every other module takes ``ov`` from it. What belongs here takes a model as it
is; edits of a model belong in ``graph`` and ``loading``, and decisions about one in ``engine``.
"""
