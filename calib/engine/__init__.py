"""The steps of a run, in the order of ``calib/pipeline.py``: the modules that join the other packages.

Steps that need a model, samples and settings at once belong here. Maths belongs in ``ranges``, ``accuracy`` and the
``*_core`` modules of ``corrections``, edits of a model in ``graph``, and pages and terminal output in ``report``.
"""
