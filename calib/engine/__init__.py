"""What one run does, step by step: the modules that join the other packages, in the order of ``calib/pipeline.py``.

Here belong steps that need a model, samples and settings at once. Maths belongs in ``ranges``, ``accuracy`` and the
``*_core`` modules of ``corrections``; edits of a model in ``graph``; what a page or a terminal shows in ``report``.
"""
